"""The paced server, and the load client's times by its record of what it sent."""

import shutil

import numpy as np
import pytest

from benchmarks.load_accuracy import errors, stream
from benchmarks.load_clients import Load, lateness_ms, read_loads, table
from benchmarks.paced_server import SentAnswer, paced_server

LOAD = Load(8, 800, in_step=False)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("in_step", [True, False])
def test_the_kernels_times_lie_between_sending_and_reading(in_step):
    """Of every chunk: not before the server sent it, not after the client had it."""
    with paced_server() as server:
        load = Load(8, 800, in_step)
        recording, transcripts = stream(server, load, 0.2)
        answers = server.sent()

    assert "" == recording.no_kernel_times
    assert [load.tokens(0.2)] * 8 == [len(a.sent_ns) for a in answers]
    assert {None} == {t.error for t in transcripts}
    by_index = {int(a.request_id.rpartition("-")[2]): a for a in answers}
    for t in transcripts:
        answer = by_index[t.index]
        assert answer.received_ns > t.sent_ns
        assert np.all(np.subtract(answer.sent_ns, answer.due_ns) >= 0)
        # both read clocks that differ by what reading them takes
        assert np.all(np.subtract(t.chunk_ns, answer.sent_ns) > -100_000)
    found = errors(transcripts, answers)
    assert (8, 8 * (load.tokens(0.2) - 1)) == (len(found.ttft), len(found.itl))


def test_the_table_has_the_ratio_to_each_other_client():
    """The first column is perfgate's; the others say what share of theirs it takes."""
    text = table(
        {LOAD: {"perfgate": [4.0, 6.0, 5.0], "other": [10.0, 10.0, 40.0]}},
        {LOAD: 0.25},
        ["perfgate", "other"],
    )

    assert (
        "| 8 streams, 800/s, one by one | 5.0 | 10.0 (0.50) | 0.25 ms |"
        == (text.splitlines()[-1])
    )


def test_every_load_is_sent_in_both_orders():
    """In step as an engine sends, and one by one; a long run has enough chunks."""
    loads = read_loads(["64x1000"])

    assert [Load(64, 1000, True), Load(64, 1000, False)] == loads
    assert 64 * (loads[0].tokens(0.1) - 8) >= 9_900


def test_lateness_is_that_of_the_server():
    """How long after it was due each chunk left."""
    answer = SentAnswer("x-0", 0, [0, 10], [1_000_000, 2_000_010])

    assert 1.99 == pytest.approx(lateness_ms([answer]))
