"""Start kind: cold starts against cold ones, warm against warm, and the wide rule otherwise."""

import dataclasses

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.engines.chosen import NOT_SEEN
from perfgate.judge.gate import judge
from perfgate.judge.policy import START_UP, START_UP_ALIKE, policy_of
from perfgate.judge.start_kind import alike
from perfgate.judge.verdict import Outcome
from perfgate.results.samples import RunIndex, Sample
from tests.support import builders as m

READY = Case(experiment="E12", metric="ready_s", numerator=Load(server=m.MOE))
# Two cold starts and three warm ones.
RECORDED = {"cold": (180.0, 185.0), "warm": (60.0, 62.0, 61.0)}


def baseline():
    """Starts of both kinds."""
    values = [value for starts in RECORDED.values() for value in starts]
    kinds = [kind for kind, starts in RECORDED.items() for _ in starts]
    recorded = m.recorded(READY, values, delta=None)
    launches = []
    for sample, kind in zip(recorded.metric.launches, kinds, strict=True):
        launches.append(msgspec.structs.replace(sample, start=kind))
    return recorded.with_launches(launches)


def seen(seconds, kind):
    """One start of this kind."""
    observation = m.seen(READY, seconds)
    (sample,) = observation.samples
    sample = msgspec.structs.replace(sample, start=kind)
    return dataclasses.replace(observation, samples=(sample,))


def outcome(seconds, kind):
    """How a start is judged."""
    return judge(READY, seen(seconds, kind), baseline(), today=m.TODAY).outcome


def test_a_start_is_judged_by_those_of_its_kind():
    """A cold start takes three times as long, and is no loss."""
    assert Outcome.PASSED == outcome(186.0, "cold")
    assert Outcome.PASSED == outcome(61.0, "warm")


def test_a_warm_start_as_long_as_a_cold_one_is_red():
    """The compile cache was found, and yet it took three times as long."""
    assert Outcome.REGRESSED == outcome(186.0, "warm")


@pytest.mark.parametrize(
    ("factor", "cold", "warm"),
    [
        (1.2, Outcome.PASSED, Outcome.PASSED),
        (1.8, Outcome.NOT_EXCLUDED, Outcome.REGRESSED),
        (2.5, Outcome.REGRESSED, Outcome.REGRESSED),
    ],
)
def test_cold_starts_vary_more_than_warm_ones(factor, cold, warm):
    """Unchanged builds took 45 and 78 s: what was read and compiled before differs."""
    assert cold == outcome(182.5 * factor, "cold")
    assert warm == outcome(61.0 * factor, "warm")


def test_a_start_of_unknown_kind_has_the_wide_threshold():
    """It may have compiled."""
    assert Outcome.PASSED == outcome(186.0, "")
    assert Outcome.REGRESSED == outcome(900.0, "")


def test_a_kind_that_was_not_recorded_has_the_wide_threshold():
    """Only warm starts are recorded."""
    recorded = baseline()
    warm = [row for row in recorded.metric.launches if row.start == "warm"]
    narrowed, policy = alike(
        recorded.with_launches(warm), seen(100.0, "cold"), START_UP
    )

    assert START_UP == policy
    assert 3 == len(narrowed.metric.launches)


def session(*starts):
    """A run with these starts, one after the other."""
    samples = []
    for launch, (seconds, kind) in enumerate(starts):
        (sample,) = seen(seconds, kind).samples
        samples.append(msgspec.structs.replace(sample, launch=launch))
    return dataclasses.replace(seen(*starts[0]), samples=tuple(samples))


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        ([(184.0, "cold"), (61.0, "warm"), (62.0, "warm")], Outcome.PASSED),
        ([(450.0, "cold"), (61.0, "warm"), (61.0, "warm")], Outcome.REGRESSED),
        (
            [(182.0, "cold"), (186.0, "warm"), (186.0, "warm")],
            Outcome.REGRESSED,
        ),
        ([(182.0, ""), (186.0, "warm"), (186.0, "warm")], Outcome.REGRESSED),
    ],
    ids=["unchanged", "cold start lost", "warm starts lost", "unknown first"],
)
def test_each_kind_is_judged_by_its_own(starts, expected):
    """The first start of a session is cold, and the two that are asked for are warm.

    Together a cold start of 2.5 times as long had passed, at the wide threshold.
    """
    result = judge(READY, session(*starts), baseline(), today=m.TODAY)

    assert (expected, 0) == (result.outcome, result.needs_launches)
    assert any("compared with their own kind" in row for row in result.details)


def test_starts_of_kinds_that_were_not_recorded_count_together():
    """The baseline does not know the kinds of its starts."""
    recorded = m.recorded(READY, [60.0, 180.0], delta=None)
    both = session((180.0, "cold"), (60.0, "warm"))

    result = judge(READY, both, recorded, today=m.TODAY)

    assert (Outcome.PASSED, 2) == (result.outcome, result.launches)
    assert START_UP == alike(baseline(), both, START_UP)[1]


def test_samples_of_a_start_know_their_kind():
    """Other metrics of the server have none."""
    assert "" == Sample(run="r", launch=0, value=1.0).start


@pytest.mark.parametrize("ceiling", [0.5, 3.0])
def test_a_ceiling_leaves_the_kinds_apart(ceiling):
    """A warm start of 2.5 times as long had passed where a run asked for a ceiling."""
    observation = dataclasses.replace(
        seen(150.0, "warm"), fail_over={"start_up": ceiling}
    )
    policy = policy_of(READY, "h200x2", observation.fail_over)

    narrowed, alike_policy = alike(baseline(), observation, policy)

    assert (3, ceiling) == (
        len(narrowed.metric.launches),
        alike_policy.fail_over,
    )
    assert START_UP_ALIKE.smallest == alike_policy.smallest
    decision = judge(READY, observation, baseline(), today=m.TODAY)
    assert Outcome.REGRESSED == decision.outcome


@pytest.mark.parametrize(
    ("state", "start"),
    [("hit", "warm"), ("cold", "cold"), (NOT_SEEN, ""), ("off", "")],
)
def test_the_compile_cache_tells_the_kind(state, start):
    """As vLLM's log names it."""
    launch = m.launched(server=m.MOE, values={"ready_s": 60.0})
    launch = msgspec.structs.replace(launch, facts={"compile_cache": state})
    index = RunIndex(m.bare_run(launches=(launch,)))

    (sample,) = index.samples_of(m.MOE.key, None, "ready_s")

    assert start == sample.start


def test_two_starts_of_an_unknown_kind_do_not_contradict_each_other():
    """The first one of a session may be cold, and the second one warm."""
    launches = []
    for seconds in (480.0, 60.0):
        launches += seen(seconds, "").samples
    both = dataclasses.replace(seen(60.0, ""), samples=tuple(launches))

    assert (
        Outcome.PASSED == judge(READY, both, baseline(), today=m.TODAY).outcome
    )
