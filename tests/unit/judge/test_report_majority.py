"""Report-only majority: more than half of many rows worse is a verdict on the run."""

import pytest

from perfgate.judge import report_majority
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Outcome, Verdict
from tests.support import builders as m


def rows(regressed, passed, loss=9.0, gate="report"):
    """So many verdicts of each outcome."""
    outcomes = [Outcome.REGRESSED] * regressed + [Outcome.PASSED] * passed
    verdicts = []
    for number, outcome in enumerate(outcomes):
        verdict = Verdict(
            case=f"server/load/{number}",
            metric="itl_median_ms",
            outcome=outcome,
            gate=gate,
            worse_by=loss,
            threshold=0.05,
            summary="x",
        )
        verdicts.append(verdict)
    return verdicts


def found(verdicts, kind="h200"):
    """What the check objects to."""
    reader = RunReader(m.bare_run(hardware=m.hardware(kind)))
    return list(report_majority.check(reader, verdicts, None))


def test_a_majority_of_regressed_rows_is_a_regression_of_the_run():
    """57 of 92, by ten times."""
    (row,) = found(rows(57, 35))

    assert ("run", Outcome.REGRESSED, "hard") == (
        row.scope,
        row.outcome,
        row.gate,
    )
    assert 9.0 == row.worse_by
    assert 57 == len(row.cases)


@pytest.mark.parametrize(
    "verdicts",
    [rows(4, 4), rows(7, 0), rows(9, 0, gate="hard")],
    ids=["half", "few", "judged"],
)
def test_no_majority(verdicts):
    """Half of them, too few rows, or rows that are judged anyhow."""
    assert [] == found(verdicts)


@pytest.mark.parametrize(("loss", "gate"), [(0.2, "report"), (9.0, "hard")])
def test_on_a_cpu_only_a_large_loss_is_hard(loss, gate):
    """A busy machine slows all rows a little."""
    (row,) = found(rows(9, 3, loss), kind="cpu")

    assert gate == row.gate
