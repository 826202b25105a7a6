"""A terminal shows the answer first, and no line wider than itself; a log has whole lines."""

import re
from pathlib import Path

import pytest

from perfgate.judge.baseline_store import Store
from perfgate.judge.run_status import judged_again, missing
from perfgate.report import brief
from perfgate.report.screen import Screen
from perfgate.results.schema import load

ROOT = Path(__file__).resolve().parents[3]
# What a screen is, and the stored run that shows it.
SCENES = {
    "first run on a new machine": "h200x2-20261128a",
    "all green": "h100x1-20261124a",
    "one regression": "h200x1-planted/delay/01",
    "a broad regression": "h200x2-planted/no-custom-all-reduce",
    "a server that lost most of its speed": "h200x1-planted/eager/01",
    "a pair": "h100x1-pairs/delay",
    "an unchanged pair": "h100x1-pairs/unchanged",
    "an invalid run": "h200x1-20261125a",
}
WIDTHS = (80, 120, 200)
SCREENFUL = 24  # lines of a terminal


@pytest.fixture(scope="module", params=SCENES.values(), ids=SCENES)
def results(request):
    """A stored run, judged by the baselines that there are now."""
    run = load(ROOT / "docs" / "runs" / request.param)
    return judged_again(run, Store(ROOT / "baselines"))


def shown(results, width, is_terminal=True):
    """The lines of a screen, without their colours."""
    screen = Screen("runs/today", width, is_terminal)
    texts = [
        *screen.answer(results, missing(results)),
        *screen.details(results),
    ]
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(texts))
    return text.splitlines()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal(results, width):
    """And no line ends within a number and its unit."""
    lines = shown(results, width)

    assert max(map(len, lines)) <= width
    assert not [line for line in lines if re.search(r"\d \\?$", line.strip())]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_answer_is_on_the_first_screen(results, width):
    """Verdict, what, why and what to do: every line of the brief."""
    first = " ".join(" ".join(shown(results, width)[:SCREENFUL]).split())
    first = first.replace(" \\ ", " ")

    for line in brief.lines(results, "runs/today", missing(results)):
        assert " ".join(line.split()) in first


def test_a_log_has_a_line_for_each_message(results):
    """Whatever its width: it is searched, not looked at."""
    lines = shown(results, 80, is_terminal=False)

    for line in brief.lines(results, "runs/today", missing(results)):
        assert line in lines
