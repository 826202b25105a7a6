"""CPU affinity: which cores each rank of a CPU server gets."""

from __future__ import annotations

from perfgate.errors import Failure


class TooFewCores(Failure):
    """Fewer cores than ranks."""


def bind_cores(ranks: int, cores: tuple[int, ...]) -> str:
    """Cores of each rank in both engines' notation: "0,1|2,3" for two ranks on four cores.

    Raises:
        TooFewCores: a rank would have none.
    """
    share = cores_per_rank(ranks, cores)
    groups = []
    for rank in range(ranks):
        first = rank * share
        rank_cores = cores[first : first + share]
        groups.append(",".join(map(str, rank_cores)))
    return "|".join(groups)


def cores_per_rank(ranks: int, cores: tuple[int, ...]) -> int:
    """How many cores each rank has.

    Raises:
        TooFewCores: a rank would have none.
    """
    share = len(cores) // ranks
    if share == 0:
        raise TooFewCores(
            tried=f"giving each of {ranks} ranks a core of its own",
            seen=f"this process may use {len(cores)} cores",
            remedy=f"use a machine with at least {ranks} cores, or fewer ranks (--tp)",
        )
    return share
