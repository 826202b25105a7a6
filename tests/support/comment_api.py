"""A stand-in for the comment API of a code host, for unit tests alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class CommentApi:
    """Comments by number, and the requests that came in, without those that list."""

    comments: dict[int, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)
    url: str = ""
    status: int = 200


class _Handler(BaseHTTPRequestHandler):
    """Lists, adds and replaces comments."""

    api: CommentApi

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        size, page = int(query["per_page"][0]), int(query["page"][0])
        listed = []
        for number, body in self.api.comments.items():
            listed.append({"id": number, "body": body})
        self._answer(listed[(page - 1) * size : page * size])

    def do_POST(self) -> None:
        self._write(max(self.api.comments, default=0) + 1)

    def do_PATCH(self) -> None:
        self._write(int(self.path.rpartition("/")[2]))

    do_PUT = do_PATCH

    def _write(self, number: int) -> None:
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))["body"]
        self.api.requests.append((self.command, self.path))
        if self.api.status == 200:
            self.api.comments[number] = body
        self._answer({"id": number})

    def _answer(self, document: object) -> None:
        self.api.authorizations.add(self.headers.get("Authorization", ""))
        content = json.dumps(document).encode()
        created = self.command == "POST" and self.api.status == 200
        self.send_response(201 if created else self.api.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def comment_api() -> Iterator[CommentApi]:
    """Serve comments at `url` until the block ends."""
    api = CommentApi()
    handler = type("Handler", (_Handler,), {"api": api})
    server = HTTPServer(("127.0.0.1", 0), handler)
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
