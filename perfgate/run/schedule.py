"""Schedule: which launches a server needs, in which order, and what they are judged by.

`Sequential` launches each server by itself and judges it against its baseline. `Paired`
launches a candidate in turn with its base build and judges it against that build.
`Screened` launches each server by itself, and the suspect ones in pairs then.
`External` measures a server of an operator, which has no second launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from perfgate.cases import Case
from perfgate.config.config import Config
from perfgate.engines.base import ServerConfig
from perfgate.judge.paired import PAIRS
from perfgate.results.schema import Mode

ESCALATION_LAUNCHES = 2


@dataclass(frozen=True)
class ScheduledLaunch:
    """One launch that a schedule asks for.

    Attributes:
        server: what is launched: a server, or its base build.
        number: how many launches of this server have had its load after this one; 0
            where the launch is needed whatever was measured before.
        task: name of the work, the same in all workers of a session.
        progress: line for the terminal; empty for a server's only launch.
        is_fresh: whether a server that runs already must be launched again.
    """

    server: ServerConfig
    number: int
    task: str
    progress: str = ""
    is_fresh: bool = True


class Schedule(Protocol):
    """Which launches a session makes of each server, and how they are judged."""

    @property
    def mode(self) -> Mode:
        """How the gate judges such a run (`perfgate.results.schema.RunResults.mode`)."""

    @property
    def no_escalation(self) -> str:
        """Why there are no further launches of a server; empty if there are."""

    def cases(self, case: Case) -> tuple[Case, ...]:
        """The case with whatever else must be measured to judge it."""

    def first(self, server: ServerConfig) -> Sequence[ScheduledLaunch]:
        """The launches before a server's cases are judged."""

    def further(
        self, server: ServerConfig, loads: str
    ) -> Sequence[ScheduledLaunch]:
        """The launches after a verdict that needs more of them, once a session.

        Args:
            loads: names of the workloads that they are for.
        """


@dataclass(frozen=True)
class Sequential:
    """Each server is launched by itself, and judged against its baseline.

    Attributes:
        launches: of every server before anything is judged.
        escalate_by: further launches where a verdict asks for more.
    """

    launches: int = 1
    escalate_by: int = ESCALATION_LAUNCHES
    mode: Mode = "sequential"
    no_escalation: str = ""

    def cases(self, case: Case) -> tuple[Case, ...]:
        """The case alone; of a duel both builds."""
        return _builds(case)

    def first(self, server: ServerConfig) -> Sequence[ScheduledLaunch]:
        """The first one may be the running server; the others are fresh."""
        if self.launches == 1:
            return [
                ScheduledLaunch(
                    server, number=1, task=server.key, is_fresh=False
                )
            ]
        scheduled = []
        for number in range(1, self.launches + 1):
            task = server.key
            if number > 1:
                task = f"{server.key}, launch {number}"
            scheduled.append(
                ScheduledLaunch(
                    server,
                    number=number,
                    task=task,
                    progress=f"{server.key}: launch {number} of {self.launches}",
                    is_fresh=number > 1,
                )
            )
        return scheduled

    def further(
        self, server: ServerConfig, loads: str
    ) -> Sequence[ScheduledLaunch]:
        """`escalate_by` fresh launches."""
        return _escalation([server] * self.escalate_by, loads)


@dataclass(frozen=True)
class Paired:
    """A candidate is launched in turn with its base build (ABBAAB), and judged against it.

    Attributes:
        pairs: launches of each build before anything is judged.
    """

    pairs: int = PAIRS
    mode: Mode = "paired"
    no_escalation: str = ""

    def cases(self, case: Case) -> tuple[Case, ...]:
        """The case, and the same of the base build."""
        if case.is_duel:
            return _builds(case)
        return case, case.base

    def first(self, server: ServerConfig) -> Sequence[ScheduledLaunch]:
        """`pairs` launches of each build, all of them fresh."""
        order = ab_order(self.pairs)
        scheduled = []
        for place, side in enumerate(order):
            build, name = server, "candidate"
            if side == "A":
                build, name = server.base, "base"
            number = order[: place + 1].count(side)
            scheduled.append(
                ScheduledLaunch(
                    build,
                    number=number,
                    task=f"{build.key}, launch {number} of {order}",
                    progress=f"{server.key}: {name}, launch {number} of {order}",
                )
            )
        return scheduled

    def further(
        self, server: ServerConfig, loads: str
    ) -> Sequence[ScheduledLaunch]:
        """Three more pairs."""
        builds = []
        for side in ab_order(before=PAIRS):
            build = server
            if side == "A":
                build = server.base
            builds.append(build)
        return _escalation(builds, loads)


@dataclass(frozen=True)
class Screened:
    """Each server is judged against its baseline first; pairs decide what is suspect.

    A suspect server is asked for as its `candidate`, which is launched in turn with
    the base build. Its launch for the screen is in no pair: no base is its neighbour.

    Attributes:
        screen: the launches of every server before anything is judged.
        engines: those with a base build; servers of others are judged by their
            baselines alone.
    """

    screen: Sequential
    engines: frozenset[str]
    mode: Mode = "screened"
    no_escalation: str = ""

    def cases(self, case: Case) -> tuple[Case, ...]:
        """The case alone: what is suspect is not known yet. Of a duel both builds."""
        return _builds(case)

    def first(self, server: ServerConfig) -> Sequence[ScheduledLaunch]:
        """The launches of the screen; of a candidate three pairs."""
        if server.build:
            return Paired().first(server)
        return self.screen.first(server)

    def further(
        self, server: ServerConfig, loads: str
    ) -> Sequence[ScheduledLaunch]:
        """Fresh launches; of a candidate three more pairs."""
        if server.build:
            return Paired().further(server, loads)
        return self.screen.further(server, loads)

    def has_pairs(self, case: Case) -> bool:
        """Whether every server of the case has a base build; a duel has both already."""
        if case.is_duel:
            return False
        return all(load.server.engine in self.engines for load in case.loads)


@dataclass(frozen=True)
class External:
    """A server of an operator: one launch, which this suite did not make.

    Attributes:
        no_escalation: why no case of it can be measured on more launches.
    """

    mode: Mode = "sequential"
    no_escalation: str = "an external server cannot be launched again"

    def cases(self, case: Case) -> tuple[Case, ...]:
        """The case alone."""
        return (case,)

    def first(self, server: ServerConfig) -> Sequence[ScheduledLaunch]:
        """One."""
        return Sequential(launches=1).first(server)

    def further(
        self, server: ServerConfig, loads: str
    ) -> Sequence[ScheduledLaunch]:
        """None."""
        return ()


def schedule_of(settings: Config) -> Schedule:
    """The schedule of a session: with a base build all servers, or some, in pairs."""
    sequential = Sequential(launches=settings.launches)
    if not settings.base_builds:
        return sequential
    if settings.pairs == "suspect":
        return Screened(sequential, frozenset(settings.base_builds))
    return Paired(pairs=settings.pair_count)


def measured_cases(schedule: Schedule, cases: Sequence[Case]) -> list[Case]:
    """The cases, and those of their base builds where the schedule has any."""
    all_cases: list[Case] = []
    for case in cases:
        all_cases += schedule.cases(case)
    return all_cases


def ab_order(pairs: int = PAIRS, before: int = 0) -> str:
    """Which build is launched when: "ABBAAB" for three pairs.

    The order changes from pair to pair, so that a drift of the machine favours neither.

    Args:
        before: pairs that were launched already: "BAABBA" comes after three.
    """
    order = ""
    for index in range(before, before + pairs):
        order += "AB" if index % 2 == 0 else "BA"
    return order


def _builds(case: Case) -> tuple[Case, ...]:
    """What is measured for a case: itself, or both builds that are alive at once."""
    if case.is_duel:
        return case.candidate, case.base
    return (case,)


def _escalation(
    builds: Sequence[ServerConfig], loads: str
) -> list[ScheduledLaunch]:
    scheduled = []
    for place, build in enumerate(builds, start=1):
        scheduled.append(
            ScheduledLaunch(
                build,
                number=0,
                task=f"{build.key}, further launch {place} for {loads}",
                progress=(
                    f"{build.key}: {loads} is not decided yet; further launch "
                    f"{place} of {len(builds)}"
                ),
            )
        )
    return scheduled
