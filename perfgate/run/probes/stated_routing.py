"""Stated routing of a launch: whether the server takes the experts that it is told.

An engine may ignore what it is told, where a kernel routes by itself. Every launch with
a stated routing is asked before its load: one short answer must move every rank's count
of stated choices by a choice for each of its tokens and sparse layers.
"""

from __future__ import annotations

from typing import Final

from perfgate import web
from perfgate.engines.base import Engine, RoutingRequest, ServerConfig
from perfgate.errors import Failure
from perfgate.models import catalogue as models

# Token ids that every vocabulary has.
PROMPT: Final = tuple(range(10, 18))
OUTPUT_LEN_TOKENS: Final = 5


class RoutingNotStated(Failure):
    """A server that does not take the experts that it is told."""


def confirm(engine: Engine, config: ServerConfig, url: str) -> None:
    """Check a ready server by one short answer.

    Raises:
        RoutingNotStated: tokens got other experts, or the server does not answer.
    """
    architecture = models.lookup(config.model).architecture
    request = RoutingRequest(
        config=config,
        url=url,
        prompt_token_ids=PROMPT,
        output_len_tokens=OUTPUT_LEN_TOKENS,
        layers=architecture.num_sparse_layers,
        experts=architecture.num_local_experts,
        top_k=architecture.num_experts_per_tok,
    )
    tried = f"stating the routing of {config.key}: {config.stated_routing}"
    remedy = (
        "its kernels may route by themselves: choose others in extra_args, or leave "
        "stated_routing out of the study"
    )
    if engine.stated_draws is None:
        raise RoutingNotStated(
            tried=tried,
            seen=f"{engine.name} cannot be told how to route",
            remedy="leave stated_routing out of the study, or use vllm or sglang",
        )
    try:
        before = engine.stated_draws(url)
        web.post(
            f"{url}/v1/completions", request.body, timeout_s=request.timeout_s
        )
        after = engine.stated_draws(url)
    except web.NoAnswer as error:
        raise RoutingNotStated(
            tried=tried, seen=error.seen, remedy="read the server's log"
        ) from error
    drawn = [now - then for now, then in zip(after, before, strict=True)]
    tokens, layers, _ = request.shape
    if min(drawn, default=0) < tokens * layers:
        raise RoutingNotStated(
            tried=tried,
            seen=(
                f"for {tokens} tokens in {layers} sparse layers the ranks took {drawn} "
                f"stated choices, at least {tokens * layers} each are due"
            ),
            remedy=remedy,
        )
