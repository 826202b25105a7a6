"""Verdict texts: one spelling of each number, wherever it is printed."""

from pathlib import Path

import msgspec
import pytest

from perfgate import formatting
from perfgate.judge import run_status
from perfgate.judge.baseline_store import Store
from perfgate.report import junit, page, summary, terminal, verdict_text
from perfgate.report.figures import figure
from perfgate.results import schema

ROOT = Path(__file__).resolve().parents[3]
RUN = ROOT / "docs" / "runs" / "h200x1-planted" / "eager" / "01"


@pytest.fixture(scope="module")
def results():
    """A run of eight regressions, the first of which has an awkward value."""
    judged = run_status.judged_again(
        schema.load(RUN), Store(ROOT / "baselines")
    )
    first, *others = run_status.ordered(judged)
    awkward = msgspec.structs.replace(
        first, value=9999.6, baseline=1234.5, change=0.00004
    )
    return msgspec.structs.replace(judged, verdicts=(awkward, *others))


@pytest.fixture(scope="module")
def texts(results):
    """Every place that prints the run's numbers."""
    return {
        "table": terminal.table(results, 200, terminal=False),
        "messages": "\n".join(
            verdict_text.render(row) for row in results.verdicts
        ),
        "summary": summary.markdown(results, None),
        "page": page.build(page.Report([results])),
        "junit": junit.junit(results),
    }


@pytest.mark.parametrize("place", ["table", "messages", "summary", "page"])
def test_values_read_the_same_everywhere(results, texts, place):
    """Each value, with its unit, in the spelling of the message."""
    for row in results.verdicts:
        assert verdict_text.value(row) in texts[place]


@pytest.mark.parametrize("place", ["table", "summary", "page"])
def test_changes_read_the_same_everywhere(results, texts, place):
    """Each change, with its sign; what would print as 0.00 % is unchanged."""
    for row in results.verdicts:
        assert verdict_text.change(row).replace("&", "&amp;") in texts[place]
    assert "0.00 %" not in texts[place]


def test_failures_of_junit_read_as_the_message(results, texts):
    """The text of a failure is the message."""
    for row in results.verdicts:
        if row.gate == "hard" and row.outcome == "REGRESSED":
            assert (
                f", {row.metric}: {verdict_text.value(row)}, " in texts["junit"]
            )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (9999.6, "10,000"),
        (1234.5, "1,234"),
        (999.96, "1,000"),
        (999.94, "999.9"),
        (0.0123456, "0.01235"),
    ],
)
def test_labels_of_figures_read_as_the_message(value, expected):
    """Figures label their numbers by the same function."""
    assert expected == figure.number(value) == formatting.number(value)
    assert f"{expected} tok/s" == formatting.number(value, "tok/s")
