"""Routing probe: which experts a server's tokens choose, read one request at a time.

One request at a time, so that each choice belongs to a known request; and after all
timed load, because hooks and returned experts cost time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from perfgate.engines.base import Engine, RoutingRequest, ServerConfig
from perfgate.errors import Failure
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Request, Workload, build_requests
from perfgate.models import catalogue as models
from perfgate.models import routing_stats
from perfgate.models.architecture import Architecture
from perfgate.models.routing import RequestRouting, Routing
from perfgate.models.stated_routing import chances, mismatch, rank_cost
from perfgate.results.schema import Measurement

Progress = Callable[[int, int], None]


class RoutingNotRead(Failure):
    """A request's experts cannot be read."""


def measure(
    engine: Engine,
    config: ServerConfig,
    url: str,
    launch: int,
    workload: Workload,
    progress: Progress,
) -> Measurement:
    """The workload's one repetition: routing, and no times.

    If a request fails, the repetition is invalid and has no values. It is invalid, too,
    where a stated routing is not what tokens chose.

    Args:
        launch: its index.
        workload: what is sent.
    """
    started_unix_s = time.time()
    began_s = time.monotonic()
    routing: Routing | None = None
    invalid: tuple[str, ...] = ()
    try:
        routing = read_routing(engine, config, url, workload, progress)
    except RoutingNotRead as failure:
        invalid = (failure.seen,)
    values: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    requests: tuple[RequestRouting, ...] = ()
    if routing is not None:
        invalid = unlike_stated(config, routing)
        values = routing_stats.values(routing)
        intervals = routing_stats.intervals(routing)
        requests = routing.requests
    repetition = Repetition(
        index=0,
        started_unix_s=started_unix_s,
        duration_s=time.monotonic() - began_s,
        completed=len(requests),
        failed=int(routing is None),
        input_tokens=sum(request.tokens for request in requests),
        output_tokens=0,
        values=values,
        invalid=invalid,
        notes=("asked where its tokens go: not timed", *_predicted(config)),
        server_values={},
        client_values={},
        requests=(),
    )
    return Measurement(
        server=config.key,
        launch=launch,
        workload=workload.name,
        repetitions=(repetition,),
        routing=routing,
        intervals=intervals,
    )


def read_routing(
    engine: Engine,
    config: ServerConfig,
    url: str,
    workload: Workload,
    progress: Progress,
) -> Routing:
    """Experts of the workload's requests.

    The prompts are those of the first repetition, the same in every run: what differs
    is then the routing.

    Raises:
        RoutingNotRead: the engine cannot tell, or not for one of the requests.
    """
    architecture = models.lookup(config.model).architecture
    if engine.routed_experts is None:
        raise RoutingNotRead(
            tried=f"reading the routing of {workload.name}",
            seen=f"{engine.name} does not report which experts its tokens choose",
            remedy="use an engine that reports them (vllm, sglang)",
        )
    requests = build_requests(workload, 0, architecture.vocab_size)
    counts = []
    for done, request in enumerate(requests):
        progress(done, len(requests))
        try:
            experts = engine.routed_experts(
                _routing_request(config, url, request, architecture)
            )
        except Failure as failure:
            raise RoutingNotRead(
                tried=f"reading the routing of {workload.name}",
                seen=(
                    f"request {done + 1} of {len(requests)}: {failure.seen} "
                    f"({failure.remedy})"
                ),
                remedy=failure.remedy,
            ) from failure
        counts.append(
            routing_stats.count(experts, architecture.num_local_experts)
        )
    return Routing(
        top_k=architecture.num_experts_per_tok,
        ranks=ranks_of(config),
        requests=tuple(counts),
    )


def _predicted(config: ServerConfig) -> tuple[str, ...]:
    """What a stated routing costs expert parallelism, by arithmetic."""
    if not config.stated_routing:
        return ()
    architecture = models.lookup(config.model).architecture
    expected = chances(
        config.stated_routing,
        architecture.num_local_experts,
        architecture.num_experts_per_tok,
    )
    ranks = ranks_of(config)
    cost = rank_cost(expected, ranks)
    return (
        f"stated is {config.stated_routing}: of {ranks} ranks the busiest has {cost:.2f} "
        "times the mean",
    )


def unlike_stated(config: ServerConfig, routing: Routing) -> tuple[str, ...]:
    """Why tokens did not choose as stated; empty if they did, or nothing is stated."""
    if not config.stated_routing:
        return ()
    counts = routing_stats.totals(routing).astype(int).tolist()
    tokens = sum(request.tokens for request in routing.requests)
    expected = chances(config.stated_routing, len(counts[0]), routing.top_k)
    problem = mismatch(counts, tokens, expected)
    if problem is None:
        return ()
    return (
        f"the experts are not those that are stated ({config.stated_routing}): "
        f"{problem}",
    )


def _routing_request(
    config: ServerConfig, url: str, request: Request, architecture: Architecture
) -> RoutingRequest:
    return RoutingRequest(
        config=config,
        url=url,
        prompt_token_ids=request.prompt_token_ids,
        output_len_tokens=request.output_len_tokens,
        layers=architecture.num_sparse_layers,
        experts=architecture.num_local_experts,
        top_k=architecture.num_experts_per_tok,
    )


def ranks_of(config: ServerConfig) -> int:
    """Ranks over which expert parallelism would spread the experts: at least two."""
    return max(2, config.ranks)
