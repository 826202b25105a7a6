"""Which experts did the tokens of a request choose, as vLLM tells?

In two ways. Its workers note what the routers put out (`inside/`), on any device, for
the families whose choice is the largest outputs. Or vLLM returns the choices itself
(--enable-return-routed-experts, from 0.24 on; GPUs with its second model runner).
Either way one request at a time, by a plain completion, which does not stream.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import TYPE_CHECKING, Any

from perfgate.engines.base import RoutingRequest
from perfgate.engines.vllm import call
from perfgate.models.routing import RoutingUnreadable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def routed_experts(request: RoutingRequest) -> npt.NDArray[np.int64]:
    """Experts by token, layer and choice, shape `request.shape`.

    Raises:
        RoutingUnreadable: the server does not answer, or what it tells cannot be true.

    """
    # Imported here, as numpy below: collecting tests must not wait for them.
    import requests

    from perfgate.models.routing_stats import checked

    tried = f"asking {request.config.key} for the experts of a request"
    try:
        if request.config.routing == "returned":
            found = decode_returned(_completion(request).get("routed_experts"), tried)
        else:
            found = _from_hooks(request, tried)
    except requests.RequestException as error:
        remedy = "look at the server's log"
        raise RoutingUnreadable(tried=tried, seen=str(error), remedy=remedy) from error
    return checked(found, request.shape, request.experts, tried)


def decode_returned(text: str | None, tried: str) -> npt.NDArray[np.int64]:
    """What vLLM returns: base64 of a .npy file, unsigned bytes, or two bytes for more than 256 experts.

    Raises:
        RoutingUnreadable: nothing was returned, or something else.

    """
    import numpy as np

    if text is None:
        raise RoutingUnreadable(
            tried=tried,
            seen="the answer has no routed_experts",
            remedy=(
                "this vLLM may be too old, or aborted the request; 0.26 and 0.32 "
                "were seen to return them"
            ),
        )
    try:
        return np.asarray(
            np.load(
                io.BytesIO(base64.b64decode(text, validate=True)), allow_pickle=False
            ),
            dtype=np.int64,
        )
    except (ValueError, EOFError, binascii.Error) as error:
        raise RoutingUnreadable(
            tried=tried,
            seen=f"routed_experts is no .npy in base64: {error}",
            remedy=(
                "another version of vLLM may write them in another way; "
                "perfgate/engines/vllm_routing.py reads them"
            ),
        ) from error


def decode_noted(answer: dict[str, Any]) -> npt.NDArray[np.int64]:
    """What a worker noted: base64 of little-endian uint16, and its shape."""
    import numpy as np

    return (
        np.frombuffer(base64.b64decode(answer["experts"]), "<u2")
        .reshape(answer["shape"])
        .astype(np.int64)
    )


def _from_hooks(request: RoutingRequest, tried: str) -> npt.NDArray[np.int64]:
    """Every rank has a router of its own, with the same inputs: where they disagree nothing can be said."""
    call(request.url, "perfgate_routing_begin", [], request.timeout_s)
    _completion(request)
    noted = call(request.url, "perfgate_routing_take", [], request.timeout_s)
    if len(noted) != request.config.tensor_parallel_size or any(
        answer != noted[0] for answer in noted
    ):
        raise RoutingUnreadable(
            tried=tried,
            seen=f"{len(noted)} ranks answered, and not alike",
            remedy=(
                "their routers see different inputs: a sum over ranks may be broken; "
                "look at the server's log"
            ),
        )
    return decode_noted(noted[0])


def _completion(request: RoutingRequest) -> dict[str, Any]:
    import requests

    answer = requests.post(
        f"{request.url}/v1/completions", json=request.body, timeout=request.timeout_s
    )
    answer.raise_for_status()
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice
