"""E6: Does each GPU hold the calculated bytes, and is the KV cache as large as before?"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case
from perfgate.study import Study


def weights(study: Study) -> Iterator[Case]:
    """Bytes of weights per rank over parameters x bytes per parameter / ranks.

    Judged on every platform.
    """
    servers = list(study.models)
    if study.dense_tp1 is not None and study.dense_tp1 not in servers:
        servers.append(study.dense_tp1)
    for server in servers:
        case = study.value("E6", "weights_over_arithmetic", server, None)
        # Fewer bytes than the parameters need is another model, and no improvement.
        yield msgspec.structs.replace(case, gate="hard", two_sided=True)


def capacity(study: Study) -> Iterator[Case]:
    """Tokens that the KV cache holds, and peak memory; judged on every platform.

    A deep load takes more memory of a CPU than the loads of the baseline: the peak is then
    reported alone.
    """
    for server in study.models:
        tokens = study.value("E6", "kv_cache_tokens", server, None)
        yield msgspec.structs.replace(tokens, gate="hard")
        peak = study.value("E6", "memory_peak_bytes", server, None)
        if study.gpu_count == 0 and study.is_sent_deep_loads(server):
            yield peak.report_only
        else:
            yield msgspec.structs.replace(peak, gate="hard")


def breakdown(study: Study) -> Iterator[Case]:
    """Memory after the load, the rest of the peak, and the growth; report-only.

    The rest is neither weights nor KV cache nor CUDA graphs. Growth is judged where
    `--soak` gives it time.
    """
    for server in study.models:
        for metric in ("memory_bytes", "memory_rest_bytes", "memory_growth"):
            case = study.value("E6", metric, server, None)
            yield case.report_only


@pytest.mark.perf(cases=weights)
def test_weights_per_rank(check, case):
    """Each rank holds its share of the parameters, within 3 %."""
    check(case)


@pytest.mark.perf(cases=capacity)
def test_memory(check, case):
    """The KV cache holds as many tokens, and peak memory is no higher, than before."""
    check(case)


@pytest.mark.perf(cases=breakdown)
def test_memory_breakdown(check, case):
    """The server holds as much memory, and as much of unknown use, as before."""
    check(case)
