"""Fronts of servers: one that answers JSON by path, and one that buffers streams."""

from __future__ import annotations

import http.server
import json
import threading
import types
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def front(
    answer: Callable[[str], dict[str, Any]], status: int = 200
) -> Iterator[types.SimpleNamespace]:
    """Answers every POST with JSON by its path; `asked` holds (path, body), `url` its address."""
    asked: list[tuple[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        """As an engine's front."""

        def do_POST(self):
            """One request."""
            asked.append(
                (
                    self.path,
                    json.loads(
                        self.rfile.read(int(self.headers["Content-Length"]))
                    ),
                )
            )
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer(self.path)).encode())

        def log_message(self, *args):
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(
            target=found.serve_forever, args=(0.01,), daemon=True
        ).start()
        yield types.SimpleNamespace(
            url=f"http://127.0.0.1:{found.server_port}", asked=asked
        )
        found.shutdown()


@contextmanager
def holding(chunks: int, url: str) -> Iterator[str]:
    """A front that holds so many pieces of a stream, and passes them on at once.

    Args:
        chunks: how many are held.
        url: the server behind it.

    Yields:
        the front's address.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        """As a proxy that buffers."""

        def do_GET(self):
            """Asked of the server as it is."""
            self._pass(urllib.request.Request(url + self.path))

        def do_POST(self):
            """With its body."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = urllib.request.Request(url + self.path, body)
            asked.add_header("content-type", "application/json")
            self._pass(asked)

        def _pass(self, asked):
            held = []
            with _DIRECT.open(asked) as answer:
                self.send_response(answer.status)
                kind = answer.headers.get("content-type", "application/json")
                self.send_header("content-type", kind)
                self.end_headers()
                for line in answer:
                    held.append(line)
                    if len(held) >= 2 * chunks:  # each has an empty line
                        self.wfile.write(b"".join(held))
                        held.clear()
            self.wfile.write(b"".join(held))

        def log_message(self, *args):
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(
            target=found.serve_forever, args=(0.01,), daemon=True
        ).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
