"""Figure of saturation: the points of a ramp, the share of the KV cache, runs overlaid."""

import dataclasses

import msgspec

from perfgate.load.repetition import LoadStep
from perfgate.report.figures import saturation
from perfgate.results.samples import RunIndex
from tests.support import builders as m


def step(streams, throughput, tpot_ms):
    """One closed loop; 256 tokens a stream are in flight."""
    return LoadStep(
        streams=streams,
        tokens_in_flight=256 * streams,
        preemptions=streams // 64,
        values={
            "output_throughput": throughput,
            "tpot_median_ms": tpot_ms,
            "ttft_median_ms": 40.0,
        },
    )


def index(*steps, run_id="20260601-120000-1"):
    """A run with one ramp of these steps; the KV cache holds 16,384 tokens."""
    results = m.run(
        {m.MOE_LOAD: {"output_throughput": [100.0]}}, (), run_id=run_id
    )
    launches = tuple(
        msgspec.structs.replace(row, values={"kv_cache_tokens": 16_384.0})
        for row in results.launches
    )
    rows = []
    for row in results.measurements:
        repetition = msgspec.structs.replace(row.repetitions[0], steps=steps)
        rows.append(msgspec.structs.replace(row, repetitions=(repetition,)))
    return RunIndex(
        msgspec.structs.replace(
            results, launches=launches, measurements=tuple(rows)
        )
    )


STEPS = (
    step(32, 2000.0, 10.0),
    step(64, 3000.0, 20.0),
    step(128, 3000.0, 40.0),
)


def test_each_step_is_a_point():
    """10 ms a token are 100 tokens/s for a user; 2,000 tok/s are 1,000 for each of two GPUs."""
    (ramp,) = saturation.ramps(index(*STEPS))

    assert [(100.0, 1000.0), (50.0, 1500.0), (25.0, 1500.0)] == ramp.points


def test_the_table_says_what_the_cache_must_hold():
    """128 streams of 256 tokens are twice what it has."""
    (picture,) = saturation.curves([("", index(*STEPS))], "")

    shares = [row[6] for row in picture.rows]
    assert ["0.5", "1", "2"] == shares
    assert ["0", "1", "2"] == [row[7] for row in picture.rows]
    assert picture.svg is not None


def test_runs_are_overlaid():
    """Each ramp bears the name of its run."""
    first = index(*STEPS)
    second = index(*STEPS[:2], run_id="20260602-120000-1")

    (picture,) = saturation.curves(
        [("run A", first), ("this run", second)], "all-"
    )

    names = {row[0] for row in picture.rows}
    assert {f"{m.MOE.key}, run A", f"{m.MOE.key}, this run"} == names
    assert "all-saturation" == picture.key


def test_a_run_without_a_ramp_has_no_figure():
    """Pages of other runs are as before."""
    assert [] == saturation.curves([("", index())], "")


def test_a_step_without_times_is_in_the_table_alone():
    """It has no place in the figure."""
    (ramp,) = saturation.ramps(
        index(STEPS[0], msgspec.structs.replace(STEPS[1], values={}))
    )
    ramp = dataclasses.replace(ramp, cache_tokens=None)

    assert 1 == len(ramp.points)
    assert ("-", "-", "-", "-", "-") == ramp.rows[1][2:7]
