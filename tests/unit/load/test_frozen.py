"""Frozen prompts: drawn once, the same on every machine, and of a known origin."""

import json

import msgspec
import pytest

from perfgate import locations
from perfgate.load import frozen as module
from perfgate.load.frozen import freeze, frozen, read_frozen
from perfgate.load.prompt_text import UnusableWorkload
from perfgate.load.prompts import WORDS, ShareGPT, load, word_ids
from perfgate.load.workload import Workload, build_requests

VOCABULARY = 500


@pytest.fixture
def spec(tmp_path):
    """A data set of 60 conversations, each of another length, whose words are counted."""
    entries = []
    for number in range(60):
        question = " ".join(f"q{number}w{place}" for place in range(5 + number))
        turns = [{"value": question}, {"value": "word " * (4 + number)}]
        entries.append({"conversations": turns})
    path = tmp_path / "chats.json"
    path.write_text(json.dumps(entries))
    return ShareGPT(path=str(path), tokenizer=WORDS)


@pytest.fixture
def drawn(spec, tmp_path):
    """The same in a file."""
    return freeze("chats", spec, tmp_path / "drawn.jsonl")


def workload(prompts, **fields):
    """Eight of them at once."""
    return Workload(name="w", prompts=prompts, num_prompts=8, **fields)


def test_prompts_are_those_of_the_data_set(spec, drawn):
    """In the order in which the data set itself would be sent, folded into the vocabulary."""
    for repetition in (0, 1, -1, -2):
        expected = build_requests(workload(spec), repetition, VOCABULARY)
        sent = build_requests(workload(drawn), repetition, VOCABULARY)
        for one, other in zip(expected, sent, strict=True):
            ids = [3 + i % (VOCABULARY - 3) for i in one.prompt_token_ids]
            assert tuple(ids) == other.prompt_token_ids
            assert one.output_len_tokens == other.output_len_tokens


def test_no_two_repetitions_share_a_prompt(drawn):
    """An engine might answer the later one out of its cache."""
    sent = set()
    for repetition in (0, 1, 2, -1, -2, -3):
        for request in build_requests(workload(drawn), repetition, VOCABULARY):
            sent.add(request.prompt_token_ids)

    assert 48 == len(sent)


def test_only_first_and_last_prompts_are_kept(spec, tmp_path, monkeypatch):
    """The file stays small; what it lacks is said."""
    monkeypatch.setattr(module, "KEPT_FIRST", 16)
    monkeypatch.setattr(module, "KEPT_LAST", 8)
    kept = freeze("chats", spec, tmp_path / "small.jsonl")

    lines = (tmp_path / "small.jsonl").read_text().splitlines()
    assert 1 + 16 + 8 == len(lines)
    for repetition in (0, 1, -1):
        assert build_requests(workload(kept), repetition, VOCABULARY)
    for repetition in (2, -2, 30):
        with pytest.raises(UnusableWorkload, match="of which 24 are kept"):
            build_requests(workload(kept), repetition, VOCABULARY)


def test_identity_needs_no_file(drawn, tmp_path):
    """A run is judged on machines that have neither the data set nor the prompts."""
    fingerprint = workload(drawn).fingerprint()
    elsewhere = msgspec.structs.replace(drawn, path="/not/here.jsonl")
    (tmp_path / "drawn.jsonl").unlink()

    assert fingerprint == workload(elsewhere).fingerprint()
    for changed in (
        workload(msgspec.structs.replace(drawn, sha256="0" * 64)),
        workload(drawn, max_concurrency=2),
    ):
        assert fingerprint != changed.fingerprint()


def test_what_decides_the_prompts_is_the_identity(spec, drawn, tmp_path):
    """The data set's content, its filter and the seed; not its name."""
    moved = tmp_path / "moved.json"
    moved.write_bytes((tmp_path / "chats.json").read_bytes())
    path = tmp_path / "again.jsonl"
    same = msgspec.structs.replace(spec, path=str(moved))
    assert drawn.sha256 == freeze("chats", same, path).sha256

    filtered = msgspec.structs.replace(spec, length_filter="sglang")
    assert drawn.sha256 != freeze("chats", filtered, path).sha256
    assert drawn.sha256 != freeze("chats", spec, path, seed=1).sha256
    moved.write_text((tmp_path / "chats.json").read_text() + "\n")
    load.cache_clear()
    assert drawn.sha256 != freeze("chats", same, path).sha256


def test_a_data_set_is_drawn_once(spec, tmp_path, monkeypatch):
    """Later sessions take what an earlier one drew."""
    locations.use(locations.default_locations(tmp_path))
    first = frozen("chats", spec)

    def forbidden(*_):
        raise AssertionError("it was read again")

    monkeypatch.setattr(module, "load", forbidden)
    assert first == frozen("chats", spec)
    assert first == read_frozen(tmp_path / ".prompts" / _name(first))


def test_a_project_that_cannot_be_written_is_left_alone(
    spec, tmp_path, monkeypatch
):
    """As in an image that is mounted read-only; root could write nevertheless."""
    locations.use(locations.default_locations(tmp_path))
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    monkeypatch.setattr(
        module.tempfile, "gettempdir", lambda: str(tmp_path / "elsewhere")
    )

    assert str(tmp_path / "elsewhere") in frozen("chats", spec).path
    assert not (tmp_path / ".prompts").exists()


def _name(found):
    return f"chats-{found.sha256[:16]}.jsonl"


def test_a_cut_off_file_is_told(spec, tmp_path):
    """In the description, which reports show."""
    path = tmp_path / "chats.json"
    path.write_bytes(path.read_bytes()[:-40])
    load.cache_clear()
    allowed = msgspec.structs.replace(spec, allow_truncated=True)
    cut = freeze("chats", allowed, tmp_path / "cut.jsonl")

    assert "chats from chats.json, 59 usable prompts (cut off: 59" in cut.source


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"a": 1}\n{"b": 2}'])
def test_another_file_is_refused(tmp_path, content):
    """With the command that makes one."""
    path = tmp_path / "other.jsonl"
    path.write_text(content)

    with pytest.raises(UnusableWorkload) as caught:
        read_frozen(path)
    assert str(path) in caught.value.tried
    assert "perfgate prompts" in caught.value.remedy


def test_prompts_of_another_data_set_in_its_place_are_refused(spec, drawn):
    """What is sent must be what was declared."""
    changed = msgspec.structs.replace(drawn, sha256="0" * 64)

    with pytest.raises(UnusableWorkload, match="it holds others"):
        build_requests(workload(changed), 0, VOCABULARY)


def test_ids_beyond_the_vocabulary_are_refused(tmp_path):
    """They were drawn with the tokenizer of another model."""
    origin = module.Origin(
        dataset="chats",
        file="chats.json",
        file_sha256="a",
        tokenizer_sha256="b",
        length_filter="vllm",
        seed=0,
        usable=8,
        left_out={},
    )
    lines = [msgspec.json.encode(origin)]
    for position in range(8):
        row = {
            "position": position,
            "prompt_token_ids": [5, 600],
            "output_len_tokens": 4,
        }
        lines.append(msgspec.json.encode(row))
    path = tmp_path / "big.jsonl"
    path.write_bytes(b"\n".join(lines))

    with pytest.raises(UnusableWorkload, match="token id 600"):
        build_requests(workload(read_frozen(path)), 0, VOCABULARY)
    assert build_requests(workload(read_frozen(path)), 0, 1000)


def test_words_and_signs_are_counted():
    """The same word has the same id wherever it stands."""
    ids = word_ids("No, no! No")

    assert 5 == len(ids)
    assert ids[0] == ids[4]
    assert ids[0] != ids[2]
