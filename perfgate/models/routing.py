"""Expert routing (MoE): which experts tokens choose, as runs and baselines store it.

`perfgate.models.routing_stats` has the statistics; it loads numpy, this module
does not.
"""

from __future__ import annotations

import msgspec

from perfgate.errors import Failure


class RoutingUnreadable(Failure):
    """The engine returned no experts, or experts that are impossible."""


class RequestRouting(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The experts that the tokens of one request chose.

    Attributes:
        tokens: of the request.
        counts: by layer and expert, the tokens that chose it.
        repeats_first: by layer, consecutive tokens with the same first choice.
        repeats_any: by layer, consecutive tokens that share an expert.

    """

    tokens: int
    counts: tuple[tuple[int, ...], ...]
    repeats_first: tuple[int, ...]
    repeats_any: tuple[int, ...]


class Routing(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The experts that the tokens of one launch chose.

    Attributes:
        top_k: experts that each token chooses in a layer.
        ranks: over which expert parallelism would spread the experts, in order and
            evenly.

    """

    top_k: int
    ranks: int
    requests: tuple[RequestRouting, ...]


class RequestCounts(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The choices of each request, or of each few requests, as a baseline stores them.

    `perfgate.models.routing_requests` writes and reads the text.

    Attributes:
        requests: of the launch.
        group_size: consecutive requests that are counted together; the last group may
            have fewer.
        encoded: base64 of zlib of the counts by group, layer and expert, each an
            unsigned little-endian integer of 1, 2 or 4 bytes.

    """

    requests: int
    group_size: int
    encoded: str


class LayerShares(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """The routing that a baseline stores of a launch.

    Attributes:
        counts: by layer and expert, over all requests.
        noise: by layer, the total variation distance that two draws of as many requests
            hardly ever exceed.
        requests: the same counts by request; None in older baselines, and in launches
            that are not the reference.

    """

    counts: tuple[tuple[int, ...], ...]
    noise: tuple[float, ...]
    requests: RequestCounts | None = None
