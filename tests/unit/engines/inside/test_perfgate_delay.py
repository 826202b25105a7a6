"""Injected delays: each wait is queued where a step cannot hide it."""

from __future__ import annotations

import contextlib
import importlib
import types

import pytest

from perfgate.engines import sglang, vllm


class Cuda:
    """A GPU whose kernel spins 2,000,000 cycles a millisecond; notes each call and its stream."""

    def __init__(self):
        self.queued, self._streams, self._cycles = [], [None], 0

    def _sleep(self, cycles):
        self._cycles += cycles
        self.queued.append((self._streams[-1], cycles))

    @contextlib.contextmanager
    def stream(self, stream):
        self._streams.append(stream)
        yield
        self._streams.pop()

    def Event(self, enable_timing):
        assert enable_timing
        event = types.SimpleNamespace(at=0, synchronize=lambda: None)
        event.record = lambda: setattr(event, "at", self._cycles)
        event.elapsed_time = lambda end: (end.at - event.at) / 2_000_000
        return event


@pytest.fixture
def cuda(monkeypatch):
    """The engine's torch, and the folder on the engines' PYTHONPATH; sleeping is an error."""
    found = Cuda()
    monkeypatch.syspath_prepend(str(vllm.INSIDE))
    monkeypatch.setitem(
        __import__("sys").modules, "torch", types.SimpleNamespace(cuda=found)
    )
    monkeypatch.setattr(
        "time.sleep", lambda seconds: pytest.fail("the process slept")
    )
    return found


def test_vllm_waits_in_the_queue_of_the_gpu(cuda):
    """Each step queues behind a kernel that spins per sequence; a delay of 0 queues nothing."""
    worker = importlib.import_module("perfgate_vllm_worker").PerfgateWorker()
    worker.model_runner = types.SimpleNamespace(
        execute_model=lambda *args: cuda.queued.append("step"),
        device=types.SimpleNamespace(type="cuda"),
    )
    batch = types.SimpleNamespace(num_scheduled_tokens={"a": 1, "b": 1})

    assert {"per_token_ms": 0.5} == worker.perfgate_inject_delay("0.5")
    cuda.queued.clear()
    worker.model_runner.execute_model(batch)
    worker.perfgate_inject_delay("0")
    cuda.queued, slowed = [], cuda.queued[:2]
    worker.model_runner.execute_model(batch)

    # 2 sequences x 0.5 ms x 2,000,000 cycles
    assert [(None, 2_000_000), "step"] == slowed
    assert ["step"] == cuda.queued


@pytest.mark.parametrize(
    ("overlaps", "stream"), [(True, "forward"), (False, None)]
)
def test_sglang_waits_in_the_stream_of_its_steps(cuda, overlaps, stream):
    """With the overlap scheduler steps run in their own stream.

    A wait in another stream would not delay them.
    """
    plugin = importlib.import_module("perfgate_sglang")
    scheduler = types.SimpleNamespace(
        device="cuda:0", enable_overlap=overlaps, forward_stream="forward"
    )
    request = types.SimpleNamespace(server_args={sglang.DELAY: 1.0})

    plugin.take_delay(lambda *_: None, scheduler, request)
    cuda.queued.clear()
    plugin.wait(scheduler, types.SimpleNamespace(reqs=["a", "b", "c"]))

    # 3 sequences x 1 ms x 2,000,000 cycles
    assert [(stream, 6_000_000)] == cuda.queued
