"""Front of a server: an HTTP endpoint that answers JSON by path."""

from __future__ import annotations

import http.server
import json
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


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
