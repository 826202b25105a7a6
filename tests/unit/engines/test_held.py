"""Held engines from the suite's side: batches and delays over HTTP."""

import http.server
import json
import threading

import pytest

from perfgate.engines.base import InjectionFailed
from perfgate.engines.held import Batch, answer_batch, inject_delay
from perfgate.web import NoAnswer

BATCH = Batch(
    prompts=[(1, 2, 3)], output_len_tokens=4, max_concurrency=1, core=0
)


@pytest.fixture
def held():
    """Starts a server that answers every POST so; its address and what it was sent."""
    servers = []

    def start(answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                server.sent.append((self.path, body))
                data = json.dumps(answer(body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.sent = []
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", server.sent

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_batch(held):
    """The prompts, the concurrency and the core are sent; the times come back."""
    url, sent = held(
        lambda _: {"wall_ns": 30, "cpu_ns": 20, "waited_ns": 9, "steps": 4}
    )

    times = answer_batch(url, BATCH)

    assert (30, 20, 9) == (times.wall_ns, times.cpu_ns, times.waited_ns)
    assert [
        (
            "/batch",
            {
                "prompts": [[1, 2, 3]],
                "output_len_tokens": 4,
                "max_concurrency": 1,
                "core": 0,
            },
        )
    ] == sent


def test_a_kernel_that_does_not_tell(held):
    """Without scheduler statistics the wait is unknown, and the rest is not."""
    url, _ = held(lambda _: {"wall_ns": 30, "cpu_ns": 20, "waited_ns": None})

    assert answer_batch(url, BATCH).waited_ns is None


def test_an_answer_without_times_is_none(held):
    """What is no answer of a held engine is refused, with what is wrong with it."""
    url, _ = held(lambda _: {"wall_ns": 30})

    with pytest.raises(NoAnswer, match="cpu_ns"):
        answer_batch(url, BATCH)


def test_a_delay_is_confirmed(held):
    """A delay counts only if the engine confirms it: without it the run tests nothing."""
    url, sent = held(lambda body: body)
    inject_delay(url, 0.5)
    assert [("/delay", {"per_token_ms": 0.5})] == sent

    deaf, _ = held(lambda _: {})
    with pytest.raises(InjectionFailed, match="it answered"):
        inject_delay(deaf, 0.5)
    with pytest.raises(InjectionFailed):
        inject_delay("http://127.0.0.1:9", 0.5)
