"""Verdicts of single launches: thresholds, fast pass, escalation, messages."""

import dataclasses
import datetime
import math
import random
import statistics

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.cases import Case, Load
from perfgate.judge import gate, measured_case
from perfgate.judge.baseline_schema import BaselineFile, Known
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge, judge_run
from perfgate.judge.noise import loss_threshold, noise_of_baseline
from perfgate.judge.observation import RunReader
from perfgate.judge.policy import policy_for
from perfgate.judge.verdict import Outcome, is_red
from perfgate.load.metrics import METRICS
from perfgate.report.verdict_text import render
from tests.support import builders as m

STEADY = [1000.0 * factor for factor in m.QUIET]


def verdict(case, values, baseline, **more):
    """The verdict on launches with these values."""
    return judge(case, m.seen(case, *values), baseline, today=m.TODAY, **more)


def test_unchanged_passes_without_escalation():
    """One launch that equals the baseline passes fast: no fresh launches follow."""
    result = verdict(m.THROUGHPUT, [1000.0], m.recorded(m.THROUGHPUT, STEADY))
    assert (Outcome.PASSED, 0) == (result.outcome, result.needs_launches)


def test_threshold_is_065_of_the_target_effect():
    """A quiet baseline with a target effect of 2 % has its threshold at 1.305 % lost.

    As a logarithm: 0.65 x ln(1/0.98) = 1.313 %.
    """
    result = verdict(m.THROUGHPUT, [1000.0], m.recorded(m.THROUGHPUT, STEADY))
    assert pytest.approx(1 - 0.98**0.65) == result.threshold


def test_escalates_where_one_launch_cannot_tell():
    """Three launches detect 2 % lost; one varies by 0.8 % (t(0.995; 5) = 4.03 of 0.19 %).

    So 1.1 % lost passes fast, and 1.3 %, still within the threshold, needs two
    fresh launches.
    """
    base = m.recorded(m.THROUGHPUT, STEADY)
    found = [verdict(m.THROUGHPUT, [value], base) for value in (989.0, 987.0)]
    assert [(0, Outcome.PASSED), (2, Outcome.PASSED)] == [
        (v.needs_launches, v.outcome) for v in found
    ]


def test_escalates_only_once():
    """With three launches the decision stands, however close to the threshold."""
    result = verdict(
        m.THROUGHPUT, [988.0, 988.0, 988.0], m.recorded(m.THROUGHPUT, STEADY)
    )
    assert (Outcome.PASSED, 0) == (result.outcome, result.needs_launches)


def test_decides_on_all_launches():
    """A bad first launch and two good ones pass: mean loss (3 + 0 + 0) / 3 = 1 %, below 1.3 %."""
    base = m.recorded(m.THROUGHPUT, STEADY)
    assert (
        Outcome.PASSED
        == verdict(m.THROUGHPUT, [970.0, 1000.0, 1000.0], base).outcome
    )


@pytest.mark.parametrize(
    ("case", "worse", "better"),
    [
        (m.THROUGHPUT, 970.0, 1030.0),
        (m.ITL, 1030.0, 970.0),
        (m.RATIO, 970.0, 1030.0),
    ],
    ids=["higher is better", "lower is better", "ratio"],
)
def test_direction(case, worse, better):
    """3 % in the bad direction is a regression, 3 % in the good one an improvement."""
    base = m.recorded(case, STEADY)
    outcomes = [
        verdict(case, [value] * 3, base).outcome for value in (worse, better)
    ]
    assert [Outcome.REGRESSED, Outcome.IMPROVED] == outcomes


def test_two_sided_ratio_fails_in_both_directions():
    """On the CPU a ratio that moves by 30 % either way is a regression.

    Nobody can tell which side moved.
    """
    base = m.recorded(m.CPU_RATIO, STEADY, delta=0.15)
    outcomes = [
        verdict(m.CPU_RATIO, [value] * 3, base).outcome
        for value in (700.0, 1300.0)
    ]
    assert [Outcome.REGRESSED, Outcome.REGRESSED] == outcomes


def test_floor_spares_small_absolute_losses():
    """TTFT from 12 to 14.5 ms is 21 % more but below the floor of 3 ms; from 12 to 16 ms is not."""
    base = m.recorded(
        m.TTFT, [12.0 * factor for factor in m.QUIET], delta=0.10, floor=3.0
    )
    assert [Outcome.PASSED, Outcome.REGRESSED] == [
        verdict(m.TTFT, [v] * 3, base).outcome for v in (14.5, 16.0)
    ]


def test_no_baseline_says_how_to_get_one():
    """Without a baseline the verdict names the commands that make one."""
    result = verdict(m.THROUGHPUT, [1000.0], None)
    assert Outcome.NO_BASELINE == result.outcome
    assert "`perfgate accept RUN`" in render(result)
    assert "perfgate accept" in render(result)


def test_other_identity_is_incomparable():
    """A run with made-up weights is not compared with real ones; both values are named."""
    result = judge(
        m.THROUGHPUT,
        m.seen(m.THROUGHPUT, 500.0, weights="dummy"),
        m.recorded(m.THROUGHPUT, STEADY),
    )
    assert Outcome.INCOMPARABLE == result.outcome
    assert "weights: dummy now, auto in the baseline" in render(result)


def test_other_definition_is_incomparable():
    """A metric that is computed differently by now is not compared."""
    base = m.recorded(
        m.THROUGHPUT,
        STEADY,
        definition="output tokens / wall time of the shell",
    )
    result = verdict(m.THROUGHPUT, [1000.0], base)
    assert Outcome.INCOMPARABLE == result.outcome
    assert "wall time of the shell" in render(result)


def test_context_is_printed_not_judged():
    """Another driver is told and does not forbid the comparison."""
    seen = m.seen(m.THROUGHPUT, 1000.0)
    newer = type(seen)(
        **{**vars(seen), "context": {"driver": "590.2", "vllm": "0.26.0"}}
    )
    result = judge(m.THROUGHPUT, newer, m.recorded(m.THROUGHPUT, STEADY))
    assert Outcome.PASSED == result.outcome
    assert "driver: 590.2 now, 580.1 in the baseline" in render(result)


def test_launch_without_valid_repetition_is_invalid_and_escalates_once():
    """A first launch without a valid repetition asks for two more.

    If most stay invalid, the verdict is INVALID.
    """
    base = m.recorded(m.THROUGHPUT, STEADY)
    first = verdict(m.THROUGHPUT, [None], base)
    again = verdict(m.THROUGHPUT, [None, None, 1000.0], base)
    mended = verdict(m.THROUGHPUT, [None, 1000.0, 1000.0], base)
    assert (Outcome.INVALID, 2) == (first.outcome, first.needs_launches)
    assert (Outcome.INVALID, 0) == (again.outcome, again.needs_launches)
    assert Outcome.PASSED == mended.outcome
    assert "silent for 1,400 ms" in render(mended)


def test_nothing_measured_is_invalid():
    """A case without a single launch does not pass and asks for no launches."""
    result = verdict(m.THROUGHPUT, [], m.recorded(m.THROUGHPUT, STEADY))
    assert (Outcome.INVALID, 0) == (result.outcome, result.needs_launches)


def test_a_slow_launch_beside_unchanged_ones_is_a_regression():
    """One launch 30 % down and two unchanged: the start decides how fast it is."""
    result = verdict(
        m.THROUGHPUT, [700.0, 1000.0, 1000.0], m.recorded(m.THROUGHPUT, STEADY)
    )
    assert Outcome.REGRESSED == result.outcome
    assert "1 of 3 launches" in result.summary


def test_contradicting_launches_are_inconclusive():
    """One launch 50 % down, one unchanged and one faster: they do not agree."""
    result = verdict(
        m.THROUGHPUT, [500.0, 1000.0, 1200.0], m.recorded(m.THROUGHPUT, STEADY)
    )
    assert Outcome.INCONCLUSIVE == result.outcome
    assert "(CV)" in render(result)


def test_agreeing_launches_are_a_regression():
    """Three launches that all lost about 10 % are a regression.

    Even though they vary more than the baseline.
    """
    result = verdict(
        m.THROUGHPUT, [890.0, 900.0, 910.0], m.recorded(m.THROUGHPUT, STEADY)
    )
    assert Outcome.REGRESSED == result.outcome


@pytest.mark.parametrize("recorded", [[], STEADY])
def test_what_was_injected_is_told(recorded):
    """Whatever the advice: the run becomes no baseline."""
    launches = dataclasses.replace(
        m.seen(m.THROUGHPUT, *[800.0] * 3), injected="arguments --enforce-eager"
    )
    result = judge(
        m.THROUGHPUT,
        launches,
        m.recorded(m.THROUGHPUT, recorded) if recorded else None,
    )

    assert (
        Outcome.REGRESSED if recorded else Outcome.NO_BASELINE
    ) == result.outcome
    assert (
        "Injected: arguments --enforce-eager. `accept` refuses such a run."
        in render(result)
    )


def test_few_launches_count_beside_an_assumed_noise_and_say_so():
    """Three launches have 2 degrees of freedom, the assumed 1.1 % has 4: t is 5.208."""
    result = verdict(
        m.THROUGHPUT, [1000.0], m.recorded(m.THROUGHPUT, STEADY[:3])
    )
    own = statistics.variance(map(math.log, STEADY[:3]))
    sigma = math.sqrt((2 * own + 4 * 0.011**2) / 6)
    bound = 5.208 * sigma * math.sqrt(1 + 1 / 3)

    assert 1 - math.exp(-bound) == pytest.approx(result.threshold, rel=1e-3)
    assert "1.1 % is assumed until more are recorded" in render(result)


def test_six_launches_of_two_runs_do_not_tell_the_noise():
    """They must come from three runs, or the machine's part of the noise is unknown."""
    result = verdict(
        m.THROUGHPUT,
        [1000.0],
        m.recorded(m.THROUGHPUT, STEADY, delta=0.05, runs=2),
    )
    assert "1.1 % is assumed until more are recorded" in render(result)


def test_single_recorded_launch_does_judge():
    """One recorded launch of 1,000: half of the throughput lost is a regression, 2 % is not."""
    base = m.recorded(m.THROUGHPUT, [1000.0], delta=0.05)
    outcomes = [
        verdict(m.THROUGHPUT, [value] * 3, base).outcome
        for value in (500.0, 980.0)
    ]
    assert [Outcome.REGRESSED, Outcome.PASSED] == outcomes


def test_target_effect_below_the_noise_never_narrows_the_threshold():
    """A target effect of 0.5 % on launches that vary by 3 %: their noise decides.

    4 % less is no regression, and a loss of 5 % is not excluded.
    """
    noisy = [1000.0, 1040.0, 960.0, 1030.0, 970.0, 1000.0]
    result = verdict(
        m.THROUGHPUT, [960.0] * 3, m.recorded(m.THROUGHPUT, noisy, delta=0.005)
    )
    assert Outcome.NOT_EXCLUDED == result.outcome
    assert result.threshold > 0.1


def test_ratio_names_both_sides_and_who_moved():
    """Dense over sparse falls because the dense server fell: both values, and which side moved."""
    results = m.run(
        {
            m.DENSE_LOAD: {"output_throughput": [9000.0] * 3},
            m.MOE_LOAD: {"output_throughput": [3000.0] * 3},
        },
        [m.RATIO],
    )
    observed = RunReader(results).observe(m.RATIO)
    base = m.recorded(m.RATIO, [3.4 * f for f in m.QUIET])
    points = tuple(
        msgspec.structs.replace(
            p, numerator=p.value * 3000.0, denominator=3000.0
        )
        for p in base.metric.launches
    )
    metric = msgspec.structs.replace(base.metric, launches=points)
    baseline = type(base)(
        base.path, observed.identity, observed.context, metric
    )
    result = judge(m.RATIO, observed, baseline)
    assert Outcome.REGRESSED == result.outcome
    assert "The numerator moved: vllm-llama-3.1-8b-tp2, closed-c32." in render(
        result
    )
    denominator = (
        "Denominator: vllm-mixtral-8x7b-tp2, closed-c32: 3,000 tok/s, "
        "unchanged vs the baseline 3,000 tok/s."
    )
    assert denominator in render(result)
    assert "numerator" == result.moved


def test_message_says_tried_seen_do():
    """The first line has change, threshold and decision; the last has the next command."""
    message = render(
        verdict(m.THROUGHPUT, [900.0] * 3, m.recorded(m.THROUGHPUT, STEADY))
    )
    decision, launches, baseline, *_, do = message.splitlines()
    assert (
        "vllm mixtral-8x7b-tp2, closed-c32, output_throughput: 900 tok/s, -10.0 % vs"
        in decision
    )
    assert "the baseline 1,000 tok/s, threshold -1.3 %" in decision
    assert "3 launches" in launches
    assert "6 launches of 6 runs" in baseline
    assert "--only 'vllm-mixtral-8x7b-tp2/closed-c32/output_throughput'" in do


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("case", ""),
        ("baseline", "set in the baseline"),
        (
            "platform",
            "the family e2el_tail is not judged on cpu-some-cpu-avx2-x2",
        ),
        ("tail", "the family tail is not judged on h200x2"),
    ],
)
def test_report_only(how, why):
    """A case, its baseline, the platform or the metric can each make a verdict report-only.

    The platform: percentiles on the CPU. The metric: p99. The verdict says why it does
    not judge what was asked of it.
    """
    cpu = Case(
        experiment="E1",
        metric="e2el_p95_ms",
        numerator=Load(server=m.MOE_CPU, workload=m.CLOSED),
    )
    case, more = {
        "case": (msgspec.structs.replace(m.THROUGHPUT, gate="report"), {}),
        "baseline": (m.THROUGHPUT, {"gate": "report"}),
        "platform": (cpu, {}),
        "tail": (m.TTFT_P99, {}),
    }[how]
    worse = 400.0
    if how in ("platform", "tail"):
        worse = 2000.0
    result = verdict(case, [worse], m.recorded(case, STEADY, **more))
    assert ("report", Outcome.REGRESSED, 0, why) == (
        result.gate,
        result.outcome,
        result.needs_launches,
        result.report_only_reason,
    )


KNOWN = Known(
    until="2026-12-31",
    reason="kernel tuning lost, upstream fix pending",
    worse_by=0.10,
)


def test_known_regression_passes_until_its_day():
    """A loss that was accepted passes with its reason, and fails from the day after."""
    base = m.recorded(m.THROUGHPUT, STEADY, known=KNOWN)
    on_time = judge(
        m.THROUGHPUT,
        m.seen(m.THROUGHPUT, 900.0),
        base,
        today=datetime.date(2026, 12, 31),
    )
    late = judge(
        m.THROUGHPUT,
        m.seen(m.THROUGHPUT, 900.0),
        base,
        today=datetime.date(2027, 1, 1),
    )
    assert [Outcome.PASSED, Outcome.REGRESSED] == [
        on_time.outcome,
        late.outcome,
    ]
    assert "upstream fix pending" in render(on_time)


def test_known_regression_that_is_gone_fails():
    """Once the loss is gone the entry must go too, or it would hide the next one."""
    result = verdict(
        m.THROUGHPUT,
        [1000.0] * 3,
        m.recorded(m.THROUGHPUT, STEADY, known=KNOWN),
    )
    assert Outcome.INVALID == result.outcome
    assert "the accepted loss of 10.0 % is gone" in render(result)
    assert is_red(result.outcome, result.gate, "advisory")


def test_known_regression_does_not_hide_a_greater_one():
    """10 % were accepted, 20 % were not."""
    result = verdict(
        m.THROUGHPUT, [800.0] * 3, m.recorded(m.THROUGHPUT, STEADY, known=KNOWN)
    )
    assert Outcome.REGRESSED == result.outcome


def test_known_move_does_not_hide_one_the_other_way():
    """A ratio on a CPU was accepted to be 30 % higher; 30 % lower is another matter."""
    base = m.recorded(
        m.CPU_RATIO,
        [2.0 * f for f in m.QUIET],
        delta=0.15,
        known=msgspec.structs.replace(KNOWN, worse_by=0.3, change=0.3),
    )
    outcomes = [
        judge(m.CPU_RATIO, m.seen(m.CPU_RATIO, *[v] * 3), base, today=m.TODAY)
        for v in (2.6, 1.4)
    ]
    assert [Outcome.PASSED, Outcome.REGRESSED] == [
        result.outcome for result in outcomes
    ]
    assert "The value now moved the other way." in render(outcomes[1])


NOISY = (1000, 1100, 900, 1050, 950, 1000)


def test_what_drowns_in_noise_does_not_pass():
    """Launches that vary by 7 % exclude no loss of 5 %, at whatever value.

    A loss beyond what their noise hides fails the run.
    """
    noisy = m.recorded(m.THROUGHPUT, NOISY, delta=None)
    equal, within, beyond = (
        verdict(m.THROUGHPUT, [value] * 3, noisy)
        for value in (1000.0, 900.0, 400.0)
    )
    assert [Outcome.NOT_EXCLUDED, Outcome.NOT_EXCLUDED, Outcome.REGRESSED] == [
        each.outcome for each in (equal, within, beyond)
    ]
    assert {"hard"} == {each.gate for each in (equal, within, beyond)}
    assert not is_red(equal.outcome, equal.gate, "required")
    assert is_red(equal.outcome, equal.gate, "strict")


def test_an_owner_may_let_a_larger_loss_pass():
    """With a target effect of 50 % the same launches pass: such a loss is excluded."""
    owned = m.recorded(m.THROUGHPUT, NOISY, delta=0.5, reason="shared host")
    within = verdict(m.THROUGHPUT, [900.0] * 3, owned)

    assert (Outcome.PASSED, "hard", 0.5) == (
        within.outcome,
        within.gate,
        within.fail_over,
    )
    assert within.excluded < 0.5


def test_a_first_launch_that_detects_nothing_does_not_pass():
    """One recorded TTFT, of an assumed noise of 10 %: half more is not excluded.

    Six times as much fails the run.
    """
    base = m.recorded(m.TTFT, [15.0], delta=0.10)
    within, beyond = (
        judge(m.TTFT, m.seen(m.TTFT, value), base) for value in (22.0, 90.0)
    )
    assert [(Outcome.NOT_EXCLUDED, "hard"), (Outcome.REGRESSED, "hard")] == [
        (v.outcome, v.gate) for v in (within, beyond)
    ]


def test_reported_only_says_so_also_where_it_is_worse():
    """A baseline that a person took out of the gate shows the reason, whatever the outcome."""
    base = m.recorded(m.THROUGHPUT, STEADY, gate="report", reason="shared host")
    told = [
        verdict(m.THROUGHPUT, [value] * 3, base) for value in (1000.0, 500.0)
    ]
    assert [Outcome.PASSED, Outcome.REGRESSED] == [
        each.outcome for each in told
    ]
    assert all(
        "Report-only: shared host" in render(each) and each.gate == "report"
        for each in told
    )


@pytest.mark.parametrize(
    ("values", "outcome", "more"),
    [
        ([None, 1000.0], Outcome.INVALID, 2),
        ([None, 1000.0, 1000.0], Outcome.PASSED, 0),
        ([None, None, 1000.0], Outcome.INVALID, 0),
        ([None, None], Outcome.INVALID, 0),
    ],
    ids=["died-once", "two-of-three", "one-of-three", "never-alive"],
)
def test_most_launches_must_count(values, outcome, more):
    """After a launch that died, its second try does not decide alone: two more do."""
    result = verdict(m.THROUGHPUT, values, m.recorded(m.THROUGHPUT, STEADY))
    assert (outcome, more) == (result.outcome, result.needs_launches)


def test_what_is_recorded_of_something_else_is_shown_and_not_judged():
    """The message has both values, so that a change of backend still says what it did to speed."""
    base = m.recorded(m.THROUGHPUT, STEADY)
    result = judge(
        m.THROUGHPUT, m.seen(m.THROUGHPUT, 900.0, weights="dummy"), base
    )
    assert (Outcome.INCOMPARABLE, -0.1) == (
        result.outcome,
        pytest.approx(result.change, abs=1e-4),
    )
    assert "By value alone: -10.0 % vs the baseline 1,000 tok/s." in render(
        result
    )


def test_unused_baselines(tmp_path):
    """Of two metrics recorded for a server and one case, the other one is unused.

    Another server's baselines are not.
    """
    store = Store(tmp_path)
    for case in (
        m.THROUGHPUT,
        msgspec.structs.replace(m.THROUGHPUT, numerator=m.DENSE_LOAD),
    ):
        metrics = {
            name: m.recorded(case, STEADY).metric
            for name in ("output_throughput", "itl_median_ms")
        }
        store.write(
            store.path(case, "h200x2"),
            BaselineFile(
                identity={}, context={}, provenance=(), metrics=metrics
            ),
        )
    assert [m.ITL.id] == gate.unused_baselines(
        [m.THROUGHPUT], m.hardware(), store
    )
    assert [] == gate.unused_baselines(
        [m.THROUGHPUT, m.ITL], m.hardware(), store
    )
    assert [] == gate.unused_baselines(
        [m.THROUGHPUT], m.hardware("h100"), store
    )


def test_unknown_metric_is_named():
    """A case with a metric that nobody defined is a failure that names it."""
    case = msgspec.structs.replace(m.THROUGHPUT, metric="vibes")
    with pytest.raises(measured_case.UnknownMetric, match="vibes"):
        judge(case, m.seen(case, 1.0), None)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(0.9, 1.1), min_size=1, max_size=12),
    st.lists(st.floats(0.5, 2.0), min_size=1, max_size=3),
    st.floats(0.02, 0.3),
)
def test_judgement_is_scale_free_and_consistent(base, now, delta):
    """Units do not matter, and a regression lies beyond its threshold.

    Worse values never turn a failed verdict into a passed one.
    """
    small = verdict(
        m.THROUGHPUT, now, m.recorded(m.THROUGHPUT, base, delta=delta)
    )
    large = verdict(
        m.THROUGHPUT,
        [1000 * v for v in now],
        m.recorded(m.THROUGHPUT, [1000 * v for v in base], delta=delta),
    )
    assert small.outcome == large.outcome
    if small.outcome in (Outcome.REGRESSED, Outcome.INCONCLUSIVE):
        assert small.worse_by > small.threshold
        worse = verdict(
            m.THROUGHPUT,
            [v * 0.9 for v in now],
            m.recorded(m.THROUGHPUT, base, delta=delta),
        )
        assert worse.outcome in (Outcome.REGRESSED, Outcome.INCONCLUSIVE)


def test_false_alarms_and_power_of_the_judge_itself():
    """300 unchanged runs with typical noise: at most 2 fail. A loss of 15 % fails at least 95 %."""
    rng = random.Random(7)

    def red(loss):
        base = m.recorded(
            m.THROUGHPUT,
            [1000 * math.exp(rng.gauss(0, 0.0107)) for _ in range(10)],
            delta=0.05,
        )
        now = [
            (1 - loss) * 1000 * math.exp(rng.gauss(0, 0.0107)) for _ in range(3)
        ]
        first = verdict(m.THROUGHPUT, now[:1], base)
        decided = (
            verdict(m.THROUGHPUT, now, base) if first.needs_launches else first
        )
        return is_red(decided.outcome, decided.gate, "strict")

    assert sum(red(0.0) for _ in range(300)) <= 2
    assert sum(red(0.15) for _ in range(300)) >= 285


def test_a_thousand_cases_of_ten_launches_are_judged(tmp_path):
    """1,000 cases with 10 recorded launches and 10 of the run: each has its verdict."""
    workloads = [
        msgspec.structs.replace(m.CLOSED, name=f"closed-{n}", num_prompts=n + 1)
        for n in range(100)
    ]
    metrics = [
        name
        for name, metric in METRICS.items()
        if name.endswith("_ms") or "throughput" in name
    ][:10]
    values = {
        Load(server=m.MOE, workload=workload): {
            name: [100.0] * 10 for name in metrics
        }
        for workload in workloads
    }
    cases = [
        Case(experiment="E1", metric=name, numerator=load)
        for load in values
        for name in metrics
    ]
    results = m.run(values, cases)
    store = Store(tmp_path)
    for load in values:
        mine = [case for case in cases if case.numerator == load]
        observed = RunReader(results).observe(mine[0])
        launches = [100.0 * factor for factor in (*m.QUIET, 1.0, 1.0, 1.0, 1.0)]
        metrics_of_file = {
            case.metric: m.recorded(case, launches).metric for case in mine
        }
        file = BaselineFile(
            identity=dict(observed.identity),
            context=dict(observed.context),
            provenance=(),
            metrics=metrics_of_file,
        )
        store.write(store.path(mine[0], observed.hardware_label), file)
    verdicts = judge_run(results, Store(tmp_path), m.TODAY)
    assert 1000 == len(verdicts)
    assert {Outcome.PASSED} == {v.outcome for v in verdicts}


def test_line_of_the_judge_is_that_of_the_policy():
    """What the verdict prints is what `policy` computes, back on the scale of fractions."""
    base = m.recorded(m.THROUGHPUT, STEADY)
    noise = noise_of_baseline(
        base.metric, policy_for("h200x2", "output_throughput", ratio=False)
    )
    line = loss_threshold(0.02, noise, 3, higher_is_better=True)
    assert (
        pytest.approx(1 - math.exp(-line))
        == verdict(m.THROUGHPUT, [1000.0] * 3, base).threshold
    )


def test_a_verdict_knows_how_commands_name_its_store(tmp_path):
    """So that a report can name it in a command for several rows."""
    store = Store(tmp_path, in_commands=" --baselines 'a b'")
    results = m.run(
        {m.MOE_LOAD: {"output_throughput": [990.0]}}, [m.THROUGHPUT]
    )

    (decision,) = judge_run(results, store)

    assert " --baselines 'a b'" == decision.store
    assert decision.store in decision.advice
