"""A server that answers with bytes as they are written here, however wrong they are."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

Answer = Callable[[socket.socket, bytes], None]


def pieces(*parts: bytes, pause_s: float = 0.0) -> Answer:
    """Sends these one after the other, and closes the connection."""

    def answer(connection: socket.socket, _request: bytes) -> None:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)

    return answer


def whole(
    body: bytes, status: str = "200 OK", headers: tuple[str, ...] = ()
) -> Answer:
    """A body with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += ["Connection: close", *headers]
    return pieces("\r\n".join([*lines, "", ""]).encode() + body)


def endless(head: bytes, part: bytes, pause_s: float = 0.0) -> Answer:
    """Sends the head, and the part until the client goes away."""

    def answer(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(part)
            time.sleep(pause_s)

    return answer


def by_path(answers: dict[str, Answer]) -> Answer:
    """One answer for each path; 404 for others."""

    def answer(connection: socket.socket, request: bytes) -> None:
        path = request.split(b" ")[1].decode()
        answers.get(path, whole(b"not here", "404 Not Found"))(
            connection, request
        )

    return answer


def certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 that signs itself, with its key, in one file."""
    path = folder / "both.pem"
    key = folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-days", "2"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    with path.open("a") as file:
        file.write(key.read_text())
    return path


def has_openssl() -> bool:
    """Whether a certificate can be made here."""
    return shutil.which("openssl") is not None


@contextlib.contextmanager
def serving(
    answer: Answer, tls: Path | None = None
) -> Iterator[types.SimpleNamespace]:
    """Answers each connection once; `asked` has the requests, `url` the address."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    scheme, context = "http", None
    if tls is not None:
        scheme, context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)

    def one(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                request = _request(connection)
                asked.append(request)
                answer(connection, request)

    threading.Thread(target=_accept, args=(listener, one), daemon=True).start()
    port = listener.getsockname()[1]
    try:
        yield types.SimpleNamespace(
            url=f"{scheme}://127.0.0.1:{port}", port=port, asked=asked
        )
    finally:
        # It wakes the thread that accepts; closing alone does not.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(
    listener: socket.socket, serve: Callable[[socket.socket], None]
) -> None:
    """Serve each connection in a thread of its own until the listener is closed."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(
                target=serve, args=(connection,), daemon=True
            ).start()


def _request(connection: socket.socket) -> bytes:
    """Head and body of one request; of TLS where none is spoken its first bytes."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
        if data.startswith(b"\x16"):
            return data
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
