"""Duel runner: launches of two builds, alive at once, answer batches in turns.

It goes on until the time of every launch is known to SMALL_ERROR, after USUAL_S to
USUAL_ERROR, and no longer than LONGEST_S. Where two cores are free, two launches are
asked at once, one of each build, and change places: what disturbs one core of a machine
often disturbs the other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from perfgate.engines.held import Batch, BatchTimes, answer_batch
from perfgate.load.turns import (
    BATCH_TIMES,
    FEWEST_CYCLES,
    Turn,
    largest_error,
    orders,
    waiting_share,
)
from perfgate.load.workload import Workload, build_requests
from perfgate.web import NoAnswer

# Relative standard errors of a launch's time by its cycles. Launches differ by 0.7 %, so
# cycles beyond the small error add little; cycles beyond the usual error are worth
# USUAL_S. On a busy machine a turn says less and takes longer: up to LONGEST_S.
SMALL_ERROR, USUAL_ERROR = 0.003, 0.006
USUAL_S, LONGEST_S = 12.0, 60.0
# Batches that a launch answers before any counts, on each core.
WARM_UP = 3
# Waiting for a core in less than this share of the time: nobody else uses it.
FREE_CORE = 0.05
MOST_LANES = 2
CHECK_EVERY = 4  # cycles
NS_PER_MS = 1e6
TurnsByWorkload = Mapping[str, Sequence[Turn]]
Ask = Callable[[str, Batch], BatchTimes]


@dataclass(frozen=True)
class Contestant:
    """One launch of a build.

    Attributes:
        side: "base" or "candidate".
    """

    url: str
    side: str


@dataclass
class DuelRunner:
    """Asks the launches of a duel in turns.

    Args:
        launches: as many of each build.
        workloads: batches that they answer, by turns too.
        vocab_size: of their model.
        cores: that this process may use; None among them asks one launch at a time, and
            leaves its threads where they are.
        judged: which times must be known.

    Attributes:
        silent: the launch that did not answer; None while all do.
    """

    launches: Sequence[Contestant]
    workloads: Sequence[Workload]
    vocab_size: int
    cores: Sequence[int | None]
    rng: random.Random
    judged: Sequence[str] = tuple(BATCH_TIMES)
    ask: Ask = answer_batch
    clock: Callable[[], float] = time.monotonic
    longest_s: float = LONGEST_S
    silent: int | None = field(default=None, init=False)
    _repetition: int = field(default=0, init=False)

    def run(self, report: Callable[[float], None]) -> TurnsByWorkload:
        """The turns of each workload, those of the warm-up left out.

        Args:
            report: called with the part of the longest time that has passed.

        Raises:
            NoAnswer: a launch does not answer.
        """
        lanes = _free_lanes(self._warmed_up())
        turns: dict[str, list[Turn]] = {
            workload.name: [] for workload in self.workloads
        }
        began_s = self.clock()
        cycle = 0
        with ThreadPoolExecutor(MOST_LANES) as executor:
            while not self._is_enough(turns, cycle, began_s):
                for workload in self.workloads:
                    turns[workload.name] += self._cycle(
                        workload, cycle, lanes, executor
                    )
                cycle += 1
                report(min(1.0, (self.clock() - began_s) / self.longest_s))
        return turns

    def _is_enough(
        self, turns: TurnsByWorkload, cycle: int, began_s: float
    ) -> bool:
        """Whether all times are known, or the limit is reached with enough cycles."""
        if cycle < FEWEST_CYCLES:
            return False
        if self.clock() - began_s >= self.longest_s:
            return True
        if cycle % CHECK_EVERY:
            return False
        limit = SMALL_ERROR
        if self.clock() - began_s >= USUAL_S:
            limit = USUAL_ERROR
        for rows in turns.values():
            for metric in self.judged:
                if largest_error(rows, BATCH_TIMES[metric]) > limit:
                    return False
        return True

    def _warmed_up(self) -> dict[int | None, float]:
        """Warm all launches up on each core; returns what share of the time they waited."""
        shares: dict[int | None, float] = {}
        for core in self.cores[:MOST_LANES]:
            turns = []
            for workload in self.workloads:
                for _ in range(WARM_UP):
                    for place in range(len(self.launches)):
                        turns.append(self._turn(workload, 0, place, core))
                    self._repetition += 1
            shares[core] = waiting_share(turns)
        return shares

    def _cycle(
        self,
        workload: Workload,
        cycle: int,
        lanes: Sequence[int | None],
        executor: ThreadPoolExecutor,
    ) -> list[Turn]:
        """Every launch answers the same prompts twice."""
        sides = [launch.side for launch in self.launches]
        turns: list[Turn] = []
        for group in orders(sides, len(lanes), self.rng):
            futures = []
            for place, core in zip(group, lanes, strict=True):
                futures.append(
                    executor.submit(self._turn, workload, cycle, place, core)
                )
            turns += [future.result() for future in futures]
        self._repetition += 1
        return turns

    def _turn(
        self, workload: Workload, cycle: int, place: int, core: int | None
    ) -> Turn:
        requests = build_requests(workload, self._repetition, self.vocab_size)
        batch = Batch(
            prompts=[row.prompt_token_ids for row in requests],
            output_len_tokens=requests[0].output_len_tokens,
            max_concurrency=workload.batch or len(requests),
            core=core,
        )
        try:
            times = self.ask(self.launches[place].url, batch)
        except NoAnswer:
            self.silent = place
            raise
        return Turn(
            cycle=cycle,
            launch=place,
            cpu_ms=times.cpu_ns / NS_PER_MS,
            elapsed_ms=times.wall_ns / NS_PER_MS,
            waited_ms=(times.waited_ns or 0) / NS_PER_MS,
        )


def _free_lanes(
    waiting_shares: Mapping[int | None, float],
) -> tuple[int | None, ...]:
    """The cores to ask on: two if both are free, else the one that is waited for least.

    Args:
        waiting_shares: core -> share of the time that launches waited for it.
    """
    free = []
    for core, share in waiting_shares.items():
        if share < FREE_CORE:
            free.append(core)
    if len(free) == MOST_LANES:
        return tuple(free)
    return (min(waiting_shares, key=lambda core: waiting_shares[core]),)
