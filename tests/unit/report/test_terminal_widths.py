"""The table at three widths: no line is wider, and no word or number of a cell is lost."""

import re
from pathlib import Path

import pytest

from perfgate.judge.baseline_store import Store
from perfgate.judge.run_status import judged_again, judged_verdicts
from perfgate.report import questions, terminal
from perfgate.results.schema import load

ROOT = Path(__file__).resolve().parents[3]
RUNS = (
    "h100x1-20261124a",
    "h100x1-pairs/delay",
    "h200x1-20261124a",
    "h200x1-planted/eager/01",
    "h200x2-20261128a",
)
WIDTHS = (80, 120, 200)


@pytest.fixture(scope="module", params=RUNS)
def results(request):
    """A stored run, judged by the baselines that there are now."""
    run = load(ROOT / "docs" / "runs" / request.param)
    return judged_again(run, Store(ROOT / "baselines"))


def cells(results):
    """Every text of the short table."""
    for row in questions.answers(judged_verdicts(results)):
        yield from (row.metric, row.loads, row.value, row.short_change)
        yield from (row.allowed, row.outcomes)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_and_nothing_is_cut(results, width):
    """Words may stand on lines of their own; none is broken or left out."""
    table = terminal.table(results, width, True, everything=False)
    text = re.sub(r"\x1b\[[0-9;]*m", "", table)

    assert max(map(len, text.splitlines())) <= width
    shown = set(text.replace(",", "").split())
    for cell in cells(results):
        lost = set(cell.replace(",", "").split()) - shown
        assert set() == lost, cell
