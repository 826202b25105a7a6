"""SGLang routing: the experts that the tokens of a request chose.

SGLang returns them itself (--enable-return-routed-experts): seen with 0.5.23 on the
CPU; 0.5.16 dies of it with Mixtral. One request at a time, by a completion that does
not stream.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import TYPE_CHECKING, Any

from perfgate import web
from perfgate.engines.base import RoutingRequest
from perfgate.models.routing import RoutingUnreadable
from perfgate.web import NoAnswer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def routed_experts(request: RoutingRequest) -> npt.NDArray[np.int64]:
    """Experts by token, layer and choice, shape `request.shape`.

    Raises:
        RoutingUnreadable: the server does not answer, or with impossible experts.
    """
    # Imported here, as numpy below: collecting tests must not wait for it.
    from perfgate.models.routing_stats import checked

    tried = f"asking {request.config.key} for the experts of a request"
    body = request.body | {"return_routed_experts": True}
    try:
        answer = web.post_json(
            f"{request.url}/v1/completions", body, timeout_s=request.timeout_s
        )
    except NoAnswer as error:
        raise RoutingUnreadable(
            tried=tried, seen=error.seen, remedy="read the server's log"
        ) from error
    experts = decode(answer, request.shape, tried)
    return checked(experts, request.shape, request.experts, tried)


def decode(
    answer: dict[str, Any], shape: tuple[int, int, int], tried: str
) -> npt.NDArray[np.int64]:
    """Experts that SGLang returned: base64 of little-endian int32, without a shape.

    Raises:
        RoutingUnreadable: nothing was returned, or another number of experts than the
            shape has.
    """
    import numpy as np

    text = (answer.get("sglext") or {}).get("routed_experts")
    if text is None:
        raise RoutingUnreadable(
            tried=tried,
            seen="the answer has no sglext.routed_experts",
            remedy="this SGLang may be too old; 0.5.23 returns them",
        )
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise _other_form(tried, f"invalid base64: {error}") from error
    if len(data) != 4 * math.prod(shape):
        raise _other_form(
            tried,
            f"{len(data)} bytes, not 4 for each of {shape} (tokens, layers, choices)",
        )
    return np.frombuffer(data, "<i4").reshape(shape).astype(np.int64)


def _other_form(tried: str, seen: str) -> RoutingUnreadable:
    remedy = (
        "this version of SGLang may use another format: adapt "
        "perfgate/engines/sglang_routing.py"
    )
    return RoutingUnreadable(
        tried=tried, seen=f"routed_experts has {seen}", remedy=remedy
    )
