"""Roster: the hosts of a fleet that are alive, checked for engine, weights and GPUs.

Each host lists by itself which units of the study it could measure, and what it lacks
for the others. So the driver needs neither an engine nor a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

import perfgate
from perfgate.fleet.cluster import Cluster, Heard, Host, Lost, News, Request
from perfgate.fleet.orders import Check, Ended, Listed
from perfgate.fleet.scheduler import Durations, Place
from perfgate.run import units
from perfgate.run.units import Unit

TURN_S = 0.5
HOSTS_EVERY_S = 2.0
KEY = "check-"  # how keys of its requests begin


@dataclass(frozen=True)
class Job:
    """What the hosts are asked for.

    Attributes:
        arguments: of pytest. project: the folder to run it in.
        durations: of launches in earlier runs.
        limit_s: of one launch.
        host_wait_s: how long to wait for a host where no one can go on.
    """

    arguments: tuple[str, ...]
    project: str
    durations: Durations = field(default_factory=lambda: Durations({}))
    limit_s: float = 7200.0
    host_wait_s: float = 60.0


class Roster:
    """The hosts that are alive, and what each can measure.

    Args:
        tell: shows a line that stays.
        clock: seconds, any origin.

    Attributes:
        job: what the hosts are asked for.
        places: host's id -> what it can measure.
        unusable: host's id -> its name, and why it measures nothing.
    """

    def __init__(
        self,
        cluster: Cluster,
        job: Job,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self.job = job
        self._tell = tell
        self._clock = clock
        self._alive: Mapping[str, Host] = {}
        self._read_s = float("-inf")
        self._checks: dict[str, Host] = {}
        self._units: dict[str, Unit] = {}
        self.places: dict[str, Place] = {}
        self.unusable: dict[str, str] = {}

    @property
    def alive(self) -> Mapping[str, Host]:
        """The hosts that were alive when they were last read, by id."""
        return self._alive

    @property
    def units(self) -> tuple[Unit, ...]:
        """All units that hosts select."""
        return tuple(self._units.values())

    @property
    def is_checking(self) -> bool:
        """Whether a host has not answered yet."""
        return bool(self._checks)

    @property
    def keys(self) -> list[str]:
        """Keys of the requests that are open."""
        return list(self._checks)

    def check_all(self) -> None:
        """Check every host that is alive now, and wait for their answers."""
        self.refresh()
        while self._checks:
            for news in self._cluster.wait(TURN_S):
                self.hear(news)
            self.refresh()

    def doubt(self, host: Host) -> None:
        """Give a host nothing more before it has answered another check.

        A host that has just died is on the cluster's list for some seconds, and would
        lose all that it is given.
        """
        if self.places.pop(host.id, None) is not None:
            self._submit(host)

    def refresh(self) -> None:
        """Read which hosts are alive, at most so often, and check new ones."""
        now_s = self._clock()
        if now_s - self._read_s < HOSTS_EVERY_S:
            return
        self._read_s = now_s
        self._alive = {host.id: host for host in self._cluster.hosts()}
        for key, host in list(self._checks.items()):
            if host.id not in self._alive:
                self._drop(key, "the host is gone")
        for host_id in self.places.keys() - self._alive.keys():
            self._tell(f"{self.places[host_id].host.name} is gone")
            del self.places[host_id]
        checked = {host.id for host in self._checks.values()}
        known = self.places.keys() | checked | self.unusable.keys()
        for host in self._alive.values():
            if host.id not in known:
                self._submit(host)

    def hear(self, news: News) -> None:
        """Take in an answer; other news is ignored."""
        if news.key not in self._checks:
            return
        host = self._checks[news.key]
        if isinstance(news, Lost):
            self._drop(news.key, news.reason)
        elif isinstance(news.message, Listed):
            self._add(news.key, host, news.message.content)
        elif isinstance(news.message, Ended):
            if host.id in self.places:
                del self._checks[news.key]
            else:
                self._drop(news.key, news.message.reason or "no units listed")

    def _submit(self, host: Host) -> None:
        key = f"{KEY}{host.id}"
        order = Check(arguments=self.job.arguments, project=self.job.project)
        self._checks[key] = host
        self._cluster.submit(Request(key=key, host=host, order=order))

    def _drop(self, key: str, reason: str) -> None:
        host = self._checks.pop(key)
        self.unusable[host.id] = f"{host.name}: {reason}"
        self._tell(f"{host.name} is left out: {reason}")

    def _add(self, key: str, host: Host, content: bytes) -> None:
        try:
            listed = units.read(content)
        except msgspec.DecodeError as error:
            self._drop(key, f"its answer is of another perfgate: {error}")
            return
        if listed.version != perfgate.__version__:
            self._drop(
                key,
                f"it has perfgate {listed.version}, the driver "
                f"{perfgate.__version__}: install the same",
            )
            return
        lacks = {}
        for unit in listed.units:
            lacks[unit.name] = unit.lacks
            plain = msgspec.structs.replace(unit, lacks=())
            self._units.setdefault(unit.name, plain)
        self.places[host.id] = Place(host, listed.kind, lacks)
        self._tell(f"{host.name}: {listed.machine}")


def is_answer(news: News) -> bool:
    """Whether it is the last word of a request."""
    return isinstance(news, Lost) or (
        isinstance(news, Heard) and isinstance(news.message, Ended)
    )
