"""How is a server asked where its tokens go?

One request at a time, so that each choice is known to belong to it, and when nothing is
timed any more: hooks and returned experts cost time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from perfgate.engines.base import Engine, RoutingRequest, ServerConfig
from perfgate.errors import Failure
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload, build_requests
from perfgate.models import catalogue as models
from perfgate.models import routing_stats as routing
from perfgate.models.routing import Routing
from perfgate.results.schema import Measurement


def ask(
    engine: Engine,
    config: ServerConfig,
    url: str,
    workload: Workload,
    progress: Callable[[int, int], None],
) -> tuple[Routing | None, str | None]:
    """Where the tokens of the workload's requests went; or None and why that is not known.

    The prompts are those of the first repetition, the same in every run: what differs
    is then the routing.
    """
    architecture = models.lookup(config.model).architecture
    if engine.routed_experts is None:
        return None, f"{engine.name} cannot tell which experts its tokens choose"
    asked = build_requests(workload, 0, architecture.vocab_size)
    found = []
    for done, request in enumerate(asked):
        progress(done, len(asked))
        try:
            experts = engine.routed_experts(
                RoutingRequest(
                    config=config,
                    url=url,
                    prompt_token_ids=request.prompt_token_ids,
                    output_len_tokens=request.output_len_tokens,
                    layers=architecture.num_sparse_layers,
                    experts=architecture.num_local_experts,
                    top_k=architecture.num_experts_per_tok,
                )
            )
        except Failure as failure:
            return (
                None,
                f"request {done + 1} of {len(asked)}: {failure.seen} ({failure.remedy})",
            )
        found.append(routing.count(experts, architecture.num_local_experts))
    return Routing(
        top_k=architecture.num_experts_per_tok,
        ranks=spread(config),
        requests=tuple(found),
    ), None


def spread(config: ServerConfig) -> int:
    """Ranks over which expert parallelism would spread the experts: the server's own, or two to show what it would."""
    return max(2, config.tensor_parallel_size)


def measure(
    engine: Engine,
    config: ServerConfig,
    url: str,
    place: tuple[int, Workload],
    progress: Callable[[int, int], None],
) -> Measurement:
    """The workload's one repetition: no times, but where the tokens went. Its failure makes it invalid.

    Args:
        place: the launch's number, and what is sent.
    """
    launch, workload = place
    started, began = time.time(), time.monotonic()
    found, why = ask(engine, config, url, workload, progress)
    requests = found.requests if found else ()
    repetition = Repetition(
        index=0,
        started_unix_s=started,
        duration_s=time.monotonic() - began,
        completed=len(requests),
        failed=0 if found else 1,
        input_tokens=sum(request.tokens for request in requests),
        output_tokens=0,
        values=routing.values(found) if found else {},
        invalid=() if why is None else (why,),
        notes=("asked where its tokens go: not timed",),
        server_values={},
        client_values={},
        requests=(),
    )
    return Measurement(
        server=config.key,
        launch=launch,
        workload=workload.name,
        repetitions=(repetition,),
        routing=found,
        intervals=routing.intervals(found) if found else {},
    )
