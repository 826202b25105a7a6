"""Fake engine: an HTTP server that streams at known times.

An HTTP server with the endpoints the suite uses, on the standard library alone.
It is an oracle: it writes down when it really sent each chunk (`GET /sent`,
CLOCK_MONOTONIC, which every process of a Linux host reads alike), so a client's
figures are compared with what happened and not with what was asked for.

    python tests/support/fake_engine.py --port 8300 --set ttft_s=0.05 --set itl_s=0.01

`--help` lists the ways in which the process itself misbehaves;
`fake_stream.Behaviour` those in which the stream does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fake_stream import Behaviour, Engine, Stream, say


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
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        method, path, _ = request.split(" ")
        self.answer(
            f"{method} {path}", json.loads(rest[:length] or b"null"), headers
        )

    def answer(self, what: str, body: Any, headers: dict[str, str]) -> None:
        """Everything but completions is answered at once."""
        engine = self.engine
        if what == "POST /v1/completions":
            return self.complete(
                body | {"request_id_header": headers.get("x-request-id", "")}
            )
        if what == "POST /behaviour":
            engine.behaviour = Behaviour(**(engine.options.behaviour | body))
        if what in ("POST /behaviour", "POST /reset"):
            engine.reset()
        answers: dict[str, Any] = {
            "GET /health": "",
            "GET /version": {"version": "0.0.fake"},
            "GET /v1/models": {
                "object": "list",
                "data": [{"id": engine.options.served_model}],
            },
            "GET /sent": engine.sent,
            "POST /behaviour": asdict(engine.behaviour),
            "GET /behaviour": asdict(engine.behaviour),
            "POST /reset": "",
        }
        if what == "GET /metrics":
            return self.respond(200, engine.metrics_text().encode())
        if what not in answers:
            return self.respond(404, b"not here")
        if (
            what == "GET /health"
            and time.monotonic() < self.engine.options.healthy_at
        ):
            return self.respond(503, b"not yet")
        self.respond(
            200,
            json.dumps(answers[what]).encode() if answers[what] != "" else b"",
        )

    def respond(self, status: int, body: bytes, extra: bytes = b"") -> None:
        """A whole response."""
        head = b"HTTP/1.1 %d Fake\r\ncontent-length: %d\r\n%s\r\n" % (
            status,
            len(body),
            extra,
        )
        self.transport.write(head + body)

    def complete(self, body: Any) -> None:
        """Start a stream, or the fault that takes its place; answer others at once."""
        if not body.get("stream"):
            if body.get("logprobs") and self.engine.options.refuse_logprobs:
                return self.respond(400, b"no logprobs here")
            choice = whole_answer(self.engine.behaviour.answer, body)
            answer = {"choices": [choice]}
            return self.respond(200, json.dumps(answer).encode())
        stream = self.stream = Stream(
            self.engine, self.write_chunk, self.end, body
        )
        at_once: dict[str, Callable[[], Any]] = {
            "http_400": lambda: self.respond(
                400, b'{"error":{"message":"prompt too long"}}'
            ),
            "http_503": lambda: self.respond(503, b"overloaded"),
            "redirect": lambda: self.respond(
                307, b"", b"location: http://127.0.0.1:9/elsewhere\r\n"
            ),
            "not_sse": lambda: self.respond(
                200, b"<html>hello</html>", b"content-type: text/html\r\n"
            ),
            "silence": lambda: None,
            "cut_at_once": self.transport.close,
        }
        if stream.fault in at_once:
            stream.stop()
            at_once[stream.fault]()
            return
        kind = b"text/event-stream; charset=utf-8"
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n"
            % kind
        )
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


def whole_answer(word: str, body: Any) -> dict[str, Any]:
    """An answer of one word all over, with log-probabilities where they are asked for."""
    count = body["max_tokens"]
    choice: dict[str, Any] = {"text": f" {word}" * count}
    if body.get("logprobs"):
        likeliest = {f" {word}": -0.5, " x": -1.5, " y": -2.5, " z": -3.5}
        choice["logprobs"] = {
            "tokens": [f" {word}"] * count,
            "token_logprobs": [-0.5] * count,
            "top_logprobs": [likeliest] * count,
        }
    return choice


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; arguments meant for a real engine are let through."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        help="0 takes a free one; the first line printed names it",
    )
    parser.add_argument(
        "--served-model",
        default="fake",
        metavar="NAME",
        help="the name in /v1/models",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="a field of Behaviour",
    )
    parser.add_argument(
        "--itl-s-in-turn",
        type=Path,
        help="each start takes the first line of this file as its itl_s",
    )
    parser.add_argument(
        "--style",
        default="vllm",
        help="prefix of the names in /metrics: vllm or sglang",
    )
    parser.add_argument(
        "--log-file-lines",
        type=Path,
        help="print this file's lines, one each 10 ms, before listening",
    )
    parser.add_argument(
        "--exit-at-start", type=int, metavar="CODE", help="after the log lines"
    )
    parser.add_argument(
        "--hang-at-start", action="store_true", help="never listen"
    )
    parser.add_argument(
        "--ready-after",
        type=float,
        default=0.0,
        metavar="S",
        help="listen only then",
    )
    parser.add_argument(
        "--healthy-after",
        type=float,
        default=0.0,
        metavar="S",
        help="/health says 503 until then",
    )
    parser.add_argument("--die-after-requests", type=int, metavar="N")
    parser.add_argument(
        "--exit-code", type=int, default=1, help="for --die-after-requests"
    )
    parser.add_argument(
        "--linger",
        type=float,
        default=0.0,
        metavar="S",
        help="the process of --die-after-requests outlives its sockets by so long",
    )
    parser.add_argument(
        "--stall-after-tokens",
        type=int,
        metavar="N",
        help="send no token any more",
    )
    parser.add_argument(
        "--reuse-port",
        action="store_true",
        help="share the port with others (SO_REUSEPORT)",
    )
    parser.add_argument("--refuse-logprobs", action="store_true")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument(
        "--children",
        type=int,
        default=0,
        metavar="N",
        help="processes that sleep for ten minutes",
    )
    parser.add_argument("--children-own-session", action="store_true")
    parser.add_argument("--children-ignore-sigterm", action="store_true")
    options, extra = parser.parse_known_args(arguments)
    known = {field.name for field in fields(Behaviour)}
    pairs = [text.partition("=") for text in options.set]
    unknown = [name for name, _, _ in pairs if name not in known]
    if unknown:
        parser.error(f"unknown behaviour {unknown}; known: {sorted(known)}")
    options.behaviour = {name: json.loads(value) for name, _, value in pairs}
    options.healthy_at, options.extra = (
        time.monotonic() + options.healthy_after,
        extra,
    )
    return options


def misbehave_at_start(options: argparse.Namespace) -> None:
    """The faults of the process, in the order in which an engine could have them."""
    if options.itl_s_in_turn:
        first, *others = options.itl_s_in_turn.read_text().splitlines()
        options.itl_s_in_turn.write_text("\n".join([*others, first]))
        options.behaviour["itl_s"] = float(first)
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(options.children):
        trap = "trap '' TERM; " if options.children_ignore_sigterm else ""
        command = ["sh", "-c", f"{trap}sleep 600 & wait; {trap}wait"]
        subprocess.Popen(
            command,
            start_new_session=options.children_own_session,
            stdin=subprocess.DEVNULL,
        )
    for line in (
        options.log_file_lines.read_text().splitlines()
        if options.log_file_lines
        else ()
    ):
        say(line)
        time.sleep(0.01)
    if options.exit_at_start is not None:
        sys.exit(options.exit_at_start)
    time.sleep(600 if options.hang_at_start else options.ready_after)


async def serve(options: argparse.Namespace) -> None:
    """Listen until stopped."""
    engine, loop = Engine(options), asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(engine),
        "127.0.0.1",
        options.port,
        backlog=4096,
        reuse_port=options.reuse_port,
    )
    say(
        f"fake engine listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}"
    )
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
