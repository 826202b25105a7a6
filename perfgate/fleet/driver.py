"""Driver: checks the hosts of a fleet, gives them launches, and keeps what they measure.

It writes an event before it acts on one, and each piece of a result as it comes. So
another driver can go on where this one was killed. A launch whose host dies, or that
fails, is made once more on another host. A host that fails again and again is set
aside.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate.files import free_name
from perfgate.fleet import machines, mirror, scheduler
from perfgate.fleet.cluster import Cluster, Heard, Host, Lost, News, Request
from perfgate.fleet.orders import (
    Ended,
    Gone,
    Kept,
    Measure,
    Order,
    Piece,
    Said,
    Sweep,
)
from perfgate.fleet.roster import TURN_S, Roster, is_answer
from perfgate.fleet.scheduler import Place
from perfgate.fleet.screen import HostRow, Screen
from perfgate.fleet.state import (
    Event,
    EventFile,
    Finished,
    Outcome,
    Placed,
    State,
    Task,
    Twice,
    after,
)

# Cancelled work is gone by then on every host that can be reached.
CANCEL_S = 10.0
SWEEP_S = 30.0
# A host that fails so many launches in a row gets no more.
MOST_FAILURES = 3
LOST = "lost"  # folder: what was measured of launches that were made again


@dataclass
class Running:
    """A launch on a host."""

    task: Task
    place: Place
    began_s: float
    line: str = ""


class Driver:
    """Works through the open launches of a run.

    Args:
        state: of the run; its first event is in the file already.
        roster: of the cluster's hosts.
        clock: seconds, any origin.
    """

    def __init__(
        self,
        run_dir: Path,
        state: State,
        cluster: Cluster,
        roster: Roster,
        screen: Screen,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = state
        self.roster = roster
        self._run_dir = run_dir
        self._cluster = cluster
        self._job = roster.job
        self._screen = screen
        self._clock = clock
        self._events = EventFile(run_dir)
        self._running: dict[str, Running] = {}
        self._failures: dict[str, int] = {}

    @property
    def places(self) -> list[Place]:
        """The hosts that were checked, with what runs on them."""
        return [self._with_load(row) for row in self.roster.places.values()]

    def run(self) -> State:
        """Measure what is open; a Ctrl-C ends it on every host, and is raised.

        Raises:
            RunDataError: the driver's disk cannot be written.
        """
        idle_since_s: float | None = None
        try:
            while self.state.open:
                self.roster.refresh()
                self._take_back()
                self._place()
                if self._running or self.roster.is_checking:
                    idle_since_s = None
                elif idle_since_s is None:
                    idle_since_s = self._clock()
                elif self._clock() - idle_since_s > self._job.host_wait_s:
                    break
                self._turn()
        except BaseException:
            self.cancel()
            raise
        self._sweep()
        return self.state

    def cancel(self) -> None:
        """End what runs, and wait until the hosts say that it is gone."""
        for key in [*self._running, *self.roster.keys]:
            self._cluster.cancel(key)
        until_s = self._clock() + CANCEL_S
        waiting = set(self._running)
        while waiting and self._clock() < until_s:
            for news in self._cluster.wait(TURN_S):
                if is_answer(news):
                    waiting.discard(news.key)
        for key in waiting:
            name = self._running[key].place.host.name
            self._screen.line(f"{name} did not confirm that {key} is gone")
        for key in list(self._running):
            self._finish(key, "stopped", "the driver was stopped")

    # One turn: who is there, what begins, what came.

    def _take_back(self) -> None:
        """Take back what hosts that are gone were doing."""
        for key, running in list(self._running.items()):
            if running.place.host.id not in self.roster.alive:
                self._cluster.cancel(key)
                self._finish(key, "lost", "the host is gone")

    def _place(self) -> None:
        places = [
            place
            for place in self.places
            if self._failures.get(place.host.name, 0) < MOST_FAILURES
        ]
        placements = scheduler.next_placements(
            self.state, frozenset(self._running), places, self._job.durations
        )
        for task, place in placements:
            self._begin(task, place)

    def _begin(self, task: Task, place: Place) -> None:
        host = place.host
        self._put_aside(task, host)
        self._note(
            Placed(
                task=task.id,
                host=host.name,
                kind=place.kind,
                unix_s=time.time(),
            )
        )
        self._running[task.id] = Running(task, place, self._clock())
        self._cluster.submit(self._request(task, host))

    def _request(self, task: Task, host: Host) -> Request:
        order: Order = Measure(
            arguments=self._job.arguments,
            project=self._job.project,
            fleet=self.state.begun.fleet,
            task=task.id,
            unit=task.unit.name,
            limit_s=self._job.limit_s,
        )
        gpu_count, cpu_count = task.unit.gpu_count, 0
        if not gpu_count:
            cpu_count = host.cpus
        product = ""
        if gpu_count and len(host.products) == 1:
            (product,) = host.products
        return Request(task.id, host, order, gpu_count, cpu_count, product)

    def _put_aside(self, task: Task, host: Host) -> None:
        """Keep what another host has measured of a launch that is made again."""
        folder = machines.part_dir(self._run_dir, task.id)
        before = task.host
        if not before and task.attempts:
            before = task.attempts[-1].host
        if folder.exists() and before != host.name:
            lost = self._run_dir / LOST
            lost.mkdir(parents=True, exist_ok=True)
            # The host may have lost the same launch before.
            wanted = f"{task.id}-{before}"
            free = free_name(wanted, lambda name: (lost / name).exists())
            folder.rename(lost / free)

    def _turn(self) -> None:
        for news in self._cluster.wait(TURN_S):
            self.roster.hear(news)
            if news.key in self._running:
                self._hear_launch(news)
        self._screen.show(self.state, self._rows())

    def _hear_launch(self, news: News) -> None:
        running = self._running[news.key]
        if isinstance(news, Lost):
            self._finish(news.key, "lost", news.reason)
            self.roster.doubt(running.place.host)
            return
        folder = machines.part_dir(self._run_dir, news.key)
        match news.message:
            case Piece() | Gone() as part:
                mirror.apply(folder, part)
            case Said(line=line):
                running.line = line
            case Ended(reason=reason):
                self._end(news.key, folder, reason)

    def _end(self, key: str, folder: Path, reason: str) -> None:
        """A session ended by itself; it counts where it measured all of its unit."""
        if not reason:
            host = self._running[key].place.host.name
            inspected = machines.inspect(folder, host)
            if not inspected.problem:
                self._finish(key, "measured", machine=inspected.machine)
                return
            reason = inspected.problem
        self._finish(key, "failed", reason)

    def _finish(
        self, key: str, outcome: Outcome, reason: str = "", machine: str = ""
    ) -> None:
        running = self._running.pop(key)
        host = running.place.host.name
        seconds = self._clock() - running.began_s
        self._note(
            Finished(
                task=key,
                host=host,
                outcome=outcome,
                seconds=round(seconds, 1),
                unix_s=time.time(),
                machine=machine,
                reason=reason,
            )
        )
        if outcome == "measured":
            self._failures[host] = 0
        elif outcome == "failed":
            self._failures[host] = self._failures.get(host, 0) + 1
            if self._failures[host] == MOST_FAILURES:
                self._screen.line(
                    f"{host} is set aside: {MOST_FAILURES} launches in a row failed"
                )
        self._screen.ended(self.state.tasks[key], host, outcome, reason)

    def _note(self, event: Event) -> None:
        """Write an event, then take it in."""
        self._events.append(event)
        self.state = after(self.state, event)

    # The end: what hosts have and the driver does not want.

    def _sweep(self) -> None:
        """Remove what was delivered from the hosts, and tell what was measured twice."""
        waiting = {}
        for host in self.roster.alive.values():
            key = f"sweep-{host.id}"
            waiting[key] = host
            self._cluster.submit(
                Request(key=key, host=host, order=self._sweep_of(host))
            )
        until_s = self._clock() + SWEEP_S
        while waiting and self._clock() < until_s:
            for news in self._cluster.wait(TURN_S):
                if news.key in waiting:
                    self._hear_sweep(news, waiting)

    def _sweep_of(self, host: Host) -> Sweep:
        delivered, elsewhere = [], []
        for task in self.state.measured:
            if task.host == host.name:
                delivered.append(task.id)
            else:
                elsewhere.append(task.id)
        return Sweep(
            fleet=self.state.begun.fleet,
            delivered=tuple(delivered),
            elsewhere=tuple(elsewhere),
        )

    def _hear_sweep(self, news: News, waiting: dict[str, Host]) -> None:
        if isinstance(news, Heard) and isinstance(news.message, Kept):
            self._note_twice(waiting[news.key], news.message)
        if is_answer(news):
            del waiting[news.key]

    def _note_twice(self, host: Host, kept: Kept) -> None:
        for name, folder in kept.folders.items():
            task = self.state.tasks.get(name)
            if task is not None and task.host != host.name:
                self._note(Twice(task=name, host=host.name, folder=folder))

    # What is shown.

    def _with_load(self, place: Place) -> Place:
        busy_gpus, is_busy = 0, False
        for running in self._running.values():
            if running.place.host.id == place.host.id:
                busy_gpus += running.task.unit.gpu_count
                is_busy = True
        return dataclasses.replace(place, busy_gpus=busy_gpus, is_busy=is_busy)

    def _rows(self) -> Sequence[HostRow]:
        rows = []
        now_s = self._clock()
        by_host: dict[str, list[Running]] = {}
        for running in self._running.values():
            by_host.setdefault(running.place.host.id, []).append(running)
        for place in self.roster.places.values():
            for running in by_host.get(place.host.id, ()):
                seconds = now_s - running.began_s
                title = running.task.unit.title
                rows.append(
                    HostRow(
                        place.host.name,
                        place.kind,
                        title,
                        seconds,
                        running.line,
                    )
                )
            if place.host.id not in by_host:
                rows.append(HostRow(place.host.name, place.kind))
        return rows
