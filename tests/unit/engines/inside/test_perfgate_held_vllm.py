"""vLLM held in one process: requests, steps and delays of an engine that is faked."""

import importlib
import types

import pytest

from perfgate.engines import vllm


class Engine:
    """An LLMEngine as far as it is used: each step ends the request that came last."""

    def __init__(self):
        self.requests = []
        self.calls = []

    def add_request(self, name, prompt, parameters):
        """Take a request."""
        self.requests.append((name, prompt["prompt_token_ids"], parameters))

    def step(self):
        """An output that goes on for the first request, and one that ends the last."""
        first = self.requests[0][0]
        name, prompt, tokens = self.requests.pop()
        answer = types.SimpleNamespace(token_ids=tuple(prompt[:tokens]))
        return [
            types.SimpleNamespace(finished=False, request_id=first),
            types.SimpleNamespace(
                # As newer releases write it.
                finished=True,
                request_id=f"{name}-8f3a",
                outputs=[answer],
            ),
        ]

    def collective_rpc(self, method, args):
        """Note the call."""
        self.calls.append((method, args))


@pytest.fixture
def held(monkeypatch):
    """The held engine, and the engine that it holds."""
    monkeypatch.syspath_prepend(str(vllm.INSIDE))
    module = importlib.import_module("perfgate_held_vllm")
    engine = Engine()
    return module.HeldVllm(engine, greedy=lambda tokens: tokens), engine


def test_answers_come_in_the_order_of_their_requests(held):
    """Whichever ended first; and once."""
    engine, _ = held
    engine.add([1, 2, 3], 2)
    engine.add([4, 5, 6], 3)
    assert 2 == engine.unfinished()

    engine.step()
    engine.step()

    assert 0 == engine.unfinished()
    assert [[1, 2], [4, 5, 6]] == engine.take()
    assert [] == engine.take()


def test_names_are_never_used_twice(held):
    """The engine refuses a name that it has had."""
    engine, inner = held
    names = []
    for _ in range(3):
        engine.add([1], 1)
        names.append(inner.requests[-1][0])
        engine.step()

    assert 3 == len(set(names))


def test_a_delay_is_that_of_the_servers(held):
    """The same extension of the worker delays its steps."""
    engine, inner = held
    engine.delay(0.5)

    assert [("perfgate_inject_delay", ("0.5",))] == inner.calls
