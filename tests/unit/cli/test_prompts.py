"""`perfgate prompts`: a small file of the prompts that sessions send."""

import json

import pytest

from perfgate.cli.prompts import prompts
from perfgate.errors import Failure
from perfgate.load.frozen import read_frozen


@pytest.fixture
def chats(tmp_path):
    """A file of twenty conversations."""
    turns = [{"value": "one two three four"}, {"value": "five six seven eight"}]
    path = tmp_path / "chats.json"
    path.write_text(json.dumps([{"conversations": turns}] * 20))
    return path


def test_prompts_are_drawn(call, chats, tmp_path):
    """With the option that sends them."""
    out = tmp_path / "drawn.jsonl"
    done = call(prompts, chats, "--name", "chats", "--out", out)

    assert 0 == done.exit_code, done.output
    assert f"--dataset chats={out}" in done.output
    assert "20 usable prompts" in done.output
    assert "chats.json" == read_frozen(out).file


def test_a_cut_off_file_needs_consent(call, chats, tmp_path):
    """The failure counts the whole conversations."""
    chats.write_bytes(chats.read_bytes()[:-20])
    out = tmp_path / "drawn.jsonl"

    done = call(prompts, chats, "--out", out)
    assert isinstance(done.exception, Failure)
    assert "19 whole conversations" in str(done.exception)
    assert not out.exists()
    done = call(prompts, chats, "--out", out, "--allow-truncated-dataset")
    assert 0 == done.exit_code, done.output
    assert "cut off" in done.output


def test_another_ending_is_refused(call, chats, tmp_path):
    """By the ending a session knows what it was given."""
    done = call(prompts, chats, "--out", tmp_path / "drawn.json")

    assert 2 == done.exit_code
    assert ".jsonl" in done.output
