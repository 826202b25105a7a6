"""Comment: under forty lines whatever the run, and what a reviewer needs to know."""

from pathlib import Path

import msgspec
import pytest

from perfgate.judge.baseline_store import Store
from perfgate.judge.run_status import judged_again
from perfgate.report import comment, summary
from perfgate.report.page import Report, build
from perfgate.results.schema import load
from tests.support import builders

ROOT = Path(__file__).resolve().parents[3]
RUNS = ROOT / "docs" / "runs"


def text_of(run, **arguments):
    """The comment of a stored run, judged today."""
    results = judged_again(load(RUNS / run), Store(ROOT / "baselines"))
    return comment.markdown(results, **arguments)


@pytest.mark.parametrize(
    "run",
    [
        "h200x1-planted/eager/01",
        "h200x2-20261128a",
        "h200x2-planted/no-custom-all-reduce",
    ],
)
def test_it_stays_short(run):
    """A run of a hundred cases, too; the marker comes first."""
    lines = text_of(run).splitlines()

    assert comment.MARKER == lines[0]
    assert len(lines) < comment.MOST_LINES


def test_a_red_run_says_what_moved_and_why():
    """Verdict, server, direction, cause, and the red rows alone."""
    text = text_of("h200x1-planted/eager/01", link="https://ci/report.html")

    assert "### ✗ Red" in text
    assert "REGRESSED: vllm llama-3.1-8b-tp1: throughput -69.7" in text
    assert "**Cause**: no graphs" in text
    assert "REGRESSED |" in text
    assert "PASSED |" not in text
    assert "3 others passed." in text
    assert "](https://ci/report.html)" in text


def test_without_a_link_the_run_is_named():
    """There is nothing to click."""
    assert "\nRun `" in text_of("h200x2-20261128a")


def test_rows_that_are_only_reported_are_shown():
    """Where nothing else was measured, as of a CPU by pairs."""
    results = judged_again(
        load(RUNS / "h200x1-planted" / "eager" / "01"),
        Store(ROOT / "baselines"),
    )
    reported = tuple(
        msgspec.structs.replace(row, gate="report-only")
        for row in results.verdicts
    )
    results = msgspec.structs.replace(
        results, verdicts=reported, hardware=builders.hardware("cpu")
    )

    text = comment.markdown(results)

    assert "| question | load |" in text
    assert "on CPU (" in text


def test_a_server_that_failed_and_a_group_of_rows_say_why():
    """Where no row moved, nothing else of the comment would."""
    text = text_of("h200x2-stalled/short-ladder")
    failed = msgspec.structs.replace(
        load(RUNS / "h200x2-stalled" / "short-ladder"),
        failures={"vllm-other-tp1": builders.DIED},
    )

    assert "* REGRESSED: stalls, vllm-mixtral-8x7b-tp2-uniform, " in text
    assert "2 of 5 repetitions did not count because of the server" in text
    assert "1 other passed." in text
    assert (
        "* vllm-other-tp1 failed: the server died. To do: read its log"
        in comment.markdown(failed)
    )


def test_it_stays_short_whatever_was_injected():
    """A change in each of thirty servers is told of the first ones."""
    results = load(RUNS / "h200x1-planted" / "eager" / "01")
    first = next(row for row in results.launches if row.injected)
    launches = tuple(
        msgspec.structs.replace(first, server=f"vllm-m{number}-tp1")
        for number in range(30)
    )
    text = comment.markdown(msgspec.structs.replace(results, launches=launches))

    assert len(text.splitlines()) < comment.MOST_LINES
    assert "* INJECTED in 28 more servers" in text


def test_the_name_of_a_machine_is_inert():
    """A tag and a line end in it are text, in the summary as in the comment."""
    results = load(RUNS / "h200x1-planted" / "eager" / "01")
    machine = msgspec.structs.replace(results.hardware, name="<img src=x>\n# A")
    results = msgspec.structs.replace(results, hardware=machine)

    for text in (comment.markdown(results), summary.markdown(results, None)):
        assert "1x &lt;img src=x> # A" in text
        assert "<img" not in text


def test_a_run_that_was_cut_off_says_so():
    """In the comment, the summary and the page, whatever its gate."""
    results = load(RUNS / "h200x1-20261125a")

    for text in (
        comment.markdown(results),
        summary.markdown(results, None),
        build(Report([results])),
    ):
        assert (
            "The run was cut off in launch 1 of sglang-mixtral-8x7b-tp1" in text
        )
