"""Screening: which rows are suspect, and what their pairs decide."""

import msgspec
import pytest

from perfgate.cases import Load
from perfgate.errors import FailureRow
from perfgate.judge import run_status
from perfgate.judge.gate import judge_case
from perfgate.judge.observation import RunReader
from perfgate.judge.paired import PAIRS
from perfgate.judge.screen import can_repeat, is_suspect, judge_suspect
from perfgate.judge.verdict import Decision, Outcome
from perfgate.load.metrics import METRICS
from perfgate.load.workload import Workload
from perfgate.results.schema import Server
from tests.support import builders as m

EQUAL = (1.0, 1.001, 0.999)


def decision(outcome, **more):
    """What a baseline of 10 ms says of a launch of 10.31 ms."""
    fields = {
        "case": m.ITL.id,
        "metric": "itl_median_ms",
        "outcome": Outcome(outcome),
        "gate": "hard",
        "summary": "+3.1 % vs the baseline 10 ms, threshold +2.0 %",
    }
    return Decision(**fields | more)


RECORDED = {
    "reference": "recorded",
    "baseline": 10.0,
    "change": 0.031,
    "threshold": 0.02,
    "target_effect": 0.02,
    "launches": 1,
}


def screened(base, candidate, case=m.ITL, **changes):
    """A screened run in which this case was launched in pairs, with these values."""
    values = {}
    for load in case.loads:
        values[load] = {case.metric: [10.31]}
        values[load.base] = {case.metric: base}
        values[load.candidate] = {case.metric: candidate}
    fields = {
        "mode": "screened",
        "base_builds": {"vllm": "/base/python"},
        "suspects": (case.id,),
    }
    return msgspec.structs.replace(m.run(values, [case]), **fields | changes)


def milliseconds(factor, around=EQUAL):
    """Values around 10 ms."""
    return [10.0 * factor * each for each in around]


def judged(results, screen=None, case=m.ITL):
    """The verdict of the case, which was REGRESSED by its baseline unless said."""
    screen = screen or decision("REGRESSED", **RECORDED)
    return judge_suspect(RunReader(results), case, screen)


@pytest.mark.parametrize(
    ("outcome", "more", "expected"),
    [
        ("REGRESSED", {}, True),
        ("INCONCLUSIVE", {}, True),
        ("NOT_EXCLUDED", {}, True),
        ("NO_BASELINE", {}, True),
        ("INCOMPARABLE", {}, True),
        ("PASSED", {}, False),
        ("IMPROVED", {}, False),
        ("PASSED", {"needs_launches": 2}, True),
        ("INVALID", {}, False),
        ("INVALID", {"needs_launches": 2}, True),
        ("INVALID", {"needs_launches": 2, "baseline": 10.0}, False),
        ("REGRESSED", {"gate": "report"}, False),
    ],
)
def test_suspect(outcome, more, expected):
    """What the screen does not clear; not an accepted loss that is gone, nor a report."""
    assert expected == is_suspect(m.ITL, decision(outcome, **more))


def test_every_undecided_outcome_is_suspect():
    """An outcome that is neither good nor INVALID is suspect, whichever are added."""
    settled = {Outcome.PASSED, Outcome.IMPROVED, Outcome.INVALID}

    for outcome in set(Outcome) - settled:
        assert is_suspect(m.ITL, decision(outcome)), outcome


def test_routing_is_never_suspect():
    """Tokens go the same ways on every launch."""
    asking = Workload(name="routing", num_prompts=4, asks_routing=True)
    load = Load(server=m.MOE, workload=asking)
    case = msgspec.structs.replace(m.ITL, numerator=load)

    assert not is_suspect(case, decision("REGRESSED"))


@pytest.mark.parametrize("metric", ["work_operators", "engine_settings"])
def test_what_is_counted_is_never_suspect(metric):
    """Every launch of a build has the same count, so pairs would say no more."""
    case = msgspec.structs.replace(m.ITL, metric=metric)
    assert not is_suspect(case, decision("REGRESSED"))


def test_what_no_launch_can_repeat():
    """A server of an operator, and a number that a test measures itself."""
    server = Server(config=m.MOE, python="external", versions={})
    own = msgspec.structs.replace(
        m.ITL, metric="steps", numerator=Load(server=m.MOE)
    )
    attached = msgspec.structs.replace(server, attached="http://host")

    assert can_repeat(m.bare_run(servers={m.MOE.key: server}), m.ITL)
    assert not can_repeat(m.bare_run(servers={m.MOE.key: attached}), m.ITL)
    number = METRICS["itl_median_ms"]
    assert not can_repeat(m.bare_run(metrics={"steps": number}), own)


def test_a_loss_of_the_candidate_is_regressed():
    """The verdict is that of the pairs; its fields and its first detail hold the screen."""
    verdict = judged(screened(milliseconds(1.0), milliseconds(1.03)))

    assert (Outcome.REGRESSED, "paired", PAIRS) == (
        verdict.outcome,
        verdict.reference,
        verdict.launches,
    )
    assert pytest.approx(0.03, abs=0.001) == verdict.change
    screen = verdict.screen
    assert ("REGRESSED", "recorded", 0.031, 0.02, 10.0) == (
        screen.outcome,
        screen.reference,
        screen.change,
        screen.threshold,
        screen.baseline,
    )
    assert (
        "Screened: REGRESSED, +3.1 % vs the baseline 10 ms, threshold +2.0 %. "
        "Decided by 3 pairs."
    ) == verdict.details[0]


def test_the_pairs_must_catch_what_the_baseline_is_to_catch():
    """The wanted loss is the baseline's; that of the command line comes first."""
    results = screened(milliseconds(1.0), milliseconds(1.03))
    wide = msgspec.structs.replace(results, target_effect=0.05)

    assert 0.02 == judged(results).target_effect
    assert Outcome.PASSED is judged(wide).outcome
    without = judged(results, decision("NO_BASELINE"))
    assert (0.05, Outcome.PASSED) == (without.target_effect, without.outcome)


def test_a_pass_without_a_baseline_says_how_to_record_one():
    """Where a baseline exists there is nothing to do."""
    results = screened(milliseconds(1.0), milliseconds(1.0))

    new = judged(results, decision("NO_BASELINE", advice="accept it"))

    assert ("accept it", "") == (new.advice, judged(results).advice)


def test_equal_builds_pass():
    """The loss that the screen saw was the machine's."""
    verdict = judged(screened(milliseconds(1.03), milliseconds(1.03)))

    assert (Outcome.PASSED, "hard", "REGRESSED") == (
        verdict.outcome,
        verdict.gate,
        verdict.screen.outcome,
    )


@pytest.mark.parametrize(("repeats", "needed"), [(1, PAIRS), (2, 0)])
def test_pairs_that_leave_the_loss_possible_do_not_clear(repeats, needed):
    """They ask for three more pairs, once; the row stays judged and is not PASSED."""
    noisy = milliseconds(1.0, (1.0, 1.03, 0.97)) * repeats
    verdict = judged(screened(milliseconds(1.0) * repeats, noisy))

    assert Outcome.NOT_EXCLUDED is verdict.outcome
    assert ("hard", needed, "") == (
        verdict.gate,
        verdict.needs_launches,
        verdict.report_only_reason,
    )
    assert "The pairs do not exclude a loss of the target size." in (
        verdict.details
    )


@pytest.mark.parametrize(
    ("slower", "faster", "expected"),
    [
        (m.DENSE, None, "REGRESSED"),
        (m.MOE, None, "REGRESSED"),
        (None, m.MOE, "IMPROVED"),
    ],
    ids=["numerator", "denominator", "gain"],
)
def test_a_ratio_has_the_direction_of_the_side_that_moved(
    slower, faster, expected
):
    """A loss of either side is a loss, whichever way the ratio moves."""
    factors = {None: 1.0}
    values = {}
    for load in m.RATIO.loads:
        factors = {slower: 0.9, faster: 1.1}
        factor = factors.get(load.server, 1.0)
        values[load] = {"output_throughput": [1000.0]}
        base = [1000.0 * each for each in EQUAL]
        values[load.base] = {"output_throughput": base}
        values[load.candidate] = {
            "output_throughput": [factor * each for each in base]
        }
    results = msgspec.structs.replace(
        m.run(values, [m.RATIO]), mode="screened", suspects=(m.RATIO.id,)
    )

    verdict = judged(results, case=m.RATIO)

    assert (expected, "paired") == (verdict.outcome, verdict.reference)
    assert verdict.moved in ("numerator", "denominator")


def test_a_two_sided_ratio_may_not_move_at_all():
    """Where absolute values are not judged either direction is a loss."""
    case = msgspec.structs.replace(m.RATIO, two_sided=True)
    values = {}
    for load in case.loads:
        for build, factor in ((load, 1.0), (load.base, 1.0)):
            values[build] = {"output_throughput": [1000.0 * factor] * PAIRS}
        gain = 1.1 if load.server == m.DENSE else 1.0
        values[load.candidate] = {
            "output_throughput": [1000.0 * gain * each for each in EQUAL]
        }

    verdict = judged(m.run(values, [case]), case=case)

    assert Outcome.REGRESSED is verdict.outcome
    # Both directions share the doubt.
    assert any("95 % interval" in line for line in verdict.details)


def test_the_screen_stands_without_pairs():
    """A base build that failed decides nothing; the message says so."""
    row = FailureRow(
        tried="starting", seen="exited with status 3", remedy="read its log"
    )
    results = screened([], [], failures={m.MOE.base.key: row})
    screen = decision("REGRESSED", needs_launches=2, **RECORDED)

    verdict = judged(results, screen)

    assert (Outcome.REGRESSED, "recorded", 2, None) == (
        verdict.outcome,
        verdict.reference,
        verdict.needs_launches,
        verdict.screen,
    )
    assert (
        f"The pairs decide nothing ({m.MOE.base.key} failed: exited with "
        "status 3): the verdict of the screen stands."
    ) == verdict.details[-1]


def test_too_few_pairs_say_how_many_are_needed():
    """Two pairs decide nothing, as nothing else explains it."""
    verdict = judged(screened([10.0, 10.0], [10.0, 10.0]))

    assert "(3 pairs of values are needed)" in verdict.details[-1]


def test_a_base_build_that_fails_to_start_fails_no_run(tmp_path):
    """The screen's verdict stands in for it; a server that is screened must start."""
    row = FailureRow(tried="starting", seen="died", remedy="read its log")
    results = screened(
        [], [], failures={m.MOE.base.key: row, m.MOE.candidate.key: row}
    )
    passed = decision("PASSED", **RECORDED).row(m.ITL, "test")
    results = msgspec.structs.replace(results, verdicts=(passed,))
    own = msgspec.structs.replace(results, failures={m.MOE.key: row})

    assert ([], [m.MOE.key]) == (results.failed_servers, own.failed_servers)
    assert (False, True) == (
        run_status.fails(results, "advisory"),
        run_status.fails(own, "advisory"),
    )


def test_advice_names_the_options_of_pairs(tmp_path):
    """Only in a run without a base build, and of servers that can be launched again."""
    from perfgate.judge.baseline_store import Store

    store = Store(tmp_path)
    results = m.run({m.MOE_LOAD: {"itl_median_ms": [10.0]}}, [m.ITL])
    named = msgspec.structs.replace(
        results, mode="screened", base_builds={"vllm": "/base/python"}
    )

    advice = judge_case(results, m.ITL, store).advice
    assert "`--against-engine vllm=PYTHON --pairs suspect`" in advice
    assert "--pairs" not in judge_case(named, m.ITL, store).advice
