"""Baseline files: a damaged one is refused with file and field, or read in full."""

import re

import pytest

from perfgate.judge.baseline_schema import BaselineError, read_recorded, to_text
from tests.support import file_fuzz
from tests.support.baseline_files import recorded_file
from tests.support.damaged_files import DAMAGE, LINKS, NESTED, link


def test_damaged_baselines(tmp_path, monkeypatch):
    """Every kind of damage once; `python -m benchmarks.fuzz_files` makes thousands."""
    monkeypatch.chdir(tmp_path)
    count = len(DAMAGE) + len(LINKS)

    tally = file_fuzz.fuzz_baselines(tmp_path, count, seed=3)

    assert [] == tally.broken
    assert count == tally.refused.total() + tally.read.total()


FLOOR = r'"floor": [0-9.]+'


@pytest.mark.parametrize("kind", LINKS)
def test_what_is_no_file_is_no_baseline(tmp_path, kind):
    """A pipe would block, and a device would never end."""
    link(tmp_path / "closed.json", kind)

    with pytest.raises(BaselineError, match=r"closed\.json"):
        read_recorded(tmp_path / "closed.json")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (FLOOR, '"floor": 1e400', "metrics.output_throughput.floor"),
        (FLOOR, f'"floor": {NESTED.decode()}', "the file as a whole"),
        (r'"better":', '"better": "lower", "better":', "better: it stands"),
    ],
    ids=["huge number", "nested", "key twice"],
)
def test_odd_json_is_refused_by_its_field(tmp_path, old, new, said):
    """Not by an exception of the decoder."""
    path = tmp_path / "closed.json"
    text = to_text(recorded_file())
    changed, count = re.subn(old, new, text, count=1)
    assert count == 1
    path.write_text(changed)

    with pytest.raises(BaselineError) as refused:
        read_recorded(path)
    assert said in refused.value.seen
