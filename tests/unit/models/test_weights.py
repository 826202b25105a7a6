"""Weights: found, made, or refused."""

import json

import pytest

from perfgate.models import weights
from perfgate.models.catalogue import CATALOGUE
from perfgate.models.made import make_shell
from perfgate.models.weights import MissingWeights, WrongWeights, locate


def quiet(text):
    """No progress."""


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
        json.dumps(CATALOGUE["llama-small"].config)
    )

    with pytest.raises(WrongWeights, match="hidden_size is 1024, not 4096"):
        locate(
            CATALOGUE["llama-3.1-8b"],
            "auto",
            {"llama-3.1-8b": str(tmp_path)},
            False,
            quiet,
        )
