"""Weights: found, made, or refused."""

import json
import sys

import pytest

from perfgate.models import weights
from perfgate.models.catalogue import CATALOGUE
from perfgate.models.headers import BrokenFile
from perfgate.models.weights import MissingWeights, WrongWeights, locate
from tests.support.checkpoints import hollow, quiet, shards_of

LLAMA = CATALOGUE["llama-3.1-8b"]


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A whole snapshot of Llama in a hub cache; refs/main names it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv(weights.variable(LLAMA.name), raising=False)
    model = tmp_path / f"models--{LLAMA.hub_id.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("aaaa")
    return hollow(LLAMA, model / "snapshots" / "aaaa")


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


def test_cached_weights_are_found(cached):
    """A complete snapshot in the hub's cache is used, offline."""
    found = locate(LLAMA, "auto", {}, False, quiet)

    assert (str(cached), True) == (found.path, found.offline)


def test_cached_weights_of_another_model_are_refused(cached):
    """What lies under the hub's name may have been cut or trained to another shape since."""
    hollow(CATALOGUE["llama-small"], cached)

    with pytest.raises(WrongWeights, match="hidden_size"):
        locate(LLAMA, "auto", {}, False, quiet)


def test_a_half_downloaded_model_is_missing(cached):
    """The message counts the shards and what stopped; a download resumes, online."""
    for number in range(1, 33):
        (cached / f"model-{number:05d}.safetensors").unlink()
    blobs = cached.parent.parent / "blobs"
    blobs.mkdir()
    (blobs / "abc.incomplete").write_bytes(bytes(10**8))

    with pytest.raises(MissingWeights) as error:
        locate(LLAMA, "auto", {}, False, quiet)
    assert "1 of 33 shards is here; 32 missing" in error.value.seen
    assert "1 download stopped before the end (0.1 GB" in error.value.seen
    assert "--allow-download, which resumes" in error.value.remedy
    found = locate(LLAMA, "auto", {}, True, quiet)
    assert (LLAMA.hub_id, False) == (found.path, found.offline)


@pytest.mark.parametrize("lost", ["config.json", "tokenizer"])
def test_a_snapshot_without_its_small_files_is_missing(cached, lost):
    """A download that began with the weights is no model yet."""
    for path in cached.glob(f"{lost}*"):
        path.unlink()

    with pytest.raises(MissingWeights, match=lost):
        locate(LLAMA, "auto", {}, False, quiet)
    assert not locate(LLAMA, "auto", {}, True, quiet).offline


def test_another_revision_is_not_taken(cached):
    """Main moved on: the snapshot of the old revision is named, and not served."""
    (cached.parent.parent / "refs" / "main").write_text("bbbb")

    with pytest.raises(MissingWeights, match="revisions are not taken: aaaa"):
        locate(LLAMA, "auto", {}, False, quiet)


def test_a_cut_file_is_refused_whatever_was_agreed_to(cached):
    """The hub's client takes a file of the right name for whole and would not mend it."""
    with (cached / "model-00007.safetensors").open("r+b") as file:
        file.truncate(10**6)

    with pytest.raises(BrokenFile, match=r"model-00007.*\n.*cut short"):
        locate(LLAMA, "auto", {}, True, quiet)


def engine_that_lists(tmp_path, shapes):
    """A Python that answers with these tensors."""
    script = tmp_path / "python"
    script.write_text(
        f"#!{sys.executable}\nprint({json.dumps(json.dumps(shapes))})\n"
    )
    script.chmod(0o755)
    return script


def test_the_engine_compares_every_shape(cached, tmp_path):
    """What the arithmetic cannot tell, the engine's list does."""
    shapes = {}
    for shard in shards_of(LLAMA):
        shapes |= shard
    python = engine_that_lists(tmp_path, shapes)
    assert locate(LLAMA, "auto", {}, False, quiet, python).offline

    weights._listed.cache_clear()
    shapes["model.layers.3.mlp.up_proj.weight"] = (4096, 14336)
    python = engine_that_lists(tmp_path, shapes)
    with pytest.raises(WrongWeights, match=r"layers\.3\.mlp\.up_proj"):
        locate(LLAMA, "auto", {}, False, quiet, python)


def test_an_engine_that_lists_nothing_is_told(cached, tmp_path):
    """The check that could not be made is said, and the model is served."""
    told = []
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such family >&2; exit 1\n")
    python.chmod(0o755)

    found = locate(LLAMA, "auto", {}, False, told.append, python)

    assert found.offline
    assert "no such family" in told[0]


def test_a_named_folder_needs_weights_unless_they_are_dummy(tmp_path):
    """A config.json and a tokenizer suffice for dummy weights alone."""
    folder = hollow(LLAMA, tmp_path / "m")
    for path in folder.glob("model*"):
        path.unlink()
    chosen = {LLAMA.name: str(folder)}

    assert str(folder) == locate(LLAMA, "dummy", chosen, False, quiet).path
    with pytest.raises(MissingWeights, match="--weights dummy"):
        locate(LLAMA, "auto", chosen, False, quiet)


def test_dummy_weights_need_a_shell_only(tmp_path, monkeypatch):
    """With dummy weights a config.json and a tokenizer suffice, and are made."""
    monkeypatch.setenv("PERFGATE_MODELS_DIR", str(tmp_path))

    found = locate(LLAMA, "dummy", {}, False, quiet)

    vocabulary = json.loads(
        (tmp_path / "llama-3.1-8b-dummy" / "tokenizer.json").read_text()
    )["model"]["vocab"]
    assert str(tmp_path / "llama-3.1-8b-dummy") == found.path
    assert 128256 == len(vocabulary)


def test_missing_folder_is_named(tmp_path):
    """A folder that is named and is not there is an error that names it."""
    with pytest.raises(MissingWeights, match="nowhere"):
        locate(
            LLAMA,
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
        locate(LLAMA, "auto", {"llama-3.1-8b": str(tmp_path)}, False, quiet)
