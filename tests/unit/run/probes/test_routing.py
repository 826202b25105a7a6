"""Routing probe: one request at a time; a failed answer makes it invalid."""

import msgspec
import numpy as np

from perfgate.cases import Case, Load
from perfgate.engines.base import Engine, ServerConfig
from perfgate.judge.identity import identity
from perfgate.load.workload import Synthetic, Workload
from perfgate.models.routing import RoutingUnreadable
from perfgate.results import schema as rundata
from perfgate.results.samples import RunIndex
from perfgate.results.schema import RunResults
from perfgate.run.probes import routing as probe
from tests.support import builders

SERVER = ServerConfig(
    engine="fake",
    model="mixtral-small",
    tensor_parallel_size=2,
    routing="returned",
)
LOAD = Workload(
    name="routing",
    num_prompts=5,
    max_concurrency=1,
    prompts=Synthetic(input_len_tokens=6, output_len_tokens=3),
)


def engine(answer):
    """An engine whose tokens go where `answer` says."""
    return Engine(
        name="fake",
        plan=None,
        read_log=None,
        weights_bytes_per_rank=None,
        inject_delay=None,
        routed_experts=answer,
    )


def by_token_id(request):
    """Every token of an answer goes to experts by its place."""
    tokens = np.arange(request.shape[0])[:, None, None]
    return (
        tokens
        + np.arange(2)[None, None, :]
        + np.zeros((1, request.layers, 1), dtype=int)
    ) % request.experts


def measured_with(answer):
    """The measurement of the workload on the first launch."""
    steps = []
    return probe.measure(
        engine(answer),
        SERVER,
        "http://x",
        0,
        LOAD,
        lambda n, of: steps.append((n, of)),
    ), steps


def test_each_request_is_counted_by_itself():
    """Five requests of 6 + 3 - 1 tokens, in four layers of eight experts; progress is told."""
    asked = []

    def answer(request):
        asked.append(request)
        return by_token_id(request)

    row, steps = measured_with(answer)

    assert [(8, 4, 2)] * 5 == [request.shape for request in asked]
    assert 5 == len({request.prompt_token_ids for request in asked})
    assert [8] * 5 == [request.tokens for request in row.routing.requests]
    # tokens 0 to 7 choose n and n + 1: each of 8 experts twice
    assert ((2,) * 8,) * 4 == row.routing.requests[0].counts
    assert 1.0 == row.repetitions[0].values["routing_balancedness"]
    assert (1.0, 1.0) == row.intervals["routing_balancedness"]
    assert [(n, 5) for n in range(5)] == steps


def test_prompts_are_the_same_in_every_run():
    """What differs between two runs is then the routing."""
    prompts = []
    for _ in range(2):
        measured_with(
            lambda request: (
                prompts.append(request.prompt_token_ids) or by_token_id(request)
            )
        )

    assert prompts[:5] == prompts[5:]


def test_unreadable_answer_is_invalid():
    """The measurement says which request failed and why, and has no value at all."""

    def answer(request):
        raise RoutingUnreadable("asking", "all zeros", "look at the log")

    row, _ = measured_with(answer)

    assert ({}, None) == (row.repetitions[0].values, row.routing)
    assert ("request 1 of 5: all zeros (look at the log)",) == row.repetitions[
        0
    ].invalid


def test_engine_that_cannot_tell_is_invalid():
    """It is named."""
    row, _ = measured_with(None)

    assert (
        "fake does not report which experts its tokens choose",
    ) == row.repetitions[0].invalid


def test_measurement_is_kept_whole(tmp_path):
    """Counts of each request are in results.json, and the launch's shares follow from them."""
    row, _ = measured_with(by_token_id)
    load = Load(server=SERVER, workload=LOAD)
    case = Case(experiment="E8", metric="routing_shares", numerator=load)
    results = msgspec.structs.replace(
        builders.run({load: {"routing_shares": [0.1]}}, [case]),
        measurements=(row,),
    )

    read = rundata.load(rundata.save(results, tmp_path))

    assert isinstance(read, RunResults)
    assert results == read
    (value,) = RunIndex(read).samples(case)
    assert ((10,) * 8,) * 4 == value.shares.counts
    assert "returned" == identity(read, load)["routing"]


def test_experts_that_are_not_those_stated_are_invalid():
    """The launch is not judged: an engine, or a kernel of it, has chosen by itself."""
    stated = msgspec.structs.replace(SERVER, stated_routing="few")
    row = probe.measure(
        engine(by_token_id),
        stated,
        "http://x",
        0,
        LOAD,
        lambda done, total: None,
    )

    (reason,) = row.repetitions[0].invalid
    assert "not those that are stated (few): in layer 0 10 of 40 " in reason
    assert 0 == row.repetitions[0].failed


def test_experts_as_stated_are_valid():
    """Counts within chance of the stated ones; the values are those of any routing."""
    even = msgspec.structs.replace(SERVER, stated_routing="uniform")
    row = probe.measure(
        engine(by_token_id), even, "http://x", 0, LOAD, lambda done, total: None
    )

    assert () == row.repetitions[0].invalid
    assert 1.0 == row.repetitions[0].values["routing_ep_cost"]
    assert (
        "stated is uniform: of 2 ranks the busiest has 1.00 times the mean"
        in (row.repetitions[0].notes)
    )
