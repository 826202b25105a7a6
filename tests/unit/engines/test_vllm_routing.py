"""vLLM routing: experts returned by requests, and counts of hooked routers."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest

from perfgate.engines import vllm
from perfgate.engines.base import LaunchRequest, RoutingRequest, ServerConfig
from perfgate.engines.vllm_routing import decode_returned, routed_experts
from perfgate.models.routing import RoutingUnreadable
from tests.support.fronts import front

# Four tokens, two layers, two choices, as numpy writes a .npy file of version
# 1.0 (vLLM 0.26 returned shape (prompt + output - 1, 32, 2) of unsigned bytes
# so).
RECORDED = (
    "k05VTVBZAQB2AHsnZGVzY3InOiAnfHUxJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDQsIDIsIDIpLCB9ICAgICAgICAgICAg"
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoHAAMBAgUEBgEABwMGAgUE"
)
EXPERTS = [
    [[7, 0], [3, 1]],
    [[2, 5], [4, 6]],
    [[1, 0], [7, 3]],
    [[6, 2], [5, 4]],
]
TIMED = ServerConfig(
    engine="vllm",
    model="mixtral-small",
    tensor_parallel_size=2,
    dtype="float32",
    extra_args=("--enforce-eager",),
)
RETURNED = ServerConfig(
    engine="vllm", model="mixtral-8x7b", device="cuda", routing="returned"
)


def server(completion, ranks=()):
    """Answers a completion, and what each rank noted."""
    answers = {"/v1/completions": {"choices": [completion]}}
    return front(
        lambda path: answers.get(path, {"results": list(ranks)}),
        200 if completion is not None else 500,
    )


def asking(url, config):
    """Three tokens in, two out: four that choose."""
    return RoutingRequest(
        config=config,
        url=url,
        prompt_token_ids=(5, 6, 7),
        output_len_tokens=2,
        layers=2,
        experts=8,
        top_k=2,
    )


def noted(experts):
    """What a worker answers."""
    data = np.array(experts).astype("<u2")
    return {
        "shape": list(data.shape),
        "experts": base64.b64encode(data.tobytes()).decode(),
    }


def test_returned_experts():
    """The recorded bytes are read; the request does not stream, and asks for exactly its tokens."""
    with server({"text": "x", "routed_experts": RECORDED}) as front:
        seen = routed_experts(asking(front.url, RETURNED))

    assert EXPERTS == seen.tolist()
    ((path, body),) = front.asked
    assert ("/v1/completions", [5, 6, 7], 2, True) == (
        path,
        body["prompt"],
        body["max_tokens"],
        body["ignore_eos"],
    )
    assert not body.get("stream")


def test_more_than_256_experts_take_two_bytes():
    """Then numpy says so in the file, and it is read."""
    file = io.BytesIO()
    np.save(file, np.array([[[300, 2]]], dtype=np.uint16))

    assert [[[300, 2]]] == decode_returned(
        base64.b64encode(file.getvalue()).decode(), "asking"
    ).tolist()


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (None, "the answer has no routed_experts"),
        ("not base64!", "not a .npy file in base64"),
        (base64.b64encode(b"raw bytes").decode(), "not a .npy file in base64"),
        (
            base64.b64encode(base64.b64decode(RECORDED)[:-3]).decode(),
            "not a .npy file in base64",
        ),
    ],
    ids=["null", "no-base64", "no-npy", "cut"],
)
def test_what_is_returned_in_another_way_is_refused(text, seen):
    """Null, another form, or half of it is an error that says so."""
    with pytest.raises(RoutingUnreadable, match=seen):
        decode_returned(text, "asking")


def test_silent_zeros_are_refused():
    """A buffer that was never written is not taken for a collapsed router."""
    file = io.BytesIO()
    np.save(file, np.zeros((4, 2, 2), dtype=np.uint8))
    completion = {"routed_experts": base64.b64encode(file.getvalue()).decode()}

    with (
        server(completion) as front,
        pytest.raises(RoutingUnreadable, match="all zeros: True"),
    ):
        routed_experts(asking(front.url, RETURNED))


def test_noted_experts():
    """Begin, complete, take; what the ranks agree on counts."""
    with server({"text": "x"}, ranks=[noted(EXPERTS), noted(EXPERTS)]) as front:
        seen = routed_experts(asking(front.url, TIMED))

    assert EXPERTS == seen.tolist()
    methods = [body.get("method", path) for path, body in front.asked]
    assert [
        "perfgate_routing_begin",
        "/v1/completions",
        "perfgate_routing_take",
    ] == methods


@pytest.mark.parametrize(
    "ranks",
    [[noted(EXPERTS)], [noted(EXPERTS), noted(EXPERTS[::-1])]],
    ids=["one", "apart"],
)
def test_ranks_must_agree(ranks):
    """Routers that see different inputs, or a rank that is missing, are an error."""
    with (
        server({"text": "x"}, ranks=ranks) as front,
        pytest.raises(RoutingUnreadable, match="ranks differ"),
    ):
        routed_experts(asking(front.url, TIMED))


def test_server_that_fails_is_told():
    """Its status is what was seen."""
    with server(None) as front, pytest.raises(RoutingUnreadable, match="500"):
        routed_experts(asking(front.url, RETURNED))


def plan(config):
    """Its command line."""
    return vllm.plan(
        LaunchRequest(
            config=config,
            python=Path("/env/bin/python"),
            weights="/m",
            offline=True,
            host="127.0.0.1",
            port=1,
            startup_timeout_s=1.0,
            cores=(0, 1),
            gpu_indices=(0,) if config.device == "cuda" else (),
        )
    )


def test_timed_server_returns_no_experts():
    """A timed server is launched without the prefix cache and without returned experts."""
    argv = plan(TIMED).argv

    assert "--no-enable-prefix-caching" in argv
    assert "--enable-return-routed-experts" not in argv


def test_own_answer_needs_the_prefix_cache():
    """The engine refuses to return experts without it; all other servers have it off."""
    argv = plan(RETURNED).argv

    assert {"--enable-return-routed-experts", "--enable-prefix-caching"} <= set(
        argv
    )
    assert not {"--no-enable-prefix-caching", "--enforce-eager"} & set(argv)


def test_such_a_server_has_a_key_of_its_own():
    """So that it is never timed, and its baselines lie apart."""
    assert "vllm-mixtral-8x7b-tp1-routing" == plan(RETURNED).key
