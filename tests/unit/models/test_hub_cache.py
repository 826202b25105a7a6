"""Hub cache: which snapshot is the model's, and what stopped on its way."""

import os
from pathlib import Path

import pytest

from perfgate.models import hub_cache


@pytest.fixture
def model(tmp_path, monkeypatch):
    """The folder of a model in an empty cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    return tmp_path / "models--owner--name"


def snapshot(model, name, age_s):
    """A snapshot of that age."""
    path = model / "snapshots" / name
    path.mkdir(parents=True)
    os.utime(path, (1e9 - age_s, 1e9 - age_s))
    return path


def test_the_revision_of_main_counts(model):
    """A newer snapshot of another revision is not taken for it."""
    main = snapshot(model, "aaaa", 100)
    other = snapshot(model, "bbbb", 0)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("aaaa\n")

    found = hub_cache.find("owner/name")

    assert (main, (other,)) == (found.snapshot, found.others)


def test_a_revision_without_snapshot_is_missing(model):
    """The branch moved on, and its files were not downloaded: another revision is no answer."""
    other = snapshot(model, "bbbb", 0)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("cccc")

    found = hub_cache.find("owner/name")

    assert (None, (other,)) == (found.snapshot, found.others)


def test_without_main_the_newest_counts(model):
    """A download of a revision by its name notes no branch."""
    snapshot(model, "aaaa", 100)
    newest = snapshot(model, "bbbb", 0)

    assert newest == hub_cache.find("owner/name").snapshot


def test_stopped_downloads_are_named(model):
    """Blobs that end in .incomplete are told with their bytes."""
    (model / "blobs").mkdir(parents=True)
    (model / "blobs" / "abc.incomplete").write_bytes(b"1234")
    (model / "blobs" / "def").write_bytes(b"12")

    assert (("abc.incomplete", 4),) == hub_cache.find("owner/name").unfinished


def test_nothing_is_there(model):
    """A cache that knows nothing of the model is no error."""
    found = hub_cache.find("owner/name")

    assert (model, None, (), ()) == (
        found.folder,
        found.snapshot,
        found.others,
        found.unfinished,
    )


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/a"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/e", "HF_HOME": "/b"}, "/e"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"HF_HUB_CACHE": "~/a", "HOME": "/d"}, "/d/a"),
        ({"HF_HUB_CACHE": "$SCRATCH/a", "SCRATCH": "/s"}, "/s/a"),
        ({"HF_HOME": "~/b", "HOME": "/d"}, "/d/b/hub"),
        ({"XDG_CACHE_HOME": "~/c", "HOME": "/d"}, "/d/c/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HOME": "/d"}, "/d/.cache/huggingface/hub"),
    ],
)
def test_variables_name_the_cache(monkeypatch, variables, expected):
    """As huggingface_hub reads them, the first one that is set."""
    for name in (
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_HOME",
        "XDG_CACHE_HOME",
        "HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert Path(expected) == hub_cache.cache_dir()
