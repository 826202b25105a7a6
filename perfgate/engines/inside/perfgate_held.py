"""Held engine: the whole engine in one process and one thread, asked over HTTP for batches.

Scheduler, model runner and sampler run in the thread that answers, so nothing of the
engine waits for another process, and a batch has a CPU time of its own. Run by the suite
with the engine's Python: ``python -m perfgate_held vllm --host HOST --port PORT ...``,
with the engine's own arguments after that. Requests are JSON:

* ``GET /health``: answers once the engine is ready.
* ``POST /batch``: ``{"prompts": [[ids], ...], "output_len_tokens": n}``; answers all
  prompts, ``max_concurrency`` of them at once, on ``core``. With times, steps, and a
  hash of each answer.
* ``POST /count``: the same body, with what the engine does for the batch counted.
* ``POST /instructions``: the same body, with the instructions counted, under valgrind.
* ``POST /delay``: ``{"per_token_ms": x}``; delays every step, to test the gate.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Protocol

import perfgate_count
import perfgate_instructions

ENGINES = {"vllm": "perfgate_held_vllm", "sglang": "perfgate_held_sglang"}
DIGITS = 12  # hex digits of an answer's hash
TASKS = Path("/proc/self/task")
SCHEDSTAT = Path("/proc/thread-self/schedstat")


class HeldEngine(Protocol):
    """An engine in this process; one batch at a time."""

    def add(self, prompt: Sequence[int], output_len_tokens: int) -> None:
        """Take a request with greedy sampling, which is not answered yet."""

    def step(self) -> None:
        """Do one step of everything that is unfinished."""

    def unfinished(self) -> int:
        """How many requests are unfinished."""

    def take(self) -> list[list[int]]:
        """Token ids of the finished answers in the order of their requests; drops them."""

    def delay(self, per_token_ms: float) -> None:
        """Delay each step for each sequence in it."""


class Stopwatch:
    """Elapsed time, CPU time of the process, and this thread's wait for a core."""

    def __init__(self) -> None:
        self._waited_ns = waited_ns()
        self._cpu_ns = time.process_time_ns()
        self._wall_ns = time.perf_counter_ns()

    def times(self) -> dict[str, int | None]:
        """Since it was made; the wait is None where the kernel does not tell."""
        wall_ns = time.perf_counter_ns() - self._wall_ns
        cpu_ns = time.process_time_ns() - self._cpu_ns
        waited = waited_ns()
        if waited is not None and self._waited_ns is not None:
            waited -= self._waited_ns
        return {"wall_ns": wall_ns, "cpu_ns": cpu_ns, "waited_ns": waited}


def waited_ns(schedstat: Path = SCHEDSTAT) -> int | None:
    """How long this thread was ready to run and had no core; None if it is not known."""
    try:
        return int(schedstat.read_text().split()[1])
    except (OSError, IndexError):
        return None


def pin(core: int, tasks: Path = TASKS) -> None:
    """Keep all threads of this process on one core."""
    for task in tasks.iterdir():
        try:
            os.sched_setaffinity(int(task.name), {core})
        except ProcessLookupError:  # it has just ended
            continue


def batch(engine: HeldEngine, body: dict[str, Any]) -> dict[str, Any]:
    """Answer all prompts, as many at once as is asked for."""
    prompts = list(body["prompts"])
    most = body.get("max_concurrency", len(prompts))
    core = body.get("core")
    if core is not None and os.sched_getaffinity(0) != {core}:
        pin(core)
    stopwatch = Stopwatch()
    steps = sent = 0
    while sent < len(prompts) or engine.unfinished():
        while sent < len(prompts) and engine.unfinished() < most:
            engine.add(prompts[sent], body["output_len_tokens"])
            sent += 1
        engine.step()
        steps += 1
    times = stopwatch.times()
    answers = engine.take()
    return {
        **times,
        "steps": steps,
        "tokens": sum(map(len, answers)),
        "answers": [_hash(answer) for answer in answers],
    }


def delay(engine: HeldEngine, body: dict[str, Any]) -> dict[str, Any]:
    """Delay each step from now on."""
    engine.delay(body["per_token_ms"])
    return body


def count(engine: HeldEngine, body: dict[str, Any]) -> dict[str, Any]:
    """What the engine does for a batch, counted."""
    counts: dict[str, Any] = perfgate_count.counted(lambda: batch(engine, body))
    return counts


def instructions(engine: HeldEngine, body: dict[str, Any]) -> dict[str, Any]:
    """The instructions that the engine takes for a batch."""
    counts = Path(os.environ[perfgate_instructions.COUNTS])
    callgrind = perfgate_instructions.Callgrind(counts)
    counted: dict[str, Any] = perfgate_instructions.instructions(
        lambda: batch(engine, body), callgrind.count
    )
    return counted


def _hash(answer: Sequence[int]) -> str:
    text = " ".join(map(str, answer))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


Action = Callable[[HeldEngine, dict[str, Any]], dict[str, Any]]
ACTIONS: dict[str, Action] = {
    "/batch": batch,
    "/count": count,
    "/instructions": instructions,
    "/delay": delay,
}


def handler_of(engine: HeldEngine) -> type[BaseHTTPRequestHandler]:
    """The handler of requests to this engine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = 404
            if self.path == "/health":
                status = 200
            self._answer(status, {})

        def do_POST(self) -> None:
            action = ACTIONS.get(self.path)
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length) or b"{}")
            if action is None:
                self._answer(404, {"error": f"no {self.path}"})
                return
            try:
                answer = action(engine, body)
            except Exception as error:
                self._answer(500, {"error": f"{type(error).__name__}: {error}"})
                raise
            self._answer(200, answer)

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """The suite asks for the health all the time: say nothing."""

    return Handler


def reserve(host: str, port: int) -> socket.socket:
    """The port, so that no other process takes it while the engine loads.

    It does not listen yet: whoever asks for the health is refused, and asks again.
    """
    reserved = socket.socket()
    reserved.bind((host, port))
    return reserved


def server_at(
    reserved: socket.socket, handler: type[BaseHTTPRequestHandler]
) -> HTTPServer:
    """A server that listens on a reserved port from now on."""
    address = reserved.getsockname()
    server = HTTPServer(address, handler, bind_and_activate=False)
    server.socket.close()
    server.socket = reserved
    server.server_address = address
    server.server_name, server.server_port = address
    server.server_activate()
    return server


def main(arguments: Sequence[str]) -> None:
    """Start the engine that is named first, and answer until the process ends."""
    parser = argparse.ArgumentParser(prog="perfgate_held")
    parser.add_argument("engine", choices=sorted(ENGINES))
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    own, rest = parser.parse_known_args(arguments)
    reserved = reserve(own.host, own.port)
    module = importlib.import_module(ENGINES[own.engine])
    server = server_at(reserved, handler_of(module.start(rest)))
    sys.stdout.write("Application startup complete.\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
