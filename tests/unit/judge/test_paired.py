"""Paired verdicts: base and candidate judged by the differences within pairs."""

import msgspec
import pytest

from perfgate.judge.observation import RunReader
from perfgate.judge.paired import PAIRS, judge_paired, judge_pairs
from perfgate.judge.verdict import Outcome, is_red
from perfgate.load.metrics import METRICS
from perfgate.report.verdict_text import allowed, change, render
from tests.support import builders as m


def judged(pairs, case=m.THROUGHPUT, delta=None):
    """The verdict on (base, candidate) pairs."""
    return judge_pairs(case, pairs, "h200x2", delta)


def test_drift_of_the_machine_cancels():
    """The machine loses 20 % over the session, both builds alike: no difference, so passed."""
    assert (
        Outcome.PASSED
        == judged([(1000.0, 1000.0), (900.0, 900.0), (800.0, 800.0)]).outcome
    )


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (0.95, Outcome.REGRESSED),
        (0.98, Outcome.PASSED),
        (1.06, Outcome.IMPROVED),
    ],
)
def test_line(factor, expected):
    """With a target effect of 5 % the threshold is 3.3 %: 5 % fails, 2 % does not.

    6 % more is an improvement.
    """
    assert expected == judged([(1000.0, 1000.0 * factor)] * 3).outcome


def test_a_smaller_loss_is_caught_where_it_is_asked_for():
    """Whoever knows that the machine is quiet asks for 2 %.

    Otherwise a certain loss below the threshold is at least reported.
    """
    pairs = [(1000.0, 980.0), (1000.0, 981.0), (1000.0, 980.0)]
    plain = judged(pairs)

    assert Outcome.REGRESSED == judged(pairs, delta=0.02).outcome
    assert Outcome.PASSED == plain.outcome
    assert "The loss is at least 0.76 %, below the target effect" in render(
        plain
    )
    unsure = judged([(1000.0, 980.0), (1000.0, 1010.0), (1000.0, 990.0)])
    assert "It lost" not in render(unsure)


def builds(candidate, backend):
    """The verdict on a run of both builds, in which the candidate chose this backend."""
    base = m.THROUGHPUT.base.numerator
    values = {
        base: {"output_throughput": [1000.0] * 3},
        m.MOE_LOAD: {"output_throughput": [candidate] * 3},
    }
    results = m.run(values, [m.THROUGHPUT])
    chosen = {base.server.key: "TRITON", m.MOE.key: backend}
    launches = tuple(
        msgspec.structs.replace(
            launch, effective={"moe_backend": chosen[launch.server]}
        )
        for launch in results.launches
    )
    results = msgspec.structs.replace(results, launches=launches, mode="paired")
    return judge_paired(RunReader(results), m.THROUGHPUT)


def test_what_the_candidate_chose_otherwise_is_the_cause():
    """Of a loss; without one it is a detail, and the same choice is neither."""
    lost = builds(520.0, "CUTLASS")
    passed = builds(1000.0, "CUTLASS")
    same = builds(520.0, "TRITON")
    cause = "moe_backend TRITON -> CUTLASS, chosen by the engine"

    assert (Outcome.REGRESSED, cause) == (lost.outcome, lost.cause)
    assert (Outcome.PASSED, "") == (passed.outcome, passed.cause)
    assert f"Changed: {cause}." in passed.details
    assert (Outcome.REGRESSED, "") == (same.outcome, same.cause)


# A machine that loses 6 % from pair to pair, whichever build runs on it.
DRIFT = [1000.0 * 0.94**number for number in range(6)]


def drifting(base, candidate):
    """The run of two equal builds with these throughputs of their launches."""
    values = {
        m.THROUGHPUT.base.numerator: {"output_throughput": base},
        m.MOE_LOAD: {"output_throughput": candidate},
    }
    return m.run(values, [m.THROUGHPUT])


@pytest.mark.parametrize(
    ("base", "candidate"),
    [
        (DRIFT, [None, *DRIFT[1:]]),
        ([None, *DRIFT[1:]], DRIFT),
        (DRIFT, [*DRIFT[:3], None, *DRIFT[4:]]),
    ],
)
def test_launch_that_does_not_count_takes_its_neighbour_with_it(
    base, candidate
):
    """Beside another launch the drift of the machine would be a change of the build."""
    results = drifting(base, candidate)
    results = msgspec.structs.replace(results, mode="paired")

    decision = judge_paired(RunReader(results), m.THROUGHPUT)

    assert (Outcome.PASSED, 5) == (decision.outcome, decision.launches)
    assert 0.0 == pytest.approx(decision.worse_by)


def test_launch_of_a_server_that_died_leaves_its_place_to_the_next():
    """Another launch took its place, and that is the neighbour of the other build's."""
    results = drifting([1000.0, *DRIFT], DRIFT)
    base = m.THROUGHPUT.base.numerator.server.key
    measurements = []
    for row in results.measurements:
        if (row.server, row.launch) == (base, 0):
            row = msgspec.structs.replace(row, failure=m.DIED)
        measurements.append(row)
    results = msgspec.structs.replace(
        results, mode="paired", measurements=tuple(measurements)
    )

    decision = judge_paired(RunReader(results), m.THROUGHPUT)

    assert (Outcome.PASSED, 6) == (decision.outcome, decision.launches)
    assert 0.0 == pytest.approx(decision.worse_by)


def test_direction_of_latencies():
    """For a latency the larger candidate is the worse one."""
    assert Outcome.REGRESSED == judged([(10.0, 10.6)] * 3, m.ITL).outcome


def test_contradicting_pairs_are_inconclusive():
    """One pair 30 % down, two unchanged: something else happened in that pair."""
    result = judged([(1000.0, 700.0), (1000.0, 1000.0), (1000.0, 1001.0)])
    assert Outcome.INCONCLUSIVE == result.outcome
    assert "contradict" in render(result)


# Unchanged vLLM vs itself on two shared cores: single-stream ITL in ms,
# base and candidate, in launch order.
UNCHANGED_ON_A_CPU = [(17.55, 14.14), (16.78, 15.83), (14.90, 13.47)]


def test_no_gain_is_claimed_that_variation_explains():
    """12 % better in the mean, and between 6 and 22 % in the pairs of a build vs itself."""
    case = msgspec.structs.replace(m.ITL, gate="hard")
    assert (
        Outcome.PASSED
        == judge_pairs(case, UNCHANGED_ON_A_CPU, "cpu-x2").outcome
    )


def test_no_loss_is_claimed_that_variation_explains():
    """The same with the builds swapped: beyond the threshold, but there may be no loss."""
    turned = [(candidate, base) for base, candidate in UNCHANGED_ON_A_CPU]
    result = judge_pairs(m.ITL, turned, "cpu-x2")

    assert Outcome.INCONCLUSIVE == result.outcome
    assert (
        Outcome.REGRESSED
        == judge_pairs(
            m.ITL, [(base, 1.2 * new) for base, new in turned], "cpu-x2"
        ).outcome
    )


# Unchanged vLLM vs itself on one H100, Llama-3.1-8B at batch 32: ITL in ms,
# medians of a launch.
UNCHANGED_ON_A_GPU = [(6.941, 6.945), (6.929, 6.939), (6.922, 6.935)]
NOISY_PAIRS = [(1000.0, 1000.0), (1000.0, 975.0), (1000.0, 1025.0)]


def test_pairs_that_exclude_nothing_have_not_passed():
    """Where 2 % may well be lost they leave it open, with a remedy; 10 % are excluded."""
    verdict = judged(NOISY_PAIRS, delta=0.02)

    assert (Outcome.NOT_EXCLUDED, "hard") == (verdict.outcome, verdict.gate)
    assert "do not exclude a loss of the target size" in render(verdict)
    assert "Launch more pairs (--launches)" in verdict.advice
    for excluded in (
        judged(NOISY_PAIRS, delta=0.10),
        judged(UNCHANGED_ON_A_GPU, m.ITL, delta=0.02),
    ):
        assert (Outcome.PASSED, "hard") == (excluded.outcome, excluded.gate)


def test_pairs_that_exclude_nothing_fail_a_strict_gate():
    """As a baseline that excludes nothing does; a required gate leaves them open."""
    verdict = judged(NOISY_PAIRS, delta=0.02)

    assert is_red(verdict.outcome, verdict.gate, "strict")
    assert not is_red(verdict.outcome, verdict.gate, "required")


def test_a_loss_beyond_the_threshold_is_never_report_only():
    """Pairs that agree only on some loss are INCONCLUSIVE, which fails with --gate=required."""
    result = judged(
        [(1000.0, 970.0), (1000.0, 925.0), (1000.0, 1000.0)], delta=0.02
    )
    assert (Outcome.INCONCLUSIVE, "hard") == (result.outcome, result.gate)


@pytest.mark.parametrize(
    "metric",
    [
        "output_throughput",
        "ttft_median_ms",
        "kv_cache_tokens",
        "memory_peak_bytes",
    ],
)
@pytest.mark.parametrize("hardware", ["h200x2", "cpu-x2"])
def test_pairs_that_agree_pass(metric, hardware):
    """However much is taken for granted of the metric: else nothing of it could ever pass."""
    case = msgspec.structs.replace(m.ITL, metric=metric, gate="hard")
    result = judge_pairs(case, [(100.0, 100.0)] * 3, hardware)
    assert (Outcome.PASSED, "") == (result.outcome, result.report_only_reason)


def test_pairs_that_happen_to_agree_prove_little_of_a_noisy_metric():
    """TTFT varies by a tenth: three pairs at 7 % are no certain loss, though they agree."""
    first_token = msgspec.structs.replace(
        m.ITL, metric="ttft_median_ms", gate="hard"
    )

    assert (
        Outcome.INCONCLUSIVE
        == judged(
            [(100.0, 107.0), (100.0, 107.5), (100.0, 105.0)], first_token
        ).outcome
    )
    assert (
        Outcome.REGRESSED
        == judged(
            [(100.0, 111.0), (100.0, 112.0), (100.0, 111.5)], first_token
        ).outcome
    )


def test_floor_of_a_first_token():
    """2 ms more are nothing, however large a part of 10 ms they are; and the message says so."""
    first_token = msgspec.structs.replace(
        m.ITL, metric="ttft_median_ms", gate="hard"
    )
    result = judged([(10.0, 12.0), (10.0, 12.1), (10.0, 12.0)], first_token)

    assert (Outcome.PASSED, "hard") == (result.outcome, result.gate)
    assert "A loss of less than 3 ms is never a regression." in render(result)
    assert ("+30.0 %", "+20.3 %") == (allowed(result), change_of(result))
    assert "threshold +30.0 %" in result.summary


def change_of(result):
    """As a table shows it, without its word."""
    return change(result).partition(" (")[0]


def test_allowed_is_the_threshold_where_that_is_larger():
    """3 ms of 100 ms are less than it, and a throughput has no floor."""
    first_token = msgspec.structs.replace(m.ITL, metric="ttft_median_ms")
    slow = judged([(100.0, 101.0)] * 3, first_token)
    throughput = judged([(1000.0, 990.0)] * 3)

    for result in (slow, throughput):
        assert result.threshold == pytest.approx(result.allowed)


@pytest.mark.parametrize(
    "pairs", [[], [(1.0, 1.0)] * 2, [(1.0, 0.0)] * 3, [(1.0, float("nan"))] * 3]
)
def test_too_few_or_impossible_pairs_are_invalid(pairs):
    """Two pairs, a zero or a NaN are no verdict."""
    assert Outcome.INVALID == judged(pairs).outcome


def test_reported_case_stays_reported():
    """The case's own gate mode is the verdict's."""
    case = msgspec.structs.replace(m.THROUGHPUT, gate="report")
    assert "report" == judged([(1000.0, 900.0)] * 3, case).gate


def test_message_has_interval_and_threshold():
    """Both values, interval of the loss, threshold and target effect."""
    message = render(
        judged([(1000.0, 899.0), (1000.0, 900.0), (1000.0, 901.0)])
    )
    for part in (
        "900 tok/s, -10.0 % vs the base build 1,000 tok/s, threshold -3.3 %",
        "90 % interval of the loss",
    ):
        assert part in message


def test_either_direction_of_a_ratio_is_doubted_half_as_much():
    """Where the direction was chosen by what was lost; a plain case has one direction."""
    losses = (0.94, 0.96, 0.95)
    pairs = [(1000.0, 1000.0 * factor) for factor in losses]
    metric = METRICS["output_throughput"]

    def level(case, metric):
        return render(judge_pairs(case, pairs, "h200x2", metric=metric))

    assert "95 % interval of the loss" in level(m.RATIO, metric)
    assert "90 % interval of the loss" in level(m.RATIO, None)
    assert "90 % interval of the loss" in level(m.THROUGHPUT, metric)


@pytest.mark.parametrize(
    ("candidates", "outcome", "needed"),
    [
        ((900.0, 900.0, 900.0), Outcome.REGRESSED, 0),
        ((960.0, 900.0, 1000.0), Outcome.INCONCLUSIVE, PAIRS),
        ((960.0, 900.0, 1000.0) * 2, Outcome.REGRESSED, 0),
        ((960.0, 1040.0, 1000.0), Outcome.NOT_EXCLUDED, 0),
    ],
)
def test_a_loss_in_doubt_is_worth_three_pairs_once(candidates, outcome, needed):
    """Six decide. One that the pairs agree on is in none, nor one below the threshold."""
    decision = judged([(1000.0, value) for value in candidates])

    assert (outcome, needed) == (decision.outcome, decision.needs_launches)
