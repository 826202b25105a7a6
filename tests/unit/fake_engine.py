"""What would an engine do, if it streamed at times that are known?

An HTTP server with the endpoints the suite uses, on the standard library alone. It is an oracle: it writes down when
it really sent each chunk (`GET /sent`, CLOCK_MONOTONIC, which every process of a Linux host reads alike), so a client's
figures are compared with what happened and not with what was asked for.

    python tests/unit/fake_engine.py --port 8300 --set ttft_s=0.05 --set itl_s=0.01

`--help` lists the ways in which the process itself misbehaves; `Behaviour` those in which the stream does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

TEXT = b'{"id":"cmpl-fake","object":"text_completion","created":1,"model":"fake","choices":[{"index":0,"text":'
TAIL = b',"logprobs":null,"finish_reason":%s,"stop_reason":null}],"usage":null}'
# Applied to whole streams; every one of them must end as a failed or a named request.
FAULTS = ["http_400", "http_503", "redirect", "cut", "cut_at_once", "endless", "bad_json", "silence", "not_sse"]
FAULTS += ["error_event", "no_tokens", "short_count", "wrong_usage", "wrong_prompt_usage", "no_usage", "no_done"]


@dataclass
class Behaviour:
    """How completions are streamed; set at the start or at any time by `POST /behaviour`.

    Attributes:
        ttft_spread_s: the k-th request waits up to this much more, so that streams are not in step.
        gaps_s: explicit gaps between chunks, used in turn instead of `itl_s`.
        extra_itl_s: added to every gap: the planted regression.
        stalls: (start, length) in s since the first request after the last reset, in which nothing is sent to anyone.
        slow: (serial, chunk, length): one request that falls silent alone.
        fault: one of FAULTS; applied to `fault_serials`, or to every request where that is empty.
    """

    ttft_s: float = 0.02
    ttft_spread_s: float = 0.0
    itl_s: float = 0.01
    gaps_s: tuple[float, ...] = ()
    extra_itl_s: float = 0.0
    tokens_per_chunk: int = 1
    stalls: tuple[tuple[float, float], ...] = ()
    slow: tuple[tuple[int, int, float], ...] = ()
    split_writes: bool = False
    fault: str = ""
    fault_serials: tuple[int, ...] = ()
    preemptions_per_request: int = 0
    prefix_hits_per_request: int = 0

    def gap_s(self, index: int) -> float:
        """Between chunk `index` and the one before it."""
        return (self.gaps_s[index % len(self.gaps_s)] if self.gaps_s else self.itl_s) + self.extra_itl_s


class Engine:
    """State shared by all connections: behaviour, counters, and what was sent when."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.behaviour = Behaviour(**options.behaviour)
        self.reset()

    def reset(self) -> None:
        """Forget what was sent, and count from zero."""
        self.sent: list[dict[str, Any]] = []
        self.first_request_at: float | None = None
        self.counters = {"prompt_tokens": 0, "generation_tokens": 0, "num_preemptions": 0, "prefix_cache_hits": 0}
        self.counters["prefix_cache_queries"] = self.finished = self.running = 0

    def stalled_until(self, now: float) -> float:
        """End of the planted stall that `now` (loop time, s) lies in; 0 outside one."""
        start = self.first_request_at or now
        ends = [start + at + length for at, length in self.behaviour.stalls if start + at <= now < start + at + length]
        return max(ends, default=0.0)

    def silenced(self) -> bool:
        """Has --stall-after-tokens been reached?"""
        limit = self.options.stall_after_tokens
        return limit is not None and self.counters["generation_tokens"] >= limit

    def finish(self) -> None:
        """One more request answered; die if this was the last one allowed."""
        self.finished += 1
        if self.options.die_after_requests is not None and self.finished >= self.options.die_after_requests:
            say("fake engine: dying as told")
            os._exit(self.options.exit_code)

    def metrics_text(self) -> str:
        """Prometheus text with the engine's own names."""
        style = self.options.style
        label = 'engine="0",model_name="fake"' if style == "vllm" else 'engine_type="unified",model_name="fake"'
        names = {name: name for name in self.counters}
        if style == "sglang":
            names |= {"prefix_cache_hits": "cached_tokens", "num_preemptions": "num_retracted_requests"}
        lines = [f"{style}:{names[name]}_total{{{label}}} {float(value)}" for name, value in self.counters.items()]
        lines += [f"{style}:num_requests_running{{{label}}} {float(self.running)}"]
        lines += [f'{style}:request_success_total{{{label},finished_reason="length"}} {float(self.finished)}']
        return "# HELP fake\n" + "\n".join(lines) + "\n"


class Stream:
    """One completion, sent by timers."""

    def __init__(self, engine: Engine, write: Callable[[bytes], None], end: Callable[[bool], None], body: Any) -> None:
        self.engine, self.write, self.end, self.body = engine, write, end, body
        self.loop, self.index, self.tokens = asyncio.get_running_loop(), 0, 0
        self.serial = len(engine.sent)
        self.log: dict[str, Any] = {
            "serial": self.serial,
            "received_ns": time.monotonic_ns(),
            "sends": [],
            "done": False,
        }
        self.log |= {"prompt": body["prompt"], "request_id": body.get("request_id_header", "")}
        engine.sent.append(self.log)
        engine.first_request_at = engine.first_request_at or self.loop.time()
        behaviour = engine.behaviour
        self.fault = behaviour.fault if self.serial in (behaviour.fault_serials or (self.serial,)) else ""
        self.dead = False
        # the golden ratio spreads any number of requests evenly
        self.due = self.loop.time() + behaviour.ttft_s + behaviour.ttft_spread_s * (self.serial * 0.6180339887 % 1)
        engine.running += 1
        self.timer = self.loop.call_at(self.due, self.tick)

    def stop(self) -> None:
        """The client went away, or the stream is over."""
        if not self.dead:
            self.dead = True
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
        wanted = self.body["max_tokens"] - (2 if self.fault == "short_count" else 0)
        count = min(engine.behaviour.tokens_per_chunk, wanted - self.tokens if self.fault != "endless" else 1)
        self.tokens += count
        last = self.tokens >= wanted and self.fault != "endless"
        self.log["sends"].append((time.monotonic_ns(), count))
        self.event(TEXT + b'"' + b" a" * count + b'"' + TAIL % (b'"length"' if last else b"null"))
        engine.counters["generation_tokens"] += count
        self.index += 1
        if self.fault in ("cut", "bad_json", "error_event") and self.index == 3:
            return self.break_off()
        if last:
            return self.close()
        gap = engine.behaviour.gap_s(self.index - 1)
        gap += sum(length for serial, at, length in engine.behaviour.slow if (serial, at) == (self.serial, self.index))
        self.due += gap
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
            self.event(b'{"error":{"message":"engine is dead","type":"InternalServerError","code":500}}')
        self.stop()
        self.end(self.fault != "cut")

    def close(self) -> None:
        """End the stream with the usage and [DONE]."""
        engine, prompt = self.engine, len(self.body["prompt"])
        said = self.tokens + (5 if self.fault == "wrong_usage" else 0)
        asked = prompt + (1 if self.fault == "wrong_prompt_usage" else 0)
        usage = f'{{"prompt_tokens":{asked},"total_tokens":{asked + said},"completion_tokens":{said}}}'
        if self.fault != "no_usage":
            self.event(b'{"id":"cmpl-fake","choices":[],"usage":' + usage.encode() + b"}")
        if self.fault != "no_done":
            self.event(b"[DONE]")
        engine.counters["prompt_tokens"] += prompt
        engine.counters["num_preemptions"] += engine.behaviour.preemptions_per_request
        engine.counters["prefix_cache_hits"] += engine.behaviour.prefix_hits_per_request
        engine.counters["prefix_cache_queries"] += prompt
        self.log["done"] = True
        self.stop()
        self.end(True)
        engine.finish()


class Connection(asyncio.Protocol):
    """Just enough of HTTP/1.1 with keep-alive."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.buffer = engine, b""
        self.stream: Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: stop its stream."""
        if self.stream:
            self.stream.stop()

    def data_received(self, data: bytes) -> None:
        """Collect one whole request."""
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        request, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        method, path, _ = request.split(" ")
        self.answer(f"{method} {path}", json.loads(rest[:length] or b"null"), headers)

    def answer(self, what: str, body: Any, headers: dict[str, str]) -> None:
        """Everything but completions is answered at once."""
        engine = self.engine
        if what == "POST /v1/completions":
            return self.complete(body | {"request_id_header": headers.get("x-request-id", "")})
        if what == "POST /behaviour":
            engine.behaviour = Behaviour(**(engine.options.behaviour | body))
        if what in ("POST /behaviour", "POST /reset"):
            engine.reset()
        answers: dict[str, Any] = {
            "GET /health": "",
            "GET /version": {"version": "0.0.fake"},
            "GET /v1/models": {"object": "list", "data": [{"id": "fake", "root": "fake", "max_model_len": 4096}]},
            "GET /sent": engine.sent,
            "POST /behaviour": asdict(engine.behaviour),
            "POST /reset": "",
        }
        if what == "GET /metrics":
            return self.respond(200, engine.metrics_text().encode())
        if what not in answers:
            return self.respond(404, b"not here")
        if what == "GET /health" and time.monotonic() < self.engine.options.healthy_at:
            return self.respond(503, b"not yet")
        self.respond(200, json.dumps(answers[what]).encode() if answers[what] != "" else b"")

    def respond(self, status: int, body: bytes, extra: bytes = b"") -> None:
        """A whole response."""
        head = b"HTTP/1.1 %d Fake\r\ncontent-length: %d\r\n%s\r\n" % (status, len(body), extra)
        self.transport.write(head + body)

    def complete(self, body: Any) -> None:
        """Start a stream, or the fault that takes its place."""
        stream = self.stream = Stream(self.engine, self.write_chunk, self.end, body)
        at_once: dict[str, Callable[[], Any]] = {
            "http_400": lambda: self.respond(400, b'{"error":{"message":"prompt too long"}}'),
            "http_503": lambda: self.respond(503, b"overloaded"),
            "redirect": lambda: self.respond(307, b"", b"location: http://127.0.0.1:9/elsewhere\r\n"),
            "not_sse": lambda: self.respond(200, b"<html>hello</html>", b"content-type: text/html\r\n"),
            "silence": lambda: None,
            "cut_at_once": self.transport.close,
        }
        if stream.fault in at_once:
            stream.stop()
            at_once[stream.fault]()
            return
        kind = b"text/event-stream; charset=utf-8"
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n" % kind)
        if stream.fault == "no_tokens":
            stream.timer.cancel()
            stream.close()

    def write_chunk(self, data: bytes) -> None:
        """One chunk of HTTP's chunked encoding."""
        self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self, whole: bool) -> None:
        """Finish the response properly, or close the connection instead."""
        if whole:
            self.transport.write(b"0\r\n\r\n")
        else:
            self.transport.close()


def say(line: str) -> None:
    """To the server's log."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; arguments meant for a real engine are let through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; the first line printed names it")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a field of Behaviour")
    parser.add_argument("--style", default="vllm", help="prefix of the names in /metrics: vllm or sglang")
    parser.add_argument("--log-file-lines", type=Path, help="print this file's lines, one each 10 ms, before listening")
    parser.add_argument("--exit-at-start", type=int, metavar="CODE", help="after the log lines")
    parser.add_argument("--hang-at-start", action="store_true", help="never listen")
    parser.add_argument("--ready-after", type=float, default=0.0, metavar="S", help="listen only then")
    parser.add_argument("--healthy-after", type=float, default=0.0, metavar="S", help="/health says 503 until then")
    parser.add_argument("--die-after-requests", type=int, metavar="N")
    parser.add_argument("--exit-code", type=int, default=1, help="for --die-after-requests")
    parser.add_argument("--stall-after-tokens", type=int, metavar="N", help="send no token any more")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--children", type=int, default=0, metavar="N", help="processes that sleep for ten minutes")
    parser.add_argument("--children-own-session", action="store_true")
    parser.add_argument("--children-ignore-sigterm", action="store_true")
    parser.add_argument("--leave-shm", metavar="NAME", help="leave this file in /dev/shm")
    options, extra = parser.parse_known_args(arguments)
    known = {field.name for field in fields(Behaviour)}
    pairs = [text.partition("=") for text in options.set]
    unknown = [name for name, _, _ in pairs if name not in known]
    if unknown:
        parser.error(f"unknown behaviour {unknown}; known: {sorted(known)}")
    options.behaviour = {name: json.loads(value) for name, _, value in pairs}
    options.healthy_at, options.extra = time.monotonic() + options.healthy_after, extra
    return options


def misbehave_at_start(options: argparse.Namespace) -> None:
    """The faults of the process, in the order in which an engine could have them."""
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.leave_shm:
        Path("/dev/shm", options.leave_shm).write_bytes(b"left behind")
    for _ in range(options.children):
        trap = "trap '' TERM; " if options.children_ignore_sigterm else ""
        command = ["sh", "-c", f"{trap}sleep 600 & wait; {trap}wait"]
        subprocess.Popen(command, start_new_session=options.children_own_session, stdin=subprocess.DEVNULL)
    for line in options.log_file_lines.read_text().splitlines() if options.log_file_lines else ():
        say(line)
        time.sleep(0.01)
    if options.exit_at_start is not None:
        sys.exit(options.exit_at_start)
    time.sleep(600 if options.hang_at_start else options.ready_after)


async def serve(options: argparse.Namespace) -> None:
    """Listen until stopped."""
    engine, loop = Engine(options), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(engine), "127.0.0.1", options.port, backlog=4096)
    say(f"fake engine listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}")
    if not options.ignore_sigterm:
        loop.add_signal_handler(signal.SIGTERM, server.close)
    try:
        await server.serve_forever()
    except asyncio.CancelledError:
        say("fake engine: stopped")


if __name__ == "__main__":
    parsed = parse()
    misbehave_at_start(parsed)
    asyncio.run(serve(parsed))
