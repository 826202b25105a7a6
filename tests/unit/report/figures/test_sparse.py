"""Figures of a sparse model: experts, bandwidth and ranks, with every figure in words."""

import dataclasses

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.load.workload import Synthetic, Workload
from perfgate.models.routing import RequestRouting, Routing
from perfgate.models.routing_stats import intervals, summary, values
from perfgate.report.figures import sparse as figures_sparse
from perfgate.report.figures.series import batches
from perfgate.report.page import Report, build
from perfgate.results.samples import RunIndex
from perfgate.results.schema import Measurement, Server
from tests.support import builders as m

SERVER = msgspec.structs.replace(m.MOE, routing="returned")
LOAD = Load(
    server=SERVER,
    workload=Workload(
        name="routing", num_prompts=10, max_concurrency=1, repetitions=1
    ),
)
SHARES = Case(experiment="E8", metric="routing_shares", numerator=LOAD)
EVEN, SKEWED = (25, 25, 25, 25), (70, 10, 10, 10)


def routing_of(*layers):
    """Ten requests with these choices in each layer, give or take."""
    requests = tuple(
        RequestRouting(
            tokens=50,
            counts=tuple(
                tuple(
                    n + (1 if (number + place) % 2 else -1)
                    for place, n in enumerate(row)
                )
                for row in layers
            ),
            repeats_first=(10,) * len(layers),
            repeats_any=(20,) * len(layers),
        )
        for number in range(10)
    )
    return Routing(top_k=2, ranks=2, requests=requests)


def with_routing(results, *layers, invalid=()):
    """The run with a server that was asked where its tokens go; judged, if it told."""
    found = None if invalid else routing_of(*(layers or (EVEN, SKEWED)))
    repetition = m.repetition(0, values(found) if found else {}, invalid)
    row = Measurement(
        server=SERVER.key,
        launch=0,
        workload="routing",
        repetitions=(repetition,),
        routing=found,
        intervals=intervals(found) if found else {},
    )
    return msgspec.structs.replace(
        results,
        servers=results.servers
        | {SERVER.key: Server(config=SERVER, python="3.12", versions={})},
        workloads=results.workloads | {"routing": LOAD.workload},
        measurements=(*results.measurements, row),
        cases=(*results.cases, SHARES),
        verdicts=results.verdicts
        if invalid
        else (*results.verdicts, verdict("PASSED")),
    )


def verdict(outcome):
    """What was decided about the shares."""
    return Verdict(
        case=SHARES.id,
        metric=SHARES.metric,
        outcome=Outcome(outcome),
        gate="hard",
        summary="",
        value=0.55,
        baseline=0.75,
        change=-0.27,
        worse_by=0.2,
        threshold=0.1,
        noise=None,
        launches=1,
    ).row(SHARES, "t")


def recorded(case, label):
    """Shares that were even in both layers."""
    found = m.recorded(case, [0.98])
    (point,) = found.metric.launches
    points = (
        msgspec.structs.replace(point, shares=summary(routing_of(EVEN, EVEN))),
    )
    return dataclasses.replace(
        found, metric=msgspec.structs.replace(found.metric, launches=points)
    )


def nothing(case, label):
    """No baseline."""


def test_heat_map_comes_from_the_run():
    """Layers, experts and the busiest one in words; shares with intervals; what they sum to."""
    (picture,) = figures_sparse.experts(
        RunIndex(with_routing(m.run({}, []))), nothing, ""
    )

    assert picture.svg is not None
    assert picture.description.startswith(
        # 70 of 100 choices, more or less one in every second request
        "2 layers of 4 experts. The busiest, expert 0 of layer 1, gets "
        "70.0 % of its layer's choices; "
        "even shares are 25.0 %."
    )
    assert ("layer", "0", "1", "2", "3") == picture.columns
    assert ["0", "1"] == [row[0] for row in picture.rows]
    assert picture.rows[1][1].startswith("70.0 % (69.")
    # two ranks: 80 of 100 choices on the first, 50 would be even: 1 / 1.6; the
    # other layer is even
    assert (
        "least balancedness of the ranks under expert parallelism: 0.625 ("
        in picture.caption
    )
    assert (
        "predicted slow-down of the experts by that imbalance: 1.3 ("
        in picture.caption
    )


@pytest.mark.parametrize("asked_of", ["launched for it", "timed before"])
def test_what_is_never_timed_is_no_batch(asked_of):
    """Routing prompts are sent one at a time, and are still no point of the sweep."""
    loads = {Load(server=m.MOE, workload=CLOSED): {"itl_median_ms": [20.0]}}
    if asked_of == "timed before":
        asked = msgspec.structs.replace(LOAD.workload, asks_routing=True)
        results = m.run(
            loads
            | {Load(server=m.MOE, workload=asked): {"routing_shares": [0.5]}},
            [],
        )
    else:
        results = with_routing(m.run(loads, []))
    last = msgspec.structs.replace(
        results, workloads=dict(reversed(results.workloads.items()))
    )

    assert ["batch-8"] == [
        workload.name for workload in batches(RunIndex(last))
    ]


def test_shares_are_drawn_vs_recorded_ones():
    """Both maps are drawn, and the layer that moved most is named with how far."""
    (picture,) = figures_sparse.experts(
        RunIndex(with_routing(m.run({}, []))), recorded, ""
    )

    assert "expert, recorded" in picture.svg
    # |0.70 - 0.25| + 3 x |0.10 - 0.25| = 0.9, and half of it
    assert picture.description.endswith(
        "Largest change of the shares since the baseline: 45.0 % in layer 1; "
        "the verdict compares each request."
    )
    assert ("3, recorded", "changed") == picture.columns[-2:]
    assert ("25.0 %", "45.0 %") == picture.rows[1][-2:]


@pytest.mark.parametrize("outcome", ["INCOMPARABLE", "NO_BASELINE"])
def test_what_cannot_be_compared_is_not_drawn(outcome):
    """Shares of other weights would only mislead."""
    results = msgspec.structs.replace(
        with_routing(m.run({}, [])), verdicts=(verdict(outcome),)
    )
    (picture,) = figures_sparse.experts(RunIndex(results), recorded, "")

    assert "recorded" not in picture.svg + picture.description


def test_server_that_did_not_tell():
    """The reason stands in place of the map; a run that asked nobody says so."""
    results = with_routing(
        m.run({}, []), invalid=["request 1 of 10: all zeros"]
    )

    assert ["request 1 of 10: all zeros"] == [
        p.missing
        for p in figures_sparse.experts(RunIndex(results), nothing, "")
    ]
    (none,) = figures_sparse.experts(RunIndex(m.run({}, [])), nothing, "")
    assert "no workload of this run records the routing" in none.missing


def test_each_workload_has_its_own_map():
    """Other prompts are no part of the judged ones, and nothing is recorded for them."""
    results = with_routing(m.run({}, []))
    other = msgspec.structs.replace(
        results.measurements[-1],
        workload="routing-others",
        routing=routing_of(EVEN, EVEN),
    )
    results = msgspec.structs.replace(
        results, measurements=(*results.measurements, other)
    )

    judged, others = figures_sparse.experts(RunIndex(results), recorded, "")
    assert "expert 0 of layer 1, gets 70.0 %" in judged.description
    assert (
        "Largest change of the shares since the baseline" in judged.description
    )
    assert "recorded" not in others.svg + others.description


def test_map_that_is_too_large_is_left_out():
    """Sixty layers of 256 experts are no picture for this page."""
    found = with_routing(m.run({}, []), *((30,) * 256,) * 60)

    (picture,) = figures_sparse.experts(RunIndex(found), nothing, "")
    assert (None, "15,360 cells are too many: see results.json") == (
        picture.svg,
        picture.missing,
    )


CLOSED = Workload(
    name="batch-8",
    num_prompts=64,
    max_concurrency=8,
    prompts=Synthetic(input_len_tokens=128, output_len_tokens=64),
)


def test_bandwidth_with_the_bytes_of_a_step():
    """Bytes of a step by arithmetic over the measured time, and its share of the peak."""
    load = Load(server=m.MOE, workload=CLOSED)
    picture = figures_sparse.decoding(
        RunIndex(m.run({load: {"itl_median_ms": [20.0] * 3}}, [])), ""
    )

    ((server, workload, batch, itl, read, got, share, allowed),) = picture.rows
    assert ("vllm-mixtral-8x7b-tp2", "batch-8", "8", "20 ms") == (
        server,
        workload,
        batch,
        itl,
    )
    # 84.1 GB with 7.2 of 8 experts touched, and 8 x 160 tokens x 131,072 bytes
    # of KV cache; over 20 ms; of 2 x 4.8 TB/s
    assert ("84.28 GB", "4,214 GB/s", "43.9 %", "8.78 ms") == (
        read,
        got,
        share,
        allowed,
    )
    assert (
        "% of the peak bandwidth. vllm-mixtral-8x7b-tp2: 43.9 at batch 8."
        == picture.description
    )


def test_bandwidth_where_no_peak_is_known():
    """On a CPU it is in GB/s, and the caption says why."""
    load = Load(server=m.MOE_CPU, workload=CLOSED)
    results = m.run(
        {load: {"itl_median_ms": [20.0]}}, [], machine=m.hardware("cpu")
    )
    picture = figures_sparse.decoding(RunIndex(results), "")

    assert "The peak of this machine is unknown" in picture.caption
    assert ("-", "-") == picture.rows[0][-2:]
    assert figures_sparse.decoding(RunIndex(m.run({}, [])), "").missing


def test_expert_parallelism_with_the_exchanged_bytes():
    """The ratio of both servers under one load, and the bytes that their ranks exchange."""
    spread = msgspec.structs.replace(m.MOE, expert_parallel=True)
    loads = {
        Load(server=server, workload=CLOSED): {
            "output_throughput": [rate],
            "itl_median_ms": [itl],
        }
        for server, rate, itl in ((m.MOE, 1000.0, 20.0), (spread, 800.0, 25.0))
    }
    picture = figures_sparse.expert_parallelism(RunIndex(m.run(loads, [])), "")

    assert ["0.8x", "1.25x"] == [row[-1] for row in picture.rows]
    # 2 x 32 layers x 4096 values of 2 bytes
    assert "makes 2 ranks sum 512 KiB of vectors" in picture.caption
    assert figures_sparse.expert_parallelism(
        RunIndex(m.run({}, [])), ""
    ).missing


def test_page_shows_the_map():
    """A run that asked is shown with its map in the page."""
    text = build(Report([with_routing(m.run({}, []))]))

    assert (
        "<h3>Expert load: vllm-mixtral-8x7b-tp2-routing, routing</h3>" in text
    )
    assert "The busiest, expert 0 of layer 1" in text
