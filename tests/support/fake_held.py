"""A held engine in place of a real one, in a process of its own: it does as it is told.

Requests and answers are those of `perfgate_held`; a step takes no time, and the times
that are answered are those of the speed that the engine was told. One token of each
request is made in a step.
"""

import argparse
import contextlib
import importlib
import sys
from http.server import HTTPServer
from pathlib import Path

INSIDE = Path(__file__).resolve().parents[2] / "perfgate" / "engines" / "inside"
sys.path.insert(0, str(INSIDE))
perfgate_held = importlib.import_module("perfgate_held")
perfgate_count = importlib.import_module("perfgate_count")
perfgate_instructions = importlib.import_module("perfgate_instructions")
NS_PER_MS = 1_000_000


class StepEngine:
    """Answers each request after as many steps as tokens are asked for: its own ids."""

    def __init__(self):
        self.per_token_ms = 0.0
        self.running = []
        self.done = []

    def add(self, prompt, output_len_tokens):
        """Take a request."""
        self.running.append([list(prompt), output_len_tokens])

    def step(self):
        """One token for each."""
        for request in self.running:
            request[1] -= 1
        self.done += [ids for ids, left in self.running if left == 0]
        self.running = [row for row in self.running if row[1]]

    def unfinished(self):
        """How many run."""
        return len(self.running)

    def take(self):
        """What has ended."""
        done, self.done = self.done, []
        return done

    def delay(self, per_token_ms):
        """Each step takes longer from now on."""
        self.per_token_ms = per_token_ms


class ToldEngine(StepEngine):
    """Counts how long its steps would take."""

    told_ns = 0

    def __init__(self, step_ms):
        super().__init__()
        self.step_ms = step_ms

    def step(self):
        """One token for each, in the time that it was told."""
        step_ms = self.step_ms + self.per_token_ms * len(self.running)
        ToldEngine.told_ns += round(step_ms * NS_PER_MS)
        super().step()


class ToldStopwatch:
    """Times by what the engine was told."""

    def __init__(self):
        self.began_ns = ToldEngine.told_ns

    def times(self):
        """As `perfgate_held.Stopwatch`; nothing waits."""
        took_ns = ToldEngine.told_ns - self.began_ns
        return {"wall_ns": took_ns, "cpu_ns": took_ns, "waited_ns": 0}


def count(engine, body, more_operators):
    """Counts of the batch, of whose steps each has two operators, or more."""
    noted = perfgate_count.Operators()

    def answer():
        answered = perfgate_held.batch(engine, body)
        noted.counts["aten.mm.default"] = 200 * answered["steps"]
        noted.counts["aten.add.Tensor"] = more_operators * answered["steps"]
        return answered

    counts = perfgate_count.counted(
        answer, lambda: contextlib.nullcontext(noted)
    )
    # What the test's own process does besides is no count of an engine.
    return counts | {
        "python_calls": 5000,
        "c_calls": 3000,
        "new_tensor_bytes": 8,
    }


def instructions(engine, body, more_operators):
    """Instructions of the batch: more where a step has more operators."""

    def counted(work):
        answered = work()
        return 1_000_000 * more_operators * answered["steps"], answered

    return perfgate_instructions.instructions(
        lambda: perfgate_held.batch(engine, body), counted
    )


def main():
    """Answer until the process ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--step-ms", type=float, default=1.0)
    parser.add_argument("--die-at-batch", type=int, default=0)
    parser.add_argument(
        "--die-once", type=Path, help="made by the one that dies"
    )
    parser.add_argument("--adds", type=int, default=1)
    given = parser.parse_args()
    perfgate_held.Stopwatch = ToldStopwatch
    if given.die_at_batch and not (given.die_once and given.die_once.exists()):
        perfgate_held.ACTIONS["/batch"] = dying(
            given.die_at_batch, given.die_once
        )
    perfgate_held.ACTIONS["/count"] = lambda engine, body: count(
        engine, body, given.adds
    )
    perfgate_held.ACTIONS["/instructions"] = lambda engine, body: instructions(
        engine, body, given.adds
    )
    handler = perfgate_held.handler_of(ToldEngine(given.step_ms))
    HTTPServer(("127.0.0.1", given.port), handler).serve_forever()


def dying(batches, marker):
    """Answers so many batches, and ends the process then; a file tells that it did."""
    answered = 0

    def batch(engine, body):
        nonlocal answered
        answered += 1
        if answered > batches:
            if marker:
                marker.touch()
            sys.exit(3)
        return perfgate_held.batch(engine, body)

    return batch


if __name__ == "__main__":
    main()
