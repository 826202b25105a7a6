"""The terminal's table of many cases: no run is shown as an empty table."""

import pytest
from rich.text import Text

from perfgate.machine.hardware import attached
from perfgate.report import terminal
from perfgate.results.schema import RunResults
from perfgate.results.verdict import Outcome, Verdict


def verdict(number, experiment="E1", outcome="PASSED", **fields):
    """A case whose throughput fell by 1 % and may fall by 15 %."""
    values = {
        "value": 990.0,
        "unit": "tok/s",
        "baseline": 1000.0,
        "change": -0.01,
        "worse_by": 0.01,
        "threshold": 0.15,
        "gate": "hard",
    }
    return Verdict(
        case=f"vllm-mixtral/w{number}/output_throughput",
        experiment=experiment,
        metric="output_throughput",
        outcome=Outcome(outcome),
        summary="",
        **(values | fields),
    )


def run(*verdicts):
    """A run with these verdicts."""
    return RunResults(
        run_id="r",
        suite_version="0",
        command=(),
        started="now",
        hardware=attached("cpu"),
        verdicts=verdicts,
    )


def table(results):
    """The default table, as a log shows it."""
    return terminal.table(results, 170, terminal=False, everything=False)


@pytest.fixture
def many():
    """30 passed cases of two experiments, one of them close to its threshold."""
    rows = [verdict(number) for number in range(24)]
    rows += [verdict(number, "E2") for number in range(24, 29)]
    close = verdict(
        29, "E2", value=880.0, change=-0.12, worse_by=0.12, threshold=0.15
    )
    return run(*rows, close)


def rows_of(text):
    """The lines of the table that begin with a question."""
    lines = text.splitlines()
    return [line for line in lines if line.strip().startswith("E")]


def test_one_row_for_each_question(many):
    """It has the number of cases and the one that is closest to its threshold."""
    first, second = rows_of(table(many))

    assert "24 PASSED" in first
    assert "6 PASSED" in second
    assert "880 to 990 tok/s" in second
    assert "-12.0 % (slower)   -15.0 %" in second


def test_a_row_tells_what_failed_in_it(many):
    """It has its question's place, and the numbers of the case that failed."""
    failed = verdict(
        99, "E2", "REGRESSED", value=500.0, change=-0.5, worse_by=0.5
    )
    first, second = rows_of(table(run(*many.verdicts, failed)))

    assert "REGRESSED" not in first
    assert "1 REGRESSED, 6 PASSED" in second
    assert "-50.0 % (slower)   -15.0 %" in second


def test_passed_cases_without_a_threshold():
    """A row is shown where no case has a loss to compare with its threshold."""
    values = {"worse_by": None, "threshold": None, "change": None}
    rows = [verdict(number, **values) for number in range(25)]

    assert "25 PASSED" in table(run(*rows))


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_terminal_shows_whole_words(many, width):
    """No line is longer than the terminal, and outcomes and servers are whole."""
    failed = verdict(99, "E3", "NOT_EXCLUDED", excluded=0.2)
    text = terminal.table(
        run(*many.verdicts, failed), width, terminal=True, everything=False
    )
    lines = [Text.from_ansi(line).plain for line in text.splitlines()]

    assert max(map(len, lines[:-1])) <= width
    words = " ".join(lines).split()
    assert {"NOT_EXCLUDED", "PASSED", "mixtral,"} <= set(words)


def test_report_only_cases_are_shown_where_a_run_has_no_others():
    """A run in which nothing is judged shows what it measured."""
    shown = table(run(verdict(0, gate="report"), verdict(1, gate="report")))

    assert 2 == shown.count("PASSED (report-only)")


def test_run_without_verdicts_has_no_table():
    """Nothing stands there, not even a heading."""
    assert "" == table(run())
