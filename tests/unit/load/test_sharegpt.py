"""Files that were cut off: told as such, and used only where the user says so."""

import json

import pytest

from perfgate.load.prompt_text import UnusableWorkload
from perfgate.load.sharegpt import read_conversations

ENTRIES = []
for number in range(4):
    turns = [
        {"from": "human", "value": f'question "{number}", größer?'},
        {"from": "gpt", "value": "an answer \\ with signs ]"},
    ]
    ENTRIES.append({"id": str(number), "conversations": turns})
WHOLE = json.dumps(ENTRIES, ensure_ascii=False).encode()
FIRST_TWO = len(json.dumps(ENTRIES[:2], ensure_ascii=False).encode())


def written(folder, data):
    """A file of these bytes."""
    path = folder / "conversations.json"
    path.write_bytes(data)
    return str(path)


def test_a_whole_file_has_no_cut(tmp_path):
    """All of its entries, and nothing to say."""
    found = read_conversations(written(tmp_path, WHOLE))

    assert ENTRIES == found.entries
    assert found.cut is None


@pytest.mark.parametrize("end", range(FIRST_TWO + 2, len(WHOLE)))
def test_a_file_that_is_cut_off_anywhere_is_told_as_such(tmp_path, end):
    """Also within a character, an escape or a word; the remedy is the option."""
    path = written(tmp_path, WHOLE[:end])

    with pytest.raises(UnusableWorkload) as caught:
        read_conversations(path)

    assert "the file is cut off: " in caught.value.seen
    assert "--allow-truncated-dataset" in caught.value.remedy
    found = read_conversations(path, allow_truncated=True)
    assert ENTRIES[: len(found.entries)] == found.entries
    assert len(found.entries) >= 2


def test_where_it_ends_is_told(tmp_path):
    """How many conversations are whole, and the byte and line at which it ends."""
    data = json.dumps(ENTRIES, indent=1).encode()[:-30]

    with pytest.raises(UnusableWorkload) as caught:
        read_conversations(written(tmp_path, data))

    assert f"at byte {len(data):,}" in caught.value.seen
    assert "3 whole conversations" in caught.value.seen
    assert f"in line {data.count(bytes([10])) + 1}" in caught.value.seen


@pytest.mark.parametrize(
    "data",
    [
        WHOLE[:40],
        WHOLE.replace(b'"id"', b'"id', 1),
        b'[{"id": 1}, oops, {"id": 2}, {"id": 3}]',
        WHOLE[1:],
    ],
)
def test_what_is_broken_otherwise_is_no_cut(tmp_path, data):
    """Nothing whole in it, or wrong in the middle: then no option helps."""
    path = written(tmp_path, data)
    for allow_truncated in (False, True):
        with pytest.raises(UnusableWorkload) as caught:
            read_conversations(path, allow_truncated)
        assert "cut off" not in caught.value.seen
