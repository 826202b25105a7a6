"""Held engine from the inside: batches, concurrency, cores, times, and its HTTP."""

import importlib
import json
import os
import socket
import threading
import urllib.error
import urllib.request

import pytest

from perfgate.engines import vllm
from tests.support.fake_held import StepEngine


@pytest.fixture
def module(monkeypatch):
    """The module as the engine's Python finds it: in the folder on PYTHONPATH."""
    monkeypatch.syspath_prepend(str(vllm.INSIDE))
    return importlib.import_module("perfgate_held")


class Engine(StepEngine):
    """Notes how many requests it had at once."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def add(self, prompt, output_len_tokens):
        """Take a request."""
        super().add(prompt, output_len_tokens)
        self.most = max(self.most, len(self.running))


def test_all_prompts_are_answered(module):
    """Each has its tokens, steps are counted, and equal prompts have equal hashes."""
    engine = Engine()

    answer = module.batch(
        engine, {"prompts": [[1, 2], [3, 4], [1, 2]], "output_len_tokens": 5}
    )

    assert (5, 6) == (answer["steps"], answer["tokens"])
    assert answer["answers"][0] == answer["answers"][2] != answer["answers"][1]
    assert answer["wall_ns"] > 0
    assert answer["cpu_ns"] > 0


def test_no_more_than_asked_are_in_flight(module):
    """The others wait until one has ended."""
    engine = Engine()
    body = {
        "prompts": [[1], [2], [3]],
        "output_len_tokens": 2,
        "max_concurrency": 1,
    }

    assert 6 == module.batch(engine, body)["steps"]
    assert 1 == engine.most


def test_a_batch_runs_on_its_core(module):
    """All threads of the process are put on it."""
    before = os.sched_getaffinity(0)
    core = max(before)
    try:
        module.batch(
            Engine(), {"prompts": [[1]], "output_len_tokens": 1, "core": core}
        )
        assert {core} == os.sched_getaffinity(0)
    finally:
        for task in module.TASKS.iterdir():
            os.sched_setaffinity(int(task.name), before)


@pytest.mark.parametrize(
    ("text", "expected"), [("812 4711 9\n", 4711), ("", None), (None, None)]
)
def test_the_wait_for_a_core(module, tmp_path, text, expected):
    """It is the kernel's second figure, and unknown where the kernel has none."""
    file = tmp_path / "schedstat"
    if text is not None:
        file.write_text(text)

    assert expected == module.waited_ns(file)


@pytest.fixture
def url(module):
    """The address of a held engine."""
    reserved = module.reserve("127.0.0.1", 0)
    server = module.server_at(reserved, module.handler_of(Engine()))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def post(url, body):
    """The JSON answer."""
    data = json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data)) as answer:
        return json.load(answer)


def test_nobody_takes_the_port_while_the_engine_loads(module):
    """It is bound from the start, and refuses until the engine is ready."""
    with module.reserve("127.0.0.1", 0) as reserved:
        address = reserved.getsockname()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(address)
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(address)


def test_over_http(url):
    """Health, batches and delays have their paths."""
    with urllib.request.urlopen(f"{url}/health") as answer:
        assert 200 == answer.status
    body = {"prompts": [[1]], "output_len_tokens": 1}
    assert 1 == post(f"{url}/batch", body)["tokens"]
    assert {"per_token_ms": 0.5} == post(f"{url}/delay", {"per_token_ms": 0.5})


@pytest.mark.parametrize(("path", "status"), [("/other", 404), ("/batch", 500)])
def test_what_cannot_be_answered(url, path, status):
    """An unknown path, or a body without prompts, is refused and does not end the engine."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(f"{url}{path}", {})
    assert status == caught.value.code
    caught.value.close()
    body = {"prompts": [[1]], "output_len_tokens": 1}
    assert 1 == post(f"{url}/batch", body)["tokens"]


def test_without_a_core_the_threads_stay(module):
    """A GPU's engine is asked so."""
    before = os.sched_getaffinity(0)
    body = {"prompts": [[1]], "output_len_tokens": 1, "core": None}

    assert 1 == module.batch(Engine(), body)["steps"]
    assert before == os.sched_getaffinity(0)
