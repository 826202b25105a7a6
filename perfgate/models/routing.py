"""Routing of tokens to experts (MoE), as results.json and baselines hold it.

Apart from `perfgate.models.routing_stats`, so that reading a run loads no numpy.
"""

from __future__ import annotations

import msgspec

from perfgate.errors import Failure


class RoutingUnreadable(Failure):
    """Experts that the engine did not tell, or told in a way that cannot be true."""


class RequestRouting(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Where the tokens of one request went.

    Attributes:
        counts: by layer and expert, how many tokens chose it.
        repeats_first: by layer, consecutive tokens with the same first choice.
        repeats_any: by layer, consecutive tokens of which the later chose an expert of
            the earlier again.

    """

    tokens: int
    counts: tuple[tuple[int, ...], ...]
    repeats_first: tuple[int, ...]
    repeats_any: tuple[int, ...]


class Routing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the tokens of one launch went.

    Attributes:
        ranks: over which expert parallelism would spread the experts, in order and
            evenly.

    """

    top_k: int
    ranks: int
    requests: tuple[RequestRouting, ...]


class LayerShares(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What a baseline keeps of a launch.

    Attributes:
        counts: by layer and expert, over all requests.
        noise: by layer, the total variation distance that two draws of as many requests
            hardly ever have.

    """

    counts: tuple[tuple[int, ...], ...]
    noise: tuple[float, ...]
