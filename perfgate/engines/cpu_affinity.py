"""Which cores does each rank of a CPU server get?"""

from __future__ import annotations

from perfgate.errors import Failure


class TooFewCores(Failure):
    """Fewer cores than ranks."""


def bind_cores(ranks: int, cores: tuple[int, ...]) -> str:
    """Cores of each rank in both engines' notation: two ranks on four cores are "0,1|2,3". Each needs one of its own.

    Raises:
        TooFewCores: a rank would have none.
    """
    share = cores_per_rank(ranks, cores)
    return "|".join(
        ",".join(map(str, cores[rank * share : (rank + 1) * share]))
        for rank in range(ranks)
    )


def cores_per_rank(ranks: int, cores: tuple[int, ...]) -> int:
    """How many cores each rank has.

    Raises:
        TooFewCores: a rank would have none.
    """
    share = len(cores) // ranks
    if share == 0:
        raise TooFewCores(
            tried=f"giving each of {ranks} ranks a core of its own",
            seen=f"this process may use {len(cores)}",
            remedy=(
                "run on a machine with at least as many cores as ranks, or with "
                "fewer ranks (--tp)"
            ),
        )
    return share
