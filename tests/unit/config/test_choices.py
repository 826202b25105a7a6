"""Do options and the project file come to what was meant?"""

import argparse

import pytest
from perfgate.config.choices import BadOption

from perfgate.config import choices
from perfgate.config.project import read_project
from perfgate.results.schema import save
from tests.support import builders as m


def test_a_run_is_named_or_lies_in_the_store(tmp_path):
    """A folder made for the run gives its name; one that the user named does not."""
    project = read_project(tmp_path)
    named = argparse.Namespace(run_dir=str(tmp_path / "mine"))
    unnamed = argparse.Namespace(run_dir=None)
    made = choices.run_dir(unnamed, project)

    assert tmp_path / "mine" == choices.run_dir(named, project)
    assert project.locations.runs == made.parent
    assert made.name == choices.run_id(unnamed, made)
    assert "mine" != choices.run_id(named, tmp_path / "mine")


def test_a_run_is_not_written_over(tmp_path):
    """A folder that holds one is taken only to go on with it."""
    choices.refuse_taken(tmp_path, resume=False)
    results = save(m.bare_run(), tmp_path)

    with pytest.raises(BadOption, match="it holds a run already"):
        choices.refuse_taken(tmp_path, resume=False)
    choices.refuse_taken(tmp_path, resume=True)
    results.rename(tmp_path / "results.json.gz")
    with pytest.raises(BadOption, match="gunzip"):
        choices.refuse_taken(tmp_path, resume=True)


def test_pairs_are_read():
    """The last of a name counts; a value may hold an equals sign."""
    texts = ["a=x", "b=1=2", "a=y"]

    assert {"a": "y", "b": "1=2"} == choices.pairs("--model-dir", texts)


@pytest.mark.parametrize("text", ["a", "=x", "a=", ""])
def test_what_is_no_pair_is_refused(text):
    """With the form that it should have."""
    with pytest.raises(BadOption, match="write --model-dir NAME=VALUE"):
        choices.pairs("--model-dir", [text])
