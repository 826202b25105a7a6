"""Facts: each that no recorded launch had is a change, and red; operators are named."""

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.judge import facts
from perfgate.judge.gate import judge
from perfgate.judge.verdict import Outcome
from perfgate.load.workload import Workload
from tests.support import builders as m

BATCH = Workload(name="decode", num_prompts=8, max_concurrency=8)
HELD = msgspec.structs.replace(m.DENSE_CPU, tensor_parallel_size=1, held=True)
SETTINGS = Case(
    experiment="E21",
    metric="engine_settings",
    numerator=Load(server=m.DENSE_CPU),
)
OPERATORS = Case(
    experiment="E21",
    metric="work_operators",
    numerator=Load(server=HELD, workload=BATCH),
)


def with_facts(samples, *launches):
    """The samples with the facts of each launch."""
    return tuple(
        msgspec.structs.replace(sample, facts=facts_of_launch)
        for sample, facts_of_launch in zip(samples, launches, strict=True)
    )


def verdict(case, now, recorded):
    """The decision on one launch with these facts, against launches with those."""
    value = sum(int(n) for n in now.values() if n.isdigit()) or len(now)
    values = [
        float(sum(int(n) for n in old.values() if n.isdigit()) or len(old))
        for old in recorded
    ]
    baseline = m.recorded(case, values, None)
    launches = with_facts(baseline.metric.launches, *recorded)
    seen = m.seen(case, float(value))
    observation = type(seen)(
        **{**vars(seen), "samples": with_facts(seen.samples, now)}
    )
    return judge(case, observation, baseline.with_launches(launches))


def test_equal_facts_pass():
    """Every setting as before; the message says that any other one would be seen."""
    settings = {"graphs": "off", "chunked_prefill_tokens": "4096"}
    decision = verdict(SETTINGS, settings, [settings])
    assert Outcome.PASSED == decision.outcome
    assert "all 2 are those of the baseline" in decision.summary


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (
            {"graphs": "off", "chunked_prefill_tokens": "64"},
            "1 of 2 differ from the baseline: chunked_prefill_tokens 4096 -> 64",
        ),
        ({"graphs": "off"}, "chunked_prefill_tokens 4096 -> none"),
    ],
)
def test_another_setting_is_red(now, expected):
    """It is named with both values, also where it is gone; no launch more is asked for."""
    recorded = {"graphs": "off", "chunked_prefill_tokens": "4096"}
    decision = verdict(SETTINGS, now, [recorded])
    assert Outcome.REGRESSED == decision.outcome
    assert expected in decision.summary
    assert decision.needs_launches == 0


def test_setting_that_nobody_had_read_is_unknown():
    """A newer perfgate reads more of a log; the store is none the wiser."""
    recorded = {"graphs": "off"}
    decision = verdict(
        SETTINGS, recorded | {"async_scheduling": "on"}, [recorded]
    )
    assert Outcome.PASSED == decision.outcome


def test_any_recorded_value_is_as_before():
    """Where recorded launches differ in a fact, each of their values is known."""
    recorded = [{"graphs": "off"}, {"graphs": "on"}]
    for value in ("off", "on"):
        comparison = facts.compare([{"graphs": value}], recorded)
        assert Outcome.PASSED == comparison.outcome
    comparison = facts.compare([{"graphs": "piecewise"}], recorded)
    assert "graphs off or on -> piecewise" in comparison.summary


def test_one_operator_more_in_a_step_is_red_and_named():
    """16 in 3,459 are 0.46 %: beyond the threshold, with the operator in the details."""
    recorded = {"aten.mm.default": "288", "aten.add.Tensor": "3171"}
    decision = verdict(
        OPERATORS, recorded | {"aten.mm.default": "304"}, [recorded]
    )
    assert Outcome.REGRESSED == decision.outcome
    assert any(
        "aten.mm.default 288 -> 304" in line for line in decision.details
    )
    assert decision.needs_launches == 0


def test_equal_operators_pass():
    """The details say that they are the same; what would have been seen is told."""
    recorded = {"aten.mm.default": "288", "aten.add.Tensor": "3171"}
    decision = verdict(OPERATORS, recorded, [recorded, recorded])
    assert Outcome.PASSED == decision.outcome
    assert any("each as often" in line for line in decision.details)
    assert decision.mde < 0.006


def test_without_recorded_facts_nothing_is_compared():
    """A baseline with the number alone says nothing of the settings."""
    decision = judge(
        SETTINGS, m.seen(SETTINGS, 1.0), m.recorded(SETTINGS, [1.0], None)
    )
    assert Outcome.INCOMPARABLE == decision.outcome


def test_many_changes_are_counted():
    """A message names those that changed most, of which the last is "and 14 more"."""
    before = {f"operator {n:02}": "1" for n in range(20)}
    now = {name: str(2 + n) for n, name in enumerate(before)}
    comparison = facts.compare([now], [before])
    assert "baseline: operator 19 1 -> 21; operator 18" in comparison.summary
    assert comparison.summary.endswith("and 14 more")
