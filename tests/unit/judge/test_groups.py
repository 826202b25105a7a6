"""Verdicts over several rows: a hard one fails a run, a report-only one never does."""

import msgspec
import pytest

from perfgate.judge import groups, run_status
from perfgate.judge.baseline_store import Store
from perfgate.results.group_verdict import GroupVerdict
from perfgate.results.verdict import Outcome
from tests.support.judged_runs import judged


def group(gate="hard"):
    """A verdict on the stalls of a server."""
    return GroupVerdict(
        scope="server",
        subject="vllm-x",
        check="stalls",
        outcome=Outcome.REGRESSED,
        gate=gate,
        summary="5 of 9 repetitions stalled",
    )


@pytest.mark.parametrize("gate", ["hard", "report"])
def test_a_hard_group_verdict_fails_the_run(gate):
    """Under either gate; a report-only one leaves it green."""
    run = judged("PASSED")
    run = msgspec.structs.replace(run, group_verdicts=(group(gate),))

    is_hard = gate == "hard"
    assert is_hard == run_status.fails(run, "advisory")
    assert is_hard == run_status.fails(run, "strict")
    assert (run_status.state(run) == "Red") == is_hard


def test_every_check_is_asked(monkeypatch, tmp_path):
    """In order; they see the verdicts of the cases."""

    def check(reader, verdicts, store):
        outcomes = [row.outcome for row in verdicts]
        assert reader.results.run_id
        assert outcomes == [Outcome.PASSED]
        return [group()]

    monkeypatch.setattr(groups, "CHECKS", (check, check))
    run = groups.with_group_verdicts(judged("PASSED"), Store(tmp_path))

    assert (group(), group()) == run.group_verdicts
