"""Streams of the fake engine, their faults, and its own record of them.

The part of `fake_engine.py` that knows tokens; HTTP and the process are there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXT = (
    b'{"id":"cmpl-fake","object":"text_completion","created":1,"model":"fake",'
    b'"choices":[{"index":0,"text":'
)
TAIL = b',"logprobs":null,"finish_reason":%s,"stop_reason":null}],"usage":null}'
# Applied to whole streams; every one of them must end as a failed or a named request.
FAULTS = [
    "http_400",
    "http_503",
    "redirect",
    "cut",
    "cut_at_once",
    "endless",
    "bad_json",
    "silence",
    "not_sse",
]
FAULTS += [
    "error_event",
    "no_tokens",
    "short_count",
    "wrong_usage",
    "wrong_prompt_usage",
    "no_usage",
    "no_done",
]


def close_sockets() -> None:
    """Break every connection and stop listening, as if the process had ended."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(path.readlink()).startswith("socket:"):
                os.close(int(path.name))


@dataclass
class Behaviour:
    """How completions are streamed; set at the start or at any time by `POST /behaviour`.

    Attributes:
        ttft_spread_s: the k-th request waits up to this much more, so that
            streams are not in step.
        gaps_s: explicit gaps between chunks, used in turn instead of `itl_s`.
        extra_itl_s: added to every gap: the injected regression.
        prefill_s_per_token: a request waits so much longer for each token of its
            prompt.
        context_s_per_token: a gap is so much longer for each token before it.
        beside_s_per_token: all streams that decode fall silent for so long for each
            token of a new prompt.
        stalls: (start, length) in s since the first request after the last
            reset, in which nothing is sent to anyone.
        slow: (serial, chunk, length): one request that falls silent alone.
        compiles: (prompt length, s): the first request of that length since the
            last reset waits so much longer.
        answer: the word that answers which are not streamed are made of.
        accepted_per_request: drafted tokens that the engine says it accepted.
        leak_bytes_per_request: memory that it keeps of each request.
        saturates_at: streams from which throughput does not grow.
        fault: one of FAULTS; applied to `fault_serials`, or to every request
            where that is empty.
    """

    ttft_s: float = 0.02
    ttft_spread_s: float = 0.0
    itl_s: float = 0.01
    gaps_s: tuple[float, ...] = ()
    extra_itl_s: float = 0.0
    prefill_s_per_token: float = 0.0
    context_s_per_token: float = 0.0
    beside_s_per_token: float = 0.0
    tokens_per_chunk: int = 1
    stalls: tuple[tuple[float, float], ...] = ()
    slow: tuple[tuple[int, int, float], ...] = ()
    compiles: tuple[tuple[int, float], ...] = ()
    split_writes: bool = False
    answer: str = "a"
    fault: str = ""
    fault_serials: tuple[int, ...] = ()
    preemptions_per_request: int = 0
    prefix_hits_per_request: int = 0
    accepted_per_request: int = 0
    leak_bytes_per_request: int = 0
    saturates_at: int = 16

    def gap_s(self, index: int) -> float:
        """Between chunk `index` and the one before it."""
        return (
            self.gaps_s[index % len(self.gaps_s)] if self.gaps_s else self.itl_s
        ) + self.extra_itl_s


class Engine:
    """State shared by all connections: behaviour, counters, and what was sent when."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.behaviour = Behaviour(**options.behaviour)
        self.leaked: list[bytes] = []
        self.streams: set[Stream] = set()
        self.reset()

    def reset(self) -> None:
        """Forget what was sent, and count from zero."""
        self.sent: list[dict[str, Any]] = []
        self.first_request_at: float | None = None
        self.lengths_met: set[int] = set()
        self.counters = {
            "prompt_tokens": 0,
            "generation_tokens": 0,
            "num_preemptions": 0,
            "prefix_cache_hits": 0,
            "spec_decode_num_accepted_tokens": 0,
        }
        self.counters["prefix_cache_queries"] = self.finished = self.running = 0

    def stalled_until(self, now: float) -> float:
        """End of the injected stall that `now` (loop time, s) lies in; 0 outside one."""
        start = self.first_request_at or now
        ends = [
            start + at + length
            for at, length in self.behaviour.stalls
            if start + at <= now < start + at + length
        ]
        return max(ends, default=0.0)

    def silenced(self) -> bool:
        """Whether --stall-after-tokens is reached."""
        limit = self.options.stall_after_tokens
        return limit is not None and self.counters["generation_tokens"] >= limit

    def finish(self) -> None:
        """One more request answered; die if this was the last one allowed."""
        self.finished += 1
        if (
            self.options.die_after_requests is not None
            and self.finished >= self.options.die_after_requests
        ):
            say("fake engine: dying as told")
            if self.options.linger:
                close_sockets()
                time.sleep(self.options.linger)
            os._exit(self.options.exit_code)

    def metrics_text(self) -> str:
        """Prometheus text with the engine's own names."""
        style = self.options.style
        label = (
            'engine="0",model_name="fake"'
            if style == "vllm"
            else 'engine_type="unified",model_name="fake"'
        )
        names = {name: name for name in self.counters}
        if style == "sglang":
            names |= {
                "prefix_cache_hits": "cached_tokens",
                "num_preemptions": "num_retracted_requests",
            }
        lines = [
            f"{style}:{names[name]}_total{{{label}}} {float(value)}"
            for name, value in self.counters.items()
        ]
        lines += [
            f"{style}:num_requests_running{{{label}}} {float(self.running)}"
        ]
        lines += [
            (
                f'{style}:request_success_total{{{label},finished_reason="length"}} '
                f"{float(self.finished)}"
            )
        ]
        return "# HELP fake\n" + "\n".join(lines) + "\n"


def say(line: str) -> None:
    """To the server's log."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Stream:
    """One completion, sent by timers."""

    def __init__(
        self,
        engine: Engine,
        write: Callable[[bytes], None],
        end: Callable[[bool], None],
        body: Any,
    ) -> None:
        self.engine, self.write, self.end, self.body = engine, write, end, body
        self.loop, self.index, self.tokens = asyncio.get_running_loop(), 0, 0
        self.serial = len(engine.sent)
        self.log: dict[str, Any] = {
            "serial": self.serial,
            "received_ns": time.monotonic_ns(),
            "sends": [],
            "done": False,
        }
        self.log |= {
            "prompt": body["prompt"],
            "request_id": body.get("request_id_header", ""),
        }
        engine.sent.append(self.log)
        engine.first_request_at = engine.first_request_at or self.loop.time()
        behaviour = engine.behaviour
        self.fault = (
            behaviour.fault
            if self.serial in (behaviour.fault_serials or (self.serial,))
            else ""
        )
        self.dead = False
        # the golden ratio spreads any number of requests evenly
        self.due = (
            self.loop.time()
            + behaviour.ttft_s
            + behaviour.ttft_spread_s * (self.serial * 0.6180339887 % 1)
        )
        length = len(body["prompt"])
        self.due += behaviour.prefill_s_per_token * length
        for other in engine.streams:
            if other.tokens:
                other.late_s += behaviour.beside_s_per_token * length
        engine.streams.add(self)
        self.late_s = 0.0
        if length not in engine.lengths_met:
            engine.lengths_met.add(length)
            self.due += dict(behaviour.compiles).get(length, 0.0)
        engine.running += 1
        self.timer = self.loop.call_at(self.due, self.tick)

    def stop(self) -> None:
        """The client went away, or the stream is over."""
        if not self.dead:
            self.dead = True
            self.engine.streams.discard(self)
            self.engine.running -= 1
            self.timer.cancel()

    def tick(self) -> None:
        """Send the chunk that is due and set the timer for the next."""
        engine, now = self.engine, self.loop.time()
        until = engine.stalled_until(now)
        if engine.silenced() or until:
            self.due = until or now + 0.05
            self.timer = self.loop.call_at(self.due, self.tick)
            return
        wanted = self.body["max_tokens"] - (
            2 if self.fault == "short_count" else 0
        )
        count = min(
            engine.behaviour.tokens_per_chunk,
            wanted - self.tokens if self.fault != "endless" else 1,
        )
        self.tokens += count
        last = self.tokens >= wanted and self.fault != "endless"
        self.log["sends"].append((time.monotonic_ns(), count))
        self.event(
            TEXT
            + b'"'
            + b" a" * count
            + b'"'
            + TAIL % (b'"length"' if last else b"null")
        )
        engine.counters["generation_tokens"] += count
        self.index += 1
        if self.fault in ("cut", "bad_json", "error_event") and self.index == 3:
            return self.break_off()
        if last:
            return self.close()
        gap = engine.behaviour.gap_s(self.index - 1)
        gap += sum(
            length
            for serial, at, length in engine.behaviour.slow
            if (serial, at) == (self.serial, self.index)
        )
        context = len(self.body["prompt"]) + self.tokens
        gap += engine.behaviour.context_s_per_token * context
        self.due += gap + self.late_s
        self.late_s = 0.0
        self.timer = self.loop.call_at(self.due, self.tick)

    def event(self, data: bytes) -> None:
        """Send one SSE event, in two writes where the behaviour says so."""
        event = b"data: " + data + b"\n\n"
        if self.engine.behaviour.split_writes:
            self.write(event[: len(event) // 2])
            self.write(event[len(event) // 2 :])
        else:
            self.write(event)

    def break_off(self) -> None:
        """End the stream in the middle, as the fault says."""
        if self.fault == "bad_json":
            self.event(b'{"choices":[{"text": oops')
        if self.fault == "error_event":
            self.event(
                b'{"error":{"message":"engine is dead","type":"InternalServerError","code":500}}'
            )
        self.stop()
        self.end(self.fault != "cut")

    def close(self) -> None:
        """End the stream with the usage and [DONE]."""
        engine, prompt = self.engine, len(self.body["prompt"])
        said = self.tokens + (5 if self.fault == "wrong_usage" else 0)
        asked = prompt + (1 if self.fault == "wrong_prompt_usage" else 0)
        usage = (
            f'{{"prompt_tokens":{asked},"total_tokens":{asked + said},'
            f'"completion_tokens":{said}}}'
        )
        if self.fault != "no_usage" and (
            self.body.get("stream_options") or {}
        ).get("include_usage"):
            self.event(
                b'{"id":"cmpl-fake","choices":[],"usage":'
                + usage.encode()
                + b"}"
            )
        if self.fault != "no_done":
            self.event(b"[DONE]")
        engine.counters["prompt_tokens"] += prompt
        engine.counters["num_preemptions"] += (
            engine.behaviour.preemptions_per_request
        )
        engine.counters["prefix_cache_hits"] += (
            engine.behaviour.prefix_hits_per_request
        )
        engine.counters["prefix_cache_queries"] += prompt
        engine.counters["spec_decode_num_accepted_tokens"] += (
            engine.behaviour.accepted_per_request
        )
        # Written, or the kernel keeps no page of it.
        engine.leaked.append(b"x" * engine.behaviour.leak_bytes_per_request)
        self.log["done"] = True
        self.stop()
        self.end(True)
        engine.finish()
