"""Synthetic engine: a held engine whose step is Python and small matrix products.

It stands in for an engine where none is installed: `benchmarks.duel_trials synthetic`
shows what turns of two builds can see on this machine.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from perfgate.engines.vllm import INSIDE

# Every step takes so many times its CPU time, by a Python loop.
FACTOR = "PERFGATE_TRIAL_FACTOR"
WIDTH, INNER, MATRICES = 128, 448, 24
PYTHON_TURNS = 2400


class SyntheticEngine:
    """Makes one token of each request in a step."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._running: list[list[Any]] = []
        self._ended: list[list[int]] = []
        rng = np.random.default_rng(0)
        shape = (MATRICES, WIDTH, INNER)
        self._matrices = rng.random(shape, dtype=np.float32)

    def add(self, prompt: Sequence[int], output_len_tokens: int) -> None:
        """Take a request."""
        self._running.append([list(prompt), output_len_tokens])

    def step(self) -> None:
        """Work, and then as much longer as the factor says."""
        began = time.thread_time()
        self._work()
        end = began + self._factor * (time.thread_time() - began)
        while time.thread_time() < end:
            pass
        for request in self._running:
            request[1] -= 1
        self._ended += [ids for ids, left in self._running if left == 0]
        self._running = [row for row in self._running if row[1]]

    def _work(self) -> None:
        rows = np.ones((max(1, len(self._running)), WIDTH), dtype=np.float32)
        for matrix in self._matrices:
            rows = (rows @ matrix)[:, :WIDTH] * 1e-3
        counts: dict[int, str] = {}
        for number in range(PYTHON_TURNS):
            counts[number % 97] = str(number)

    def unfinished(self) -> int:
        """How many requests run."""
        return len(self._running)

    def take(self) -> list[list[int]]:
        """What has ended; dropped."""
        ended, self._ended = self._ended, []
        return ended

    def delay(self, per_token_ms: float) -> None:
        """Nothing: the factor is set at the start."""


def main() -> None:
    """Answer until the process ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    sys.path.insert(0, str(INSIDE))
    held = importlib.import_module("perfgate_held")
    engine = SyntheticEngine(float(os.environ.get(FACTOR, "1")))
    reserved = held.reserve(given.host, given.port)
    held.server_at(reserved, held.handler_of(engine)).serve_forever()


if __name__ == "__main__":
    main()
