"""Saturation: streams double until the throughput stops growing; knee, goodput, preemptions."""

import itertools

import pytest

from perfgate.load import measurement, saturation, validity
from perfgate.load.repetition import LoadStep
from perfgate.load.workload import Synthetic, Workload
from tests.support import builders as m
from tests.support.fake_launch import FakeEngine
from tests.support.fake_suite import NO_LIMITS
from tests.support.load_targets import target_of

RAMP = Workload(
    name="ramp",
    prompts=Synthetic(input_len_tokens=4, output_len_tokens=4),
    num_prompts=4,
    max_concurrency=2,
    doubles_to=256,
    slo_ms=(("ttft", 1000.0), ("tpot", 100.0)),
)


def step(streams, throughput, goodput=1.0, preemptions=0):
    """One closed loop of a ramp."""
    return LoadStep(
        streams=streams,
        tokens_in_flight=8 * streams,
        preemptions=preemptions,
        values={"output_throughput": throughput, "request_goodput": goodput},
    )


@pytest.fixture
def measured(monkeypatch):
    """A server whose throughput grows up to 16 streams, and the steps that it was sent."""
    sent = []

    def measure(target, workload, index, **_):
        sent.append(workload)
        streams = workload.max_concurrency
        values = {
            "output_throughput": 100.0 * min(streams, 16),
            "request_goodput": 8.0 if streams <= 8 else 1.0,
        }
        return m.repetition(index, values, server_values={"preemptions": 0.0})

    monkeypatch.setattr(measurement, "measure", measure)
    monkeypatch.setattr(saturation, "_warm_up", lambda *_: None)
    return sent


def test_streams_double_until_throughput_stops_growing(measured):
    """32 and 64 give no more than 16, so 128 is not tried."""
    result = saturation.measure(None, RAMP, 0)

    sizes = [2, 4, 8, 16, 32, 64]
    assert sizes == [step.streams for step in result.steps]
    assert sizes == [row.max_concurrency for row in measured]
    assert [3 * size for size in sizes] == [row.num_prompts for row in measured]
    assert 1600.0 == result.values["saturated_throughput"]
    assert 16.0 == result.values["knee_streams"]
    assert 8.0 == result.values["saturated_goodput"]
    assert () == result.invalid


def test_steps_have_prompts_of_their_own(measured):
    """A prefix cache never answers one step out of another."""
    saturation.measure(None, RAMP, 0)

    assert 6 == len({row.seed for row in measured})


def test_the_ramp_ends_at_its_limit():
    """The last step is the largest power of two within it."""
    sizes = [row.max_concurrency for row in saturation.steps(RAMP)]

    assert [2, 4, 8, 16, 32, 64, 128, 256] == sizes


def test_one_disturbed_step_does_not_end_the_ramp(monkeypatch):
    """Four streams gave no more than two, and eight do."""
    throughputs = {2: 100.0, 4: 90.0, 8: 300.0, 16: 310.0, 32: 290.0}

    def measure(target, workload, index, **_):
        value = throughputs[workload.max_concurrency]
        return m.repetition(index, {"output_throughput": value})

    monkeypatch.setattr(measurement, "measure", measure)
    monkeypatch.setattr(saturation, "_warm_up", lambda *_: None)

    result = saturation.measure(None, RAMP, 0)

    assert list(throughputs) == [step.streams for step in result.steps]


def test_a_step_that_does_not_count_makes_the_ramp_invalid(monkeypatch):
    """Not even the second time: its reason names the streams, and no further step is sent."""
    seeds = []

    def measure(target, workload, index, **_):
        seeds.append(workload.seed)
        return m.repetition(index, {}, invalid=m.SILENT)

    monkeypatch.setattr(measurement, "measure", measure)
    monkeypatch.setattr(saturation, "_warm_up", lambda *_: None)

    result = saturation.measure(None, RAMP, 0)

    assert (
        "2 streams: all streams fell silent for 1,400 ms",
    ) == result.invalid
    assert 1 == len(result.steps)
    assert 2 == len(set(seeds)) == len(seeds)


def test_a_step_is_sent_again_before_it_spoils_the_ramp(monkeypatch):
    """Every other one is disturbed, and the ramp counts."""
    disturbed = itertools.cycle([m.SILENT, ()])

    def measure(target, workload, index, **_):
        return m.repetition(
            index, {"output_throughput": 100.0}, invalid=next(disturbed)
        )

    monkeypatch.setattr(measurement, "measure", measure)
    monkeypatch.setattr(saturation, "_warm_up", lambda *_: None)

    result = saturation.measure(None, RAMP, 0)

    assert () == result.invalid
    assert [2, 4, 8] == [step.streams for step in result.steps]


def test_the_knee_is_where_nearly_all_throughput_is_reached():
    """91 % of it with half of the streams is enough."""
    figures = saturation.values(
        [step(8, 50.0), step(16, 91.0), step(32, 100.0)]
    )

    assert 16.0 == figures["knee_streams"]


def test_preemptions_are_counted_for_each_step():
    """None is 1, since what is judged must be above nothing."""
    calm = saturation.values([step(8, 50.0), step(16, 60.0)])
    busy = saturation.values([step(8, 50.0), step(16, 60.0, preemptions=6)])

    assert 1.0 == calm["preemptions_per_step"]
    assert 4.0 == busy["preemptions_per_step"]


def test_a_server_is_really_sent_the_ramp(monkeypatch):
    """Every step sends three requests a stream, after a warm-up of one each."""
    ramp = Workload(
        name="ramp",
        prompts=Synthetic(input_len_tokens=4, output_len_tokens=4),
        num_prompts=4,
        max_concurrency=1,
        doubles_to=2,
    )

    monkeypatch.setitem(validity.POLICIES, "cpu", NO_LIMITS)

    with FakeEngine() as engine:
        result = saturation.measure(target_of(engine), ramp, 0)
        sent = engine.sent()

    assert [1, 2] == [row.streams for row in result.steps]
    assert 3 + 6 == result.completed
    assert [8, 16] == [row.tokens_in_flight for row in result.steps]
    assert 1 + 3 + 2 + 6 == len(sent)
