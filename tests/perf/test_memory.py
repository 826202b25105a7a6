"""E6: Does each GPU hold what the arithmetic says, and is there as much room for the KV cache as before?"""

from collections.abc import Iterator

import msgspec

from fixtures.case import Case
from fixtures.study import Study, asks


def weights(study: Study) -> Iterator[Case]:
    """Bytes of weights per rank over parameters x bytes per parameter / ranks; judged on every platform."""
    alone = () if study.dense_tp1 is None else (study.dense_tp1,)
    for server in dict.fromkeys((*study.models, *alone)):
        case = study.value("E6", "weights_over_arithmetic", server, None)
        yield msgspec.structs.replace(case, gate="hard")


def room(study: Study) -> Iterator[Case]:
    """Tokens that the KV cache holds, and memory used."""
    for server in study.models:
        yield study.value("E6", "kv_cache_tokens", server, None)
        yield study.value("E6", "memory_bytes", server, None)


@asks(weights)
def test_weights_per_rank(check, case):
    """Each rank holds its share of the parameters, within 3 %."""
    check(case)


@asks(room)
def test_memory(check, case):
    """The KV cache has room for as many tokens, and the server uses as much memory, as before."""
    check(case)
