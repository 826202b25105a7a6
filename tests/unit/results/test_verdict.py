"""A verdict: the same fields are judged, stored and read."""

import msgspec
import pytest

from perfgate.judge.verdict import Decision
from perfgate.results.verdict import Outcome, Verdict
from tests.support.builders import ITL

FIELDS = {
    "case": ITL.id,
    "metric": ITL.metric,
    "outcome": Outcome.REGRESSED,
    "gate": "hard",
    "value": 9.0,
    "unit": "ms",
    "threshold": 0.02,
    "summary": "+12.5 %",
    "details": ("Baseline: 6 launches.",),
}


def test_a_stored_verdict_has_its_experiment_and_test():
    """What only the campaign needs is not stored."""
    decision = Decision(**FIELDS, needs_launches=2)

    row = decision.row(ITL, "tests/perf/test_moe.py::test_closed")

    assert Verdict is type(row)
    assert ("E1", "tests/perf/test_moe.py::test_closed") == (
        row.experiment,
        row.test,
    )
    assert Verdict(**FIELDS) == msgspec.structs.replace(
        row, experiment="", test=""
    )


def test_json_holds_every_field():
    """What is written is what is read."""
    row = Verdict(**FIELDS, moved="both", reference="recorded")

    assert row == msgspec.json.decode(msgspec.json.encode(row), type=Verdict)


@pytest.mark.parametrize(
    "wrong",
    [{"outcome": "NOT_JUDGED"}, {"moved": "left"}, {"message": "text"}],
    ids=["outcome", "side", "unknown-field"],
)
def test_what_is_no_verdict_is_refused(wrong):
    """Not judged is no outcome: it would look green."""
    tree = msgspec.to_builtins(Verdict(**FIELDS)) | wrong

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(tree, Verdict)
