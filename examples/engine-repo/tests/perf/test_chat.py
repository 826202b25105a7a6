"""Chat requests are answered as fast as before."""

import pytest

from perfgate.cases import Load


@pytest.mark.perf
def test_chat_is_as_fast_as_before(perf_server, perf_load, perf_gate):
    """A server in hand: start it, send it load, have a figure judged."""
    server = perf_server(model="chat-sparse")
    load = perf_load(server, "chat")
    perf_gate("itl_median_ms", load)
    perf_gate("slowest_ttft_ms", load)


def sparse_over_dense(study):
    """A question: the cost of the sparse model vs the dense one, alone and under load."""
    for workload in (study.single_stream, study.closed):
        of, over = (
            Load(server=server, workload=workload) for server in study.models
        )
        yield study.ratio("chat", "itl_median_ms", of, over)


@pytest.mark.perf(cases=sparse_over_dense)
def test_sparse_over_dense(check, case):
    """Each case of the question is a test of its own."""
    check(case)
