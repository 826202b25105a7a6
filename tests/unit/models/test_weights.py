"""Weights: found, made, or refused."""

import json

import msgspec
import pytest
from safetensors import safe_open

from perfgate.models import weights
from perfgate.models.catalogue import CATALOGUE, Model, config_json
from perfgate.models.weights import (
    MissingWeights,
    WrongWeights,
    locate,
    make,
    make_shell,
)

TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
}


def tiny(base):
    """A model of a few thousand parameters in the shape of a small one."""
    model = CATALOGUE[base]
    return Model(
        name=f"tiny-{base}",
        architecture=msgspec.structs.replace(model.architecture, **TINY),
    )


def quiet(text):
    """No progress."""


@pytest.mark.parametrize("base", ["mixtral-small", "llama-small"])
def test_every_parameter_is_written(tmp_path, base):
    """The files hold as many numbers as the arithmetic counts, and the index names each tensor."""
    model = tiny(base)
    folder = make(model, tmp_path / "m", quiet)
    count = 0
    names = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                names.add(name)
                count += tensors.get_tensor(name).size

    assert model.architecture.parameters == count
    assert names == set(
        json.loads((folder / "model.safetensors.index.json").read_text())[
            "weight_map"
        ]
    )


def test_weights_are_reproducible(tmp_path):
    """The same seed gives the same bytes, another one others."""
    model = tiny("llama-small")
    first, second = (make(model, tmp_path / name, quiet) for name in "ab")
    other = make(model, tmp_path / "c", quiet, seed=1)

    file = "model-00001.safetensors"
    assert (first / file).read_bytes() == (second / file).read_bytes()
    assert (first / file).read_bytes() != (other / file).read_bytes()


def test_layers_differ(tmp_path):
    """No two layers have the same router, or routing could not be told apart."""
    folder = make(tiny("mixtral-small"), tmp_path / "m", quiet)
    gates = []
    for layer in (0, 1):
        with safe_open(
            folder / f"model-{layer + 1:05d}.safetensors", framework="numpy"
        ) as tensors:
            gates.append(
                tensors.get_tensor(
                    f"model.layers.{layer}.block_sparse_moe.gate.weight"
                )
            )

    assert (gates[0] != gates[1]).any()


def test_made_once(tmp_path):
    """A folder made with the same recipe is kept; a half-made one is made again."""
    told = []
    model = tiny("llama-small")
    folder = make(model, tmp_path / "m", told.append)
    make(model, folder, told.append)
    (folder / "perfgate.json").unlink()
    make(model, folder, told.append)

    assert 2 == len(told)


def test_missing_weights_say_size_and_remedy(tmp_path, monkeypatch):
    """Missing weights are announced with their size and the free space.

    They are not downloaded without consent.
    """
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv(weights.variable("mixtral-8x7b"), raising=False)
    model = CATALOGUE["mixtral-8x7b"]

    with pytest.raises(
        MissingWeights, match=r"93\.4 GB, and \d+ GB are free"
    ) as error:
        locate(model, "auto", {}, False, quiet)
    assert "--allow-download" in error.value.remedy
    assert (model.hub_id, False) == tuple(
        vars(locate(model, "auto", {}, True, quiet)).values()
    )


def test_cached_weights_are_found(tmp_path, monkeypatch):
    """A complete snapshot in the hub's cache is used, offline."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = (
        tmp_path
        / "models--meta-llama--Llama-3.1-8B-Instruct"
        / "snapshots"
        / "abc"
    )
    snapshot.mkdir(parents=True)
    make_shell(CATALOGUE["llama-3.1-8b"], snapshot)
    (snapshot / "model-1.safetensors").touch()

    found = locate(CATALOGUE["llama-3.1-8b"], "auto", {}, False, quiet)

    assert (str(snapshot), True) == (found.path, found.offline)


def test_cached_weights_of_another_model_are_refused(tmp_path, monkeypatch):
    """What lies under the hub's name may have been cut or trained to another shape since."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = (
        tmp_path
        / "models--meta-llama--Llama-3.1-8B-Instruct"
        / "snapshots"
        / "abc"
    )
    make_shell(CATALOGUE["llama-small"], snapshot)
    (snapshot / "model-1.safetensors").touch()

    with pytest.raises(WrongWeights, match="hidden_size"):
        locate(CATALOGUE["llama-3.1-8b"], "auto", {}, False, quiet)


def test_dummy_weights_need_a_shell_only(tmp_path, monkeypatch):
    """With dummy weights a config.json and a tokenizer suffice, and are made."""
    monkeypatch.setenv("PERFGATE_MODELS_DIR", str(tmp_path))

    found = locate(CATALOGUE["llama-3.1-8b"], "dummy", {}, False, quiet)

    vocabulary = json.loads(
        (tmp_path / "llama-3.1-8b-dummy" / "tokenizer.json").read_text()
    )["model"]["vocab"]
    assert str(tmp_path / "llama-3.1-8b-dummy") == found.path
    assert 128256 == len(vocabulary)


def test_missing_folder_is_named(tmp_path):
    """A folder that is named and is not there is an error that names it."""
    with pytest.raises(MissingWeights, match="nowhere"):
        locate(
            CATALOGUE["llama-3.1-8b"],
            "auto",
            {"llama-3.1-8b": str(tmp_path / "nowhere")},
            False,
            quiet,
        )


def test_another_models_folder_is_refused(tmp_path):
    """A folder that holds another model is refused, with the fields that differ."""
    (tmp_path / "config.json").write_text(
        json.dumps(config_json(CATALOGUE["llama-small"].architecture))
    )

    with pytest.raises(WrongWeights, match="hidden_size is 1024, not 4096"):
        locate(
            CATALOGUE["llama-3.1-8b"],
            "auto",
            {"llama-3.1-8b": str(tmp_path)},
            False,
            quiet,
        )
