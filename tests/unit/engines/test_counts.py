"""Counts of a held engine: parsed at the edge, and one value for each metric."""

import http.server
import json
import threading

import pytest

from perfgate.engines.counts import (
    CountedBatch,
    Counts,
    count_batch,
    count_instructions,
)
from perfgate.load.metrics import METRICS, is_portable
from perfgate.web import NoAnswer

ANSWER = {
    "python_calls": 25381,
    "c_calls": 18288,
    "operators": {"aten.mm.default": 3000, "aten.view.default": 459},
    "new_tensor_bytes": 11908984,
    "steps": 16,
    "tokens": 128,
    "answers": ["e67927ebdd7e", "bbb681433df7"],
    "repeats": True,
}
BATCH = CountedBatch(prompts=[(1, 2)], output_len_tokens=2, max_concurrency=1)


@pytest.fixture
def engine():
    """A server that answers /count with what its `answer` holds, and notes what it was asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            server.asked = self.path, json.loads(self.rfile.read(length))
            data = json.dumps(server.answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    server.answer = ANSWER
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_count_is_a_portable_metric(engine):
    """Of one batch each count has a value, and no processor changes it."""
    counts = count_batch(engine.url, BATCH)
    values = counts.values()
    assert (3459.0, 16.0, 2.0) == (
        values["work_operators"],
        values["work_steps"],
        values["work_answers"],
    )
    assert all(name in METRICS and is_portable(name) for name in values)
    assert engine.asked == (
        "/count",
        {"prompts": [[1, 2]], "output_len_tokens": 2, "max_concurrency": 1},
    )
    assert isinstance(counts, Counts)


def test_an_answer_without_counts_is_a_failure(engine):
    """What is no count is told, with the field."""
    engine.answer = {"steps": 1}
    with pytest.raises(NoAnswer, match="python_calls"):
        count_batch(engine.url, BATCH)


def test_instructions_are_a_portable_metric(engine):
    """Counted on another address, and no operators with them."""
    engine.answer = {
        "instructions": 158_555_322,
        "tokens": 128,
        "answers": ["e67927ebdd7e"],
        "repeats": True,
    }
    counted = count_instructions(engine.url, BATCH)

    assert {"work_instructions": 158_555_322.0} == counted.values()
    assert is_portable("work_instructions")
    assert {} == counted.operators
    assert "/instructions" == engine.asked[0]
