"""vLLM routing: the experts that the tokens of a request chose.

They are read in one of two ways, one request at a time, by a completion that does not
stream:

* hooks in its workers note the outputs of the routers (`inside/`), on any device in
  eager mode, for the families whose choice is the largest outputs;
* vLLM returns the choices itself (--enable-return-routed-experts, from 0.24 on; GPUs
  with its second model runner).
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import TYPE_CHECKING, Any

from perfgate import web
from perfgate.engines.base import RoutingRequest
from perfgate.engines.vllm import call
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
    try:
        if request.config.routing == "returned":
            choice = _completion(request)
            experts = decode_returned(choice.get("routed_experts"), tried)
        else:
            experts = _from_hooks(request, tried)
    except NoAnswer as error:
        remedy = "read the server's log"
        raise RoutingUnreadable(
            tried=tried, seen=error.seen, remedy=remedy
        ) from error
    return checked(experts, request.shape, request.experts, tried)


def decode_returned(text: str | None, tried: str) -> npt.NDArray[np.int64]:
    """Experts that vLLM returned: base64 of a .npy file of unsigned integers.

    One byte each, or two for more than 256 experts.

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
                "return them"
            ),
        )
    try:
        file = io.BytesIO(base64.b64decode(text, validate=True))
        return np.asarray(np.load(file, allow_pickle=False), dtype=np.int64)
    except (ValueError, EOFError, binascii.Error) as error:
        raise RoutingUnreadable(
            tried=tried,
            seen=f"routed_experts is not a .npy file in base64: {error}",
            remedy=(
                "this version of vLLM may use another format: adapt "
                "perfgate/engines/vllm_routing.py"
            ),
        ) from error


def decode_noted(answer: dict[str, Any]) -> npt.NDArray[np.int64]:
    """Experts that a worker noted: base64 of little-endian uint16, and their shape."""
    import numpy as np

    data = base64.b64decode(answer["experts"])
    experts = np.frombuffer(data, "<u2").reshape(answer["shape"])
    return experts.astype(np.int64)


def _from_hooks(request: RoutingRequest, tried: str) -> npt.NDArray[np.int64]:
    """Experts that hooks noted; all ranks must agree.

    Every rank has a router of its own, with the same inputs.
    """
    call(request.url, "perfgate_routing_begin", [], request.timeout_s)
    _completion(request)
    noted = call(request.url, "perfgate_routing_take", [], request.timeout_s)
    is_complete = len(noted) == request.config.tensor_parallel_size
    if not is_complete or any(answer != noted[0] for answer in noted):
        raise RoutingUnreadable(
            tried=tried,
            seen=f"the answers of {len(noted)} ranks differ",
            remedy=(
                "the routers of the ranks have different inputs, so an all-reduce may be "
                "broken; read the server's log"
            ),
        )
    return decode_noted(noted[0])


def _completion(request: RoutingRequest) -> dict[str, Any]:
    answer = web.post_json(
        f"{request.url}/v1/completions",
        request.body,
        timeout_s=request.timeout_s,
    )
    choice: dict[str, Any] = answer["choices"][0]
    return choice
