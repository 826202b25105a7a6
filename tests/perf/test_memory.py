"""E6: Does each GPU hold what the arithmetic says, and is there as much room for the KV cache as before?"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case
from perfgate.study import Study


def weights(study: Study) -> Iterator[Case]:
    """Bytes of weights per rank over parameters x bytes per parameter / ranks; judged on every platform."""
    alone = () if study.dense_tp1 is None else (study.dense_tp1,)
    for server in dict.fromkeys((*study.models, *alone)):
        case = study.value("E6", "weights_over_arithmetic", server, None)
        # Less than the model weighs is another model, and no improvement.
        yield msgspec.structs.replace(case, gate="hard", two_sided=True)


def room(study: Study) -> Iterator[Case]:
    """Tokens that the KV cache holds, and the most memory used; judged on every platform."""
    for server in study.models:
        for metric in ("kv_cache_tokens", "memory_peak_bytes"):
            yield msgspec.structs.replace(
                study.value("E6", metric, server, None), gate="hard"
            )


def made_of(study: Study) -> Iterator[Case]:
    """Memory after the load, and what of its peak is neither weights nor KV cache nor graphs; reported."""
    for server in study.models:
        for metric in ("memory_bytes", "memory_rest_bytes"):
            yield msgspec.structs.replace(
                study.value("E6", metric, server, None), gate="report"
            )


@pytest.mark.perf(cases=weights)
def test_weights_per_rank(check, case):
    """Each rank holds its share of the parameters, within 3 %."""
    check(case)


@pytest.mark.perf(cases=room)
def test_memory(check, case):
    """The KV cache has room for as many tokens, and the server never uses more memory, than before."""
    check(case)


@pytest.mark.perf(cases=made_of)
def test_memory_breakdown(check, case):
    """What the server holds beside what was asked for."""
    check(case)
