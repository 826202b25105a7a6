"""Headline: the result of a run, and what to look at first."""

from xml.etree import ElementTree

import msgspec
import pytest

from perfgate.errors import FailureRow
from perfgate.judge.baseline_store import Store
from perfgate.report import summary
from perfgate.report.headline import attention, verdict_sentence
from perfgate.report.junit import junit
from perfgate.report.page import Report, build
from tests.support import builders as m
from tests.support.judged_runs import judged


def test_incomplete_required_run_fails():
    """In required mode a case without a verdict fails the run, and is counted."""
    results = msgspec.structs.replace(
        judged("PASSED", "PASSED"), gate="required"
    )
    assert "Red: 1 of 1 rows passed; 1 without a verdict" == verdict_sentence(
        msgspec.structs.replace(results, verdicts=results.verdicts[:1])
    )


def test_a_server_that_failed_to_start_fails_the_run():
    """Its values are report-only here, so that no case fails: the run does.

    It says why before anything else.
    """
    row = FailureRow(
        tried="launched it",
        seen="exited with status 1",
        remedy="use more GPUs",
        detail="its log",
    )
    results = judged("PASSED")
    results = msgspec.structs.replace(
        results,
        cases=results.cases[:1],
        failures={"vllm-mixtral-small-tp2": row, "vllm-other-tp2": row},
    )

    assert "Red: 1 of 1 rows passed; 2 servers failed" == verdict_sentence(
        results
    )
    for text in (summary.markdown(results, None), build(Report([results]))):
        assert (
            "vllm-mixtral-small-tp2 failed: exited with status 1. To do: use more GPUs"
            in text
        )
    assert (
        "::error title=vllm-mixtral-small-tp2 failed::exited with status 1. use more GPUs"
        in (summary.workflow_commands(results, {"GITHUB_ACTIONS": "true"}))
    )


def test_what_was_not_judged_does_not_pass():
    """A run with an undecided case neither passes nor fails at a desk.

    The same holds for a run that judged nothing.
    """
    results = judged("PASSED", "NO_BASELINE")
    reported = tuple(
        msgspec.structs.replace(row, gate="report") for row in results.verdicts
    )

    assert (
        "Undecided: 1 of 2 rows without a baseline; 1 passed"
        == verdict_sentence(results)
    )
    assert (
        "Undecided: nothing was judged, 2 values report-only"
        == verdict_sentence(msgspec.structs.replace(results, verdicts=reported))
    )
    assert "Undecided: 1 of 2 rows" in build(Report([results]))


def test_cases_of_which_the_same_was_seen_are_one_item():
    """Ten cases without a baseline are one item with all their names; a regression is its own."""
    items = attention(
        judged("NO_BASELINE", "REGRESSED", "NO_BASELINE", "REGRESSED")
    )

    assert [
        "batch-8, output_throughput",
        "rate-2, output_throughput",
        "2 cases",
    ] == [
        item.title.partition(": ")[2].removeprefix("vllm mixtral-8x7b-tp2, ")
        for item in items
    ]
    assert (
        "batch-1, output_throughput; vllm mixtral-8x7b-tp2, rate-1, output_throughput"
        in items[-1].finding
    )
    assert "look" == items[-1].advice
    assert 2 == len(items[-1].messages)


def test_items_of_another_cause_stand_alone():
    """And say it after their summary."""
    results = judged("IMPROVED", "IMPROVED", "IMPROVED")
    causes = ("graphs off -> on", "graphs off -> on", "chunk 8 -> 9")
    rows = tuple(
        msgspec.structs.replace(row, cause=cause)
        for row, cause in zip(results.verdicts, causes, strict=True)
    )

    items = attention(msgspec.structs.replace(results, verdicts=rows))

    assert [", cause: graphs off -> on. ", ", cause: chunk 8 -> 9"] == [
        end
        for item in items
        for end in (", cause: graphs off -> on. ", ", cause: chunk 8 -> 9")
        if end in item.finding
    ]
    assert 2 == len(items)


def test_drift_is_counted(tmp_path):
    """What differs from the baseline's context stands in the page with both values."""
    results = judged("PASSED", machine=m.hardware(driver="590.9"))
    store = Store(tmp_path)
    recorded = m.recorded(results.cases[0], [1000.0] * 6)
    store.find = lambda case, label: recorded
    text = build(Report([results], store))

    assert (
        '<th scope="row">driver</th><td>590.9</td><td>580.1</td><td>1</td>'
        in text
    )


@pytest.mark.parametrize("gate", ["required", "strict"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"left_out": ("test_memory.py",)}, "only part of the suite ran"),
        ({"complete": False}, "the run was cut off"),
    ],
)
def test_a_red_run_of_passed_rows_says_why(gate, changes, words):
    """In the sentence, in an annotation and as a failed case of junit.xml."""
    results = msgspec.structs.replace(judged("PASSED"), gate=gate, **changes)
    tree = ElementTree.fromstring(junit(results))
    commands = summary.workflow_commands(results, {"GITHUB_ACTIONS": "true"})
    (failed,) = tree.iter("failure")

    assert f"Red: 1 of 1 rows passed; {words}" == verdict_sentence(results)
    assert ["::error"] == [line.partition(" ")[0] for line in commands]
    assert words in commands[0].lower()
    assert words in failed.text.lower()


def test_an_advisory_run_need_not_be_whole():
    """It fails by no more than its rows."""
    results = msgspec.structs.replace(
        judged("PASSED"), left_out=("test_memory.py",), complete=False
    )
    commands = summary.workflow_commands(results, {"GITHUB_ACTIONS": "true"})

    assert "Green: 1 of 1 rows passed" == verdict_sentence(results)
    assert not commands
    assert "<failure" not in junit(results)
