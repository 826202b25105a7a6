"""SGLang routing: the returned experts are read in their order."""

import base64

import numpy as np
import pytest

from perfgate.engines.base import RoutingRequest, ServerConfig
from perfgate.engines.sglang_routing import decode, routed_experts
from perfgate.models.routing import RoutingUnreadable
from tests.support.fronts import front

CONFIG = ServerConfig(
    engine="sglang",
    model="mixtral-small",
    tensor_parallel_size=2,
    routing="returned",
)
EXPERTS = [
    [[7, 0], [3, 1]],
    [[2, 5], [4, 6]],
    [[1, 0], [7, 3]],
    [[6, 2], [5, 4]],
]


def told(experts):
    """As 0.5.23 returns them: little-endian int32 in base64, without a shape."""
    return {
        "sglext": {
            "routed_experts": base64.b64encode(
                np.array(experts).astype("<i4").tobytes()
            ).decode()
        }
    }


def server(answer, status=200):
    """Answers a completion."""
    return front(lambda path: answer, status)


def asking(url):
    """Three tokens in, two out: four that choose."""
    return RoutingRequest(
        config=CONFIG,
        url=url,
        prompt_token_ids=(5, 6, 7),
        output_len_tokens=2,
        layers=2,
        experts=8,
        top_k=2,
    )


def test_returned_experts():
    """Experts are read in order; the request does not stream, and asks for exactly its tokens."""
    with server({"choices": [{"text": "x"}]} | told(EXPERTS)) as front:
        seen = routed_experts(asking(front.url))

    assert EXPERTS == seen.tolist()
    ((path, body),) = front.asked
    assert ("/v1/completions", [5, 6, 7], 2, True) == (
        path,
        body["prompt"],
        body["max_tokens"],
        body["ignore_eos"],
    )
    assert body["return_routed_experts"]
    assert not body.get("stream")


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ({}, "no sglext.routed_experts"),
        ({"sglext": None}, "no sglext.routed_experts"),
        ({"sglext": {"routed_experts": "not base64!"}}, "invalid base64"),
        (told(EXPERTS[:-1]), r"48 bytes, not 4 for each of \(4, 2, 2\)"),
    ],
    ids=["old", "null", "no-base64", "short"],
)
def test_what_is_returned_in_another_way_is_refused(answer, seen):
    """Nothing, another form, or a token too few is an error that says so."""
    with pytest.raises(RoutingUnreadable, match=seen):
        decode(answer, (4, 2, 2), "asking")


def test_silent_zeros_are_refused():
    """A buffer that was never written is not taken for a collapsed router."""
    with (
        server(told(np.zeros((4, 2, 2)))) as front,
        pytest.raises(RoutingUnreadable, match="all zeros: True"),
    ):
        routed_experts(asking(front.url))


def test_server_that_fails_is_told():
    """Its status is what was seen."""
    with (
        server({}, 500) as front,
        pytest.raises(RoutingUnreadable, match="500"),
    ):
        routed_experts(asking(front.url))
