"""A cluster in memory: hosts measure in no time, and die or fail on demand.

A stub for unit tests of a fleet's driver. A measured launch has the results of a
session, as a host would send them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import msgspec

import perfgate
from perfgate.fleet.cluster import Heard, Host, Lost, Request
from perfgate.fleet.orders import (
    Check,
    Ended,
    Kept,
    Listed,
    Measure,
    Piece,
    Sweep,
)
from perfgate.results import schema
from perfgate.results.schema import RESULTS_FILE, RunResults
from perfgate.run.units import Unit, UnitList


def unit(name: str, gpu: str | None = "h200", gpu_count: int = 1) -> Unit:
    """A unit of one server."""
    return Unit(
        name=name, servers=(name,), cases=1, gpu_count=gpu_count, gpu=gpu
    )


class FakeCluster:
    """Hosts that finish a launch after some turns.

    Args:
        hosts: those that are alive. kinds: host's name -> kind of its machine.
        units: that every host selects.
        results: of a measured launch, by order and host.
        turns: host's name -> turns that a launch takes; 1 where it is not named.

    Attributes:
        failing: names of hosts whose launches fail. dead: ids of hosts that are gone.
        listed: ids of dead hosts that the list of hosts still has.
        log: (task, host's name) of each launch, in order.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        kinds: dict[str, str],
        units: Sequence[Unit],
        results: Callable[[Measure, Host], RunResults],
        turns: dict[str, int] | None = None,
    ) -> None:
        self._hosts = list(hosts)
        self._kinds = kinds
        self._units = tuple(units)
        self._results = results
        self._turns = turns or {}
        self._requests: dict[str, tuple[Request, int]] = {}
        self._now_s = 0.0
        self.failing: set[str] = set()
        self.dead: set[str] = set()
        self.listed: set[str] = set()
        self.lacking: dict[str, tuple[str, ...]] = {}
        self.kept: dict[str, dict[str, str]] = {}
        self.cancelled: list[str] = []
        self.delivered: dict[str, tuple[str, ...]] = {}
        self.log: list[tuple[str, str]] = []
        self.most_at_once: dict[str, int] = {}
        self.on_turn: Callable[[FakeCluster], None] = lambda cluster: None

    def clock(self) -> float:
        """A second for each turn."""
        return self._now_s

    def hosts(self) -> list[Host]:
        gone = self.dead - self.listed
        return [host for host in self._hosts if host.id not in gone]

    def submit(self, request: Request) -> None:
        if isinstance(request.order, Measure):
            self.log.append((request.order.task, request.host.name))
        turns = self._turns.get(request.host.name, 1)
        self._requests[request.key] = (request, turns)
        gpus: dict[str, int] = {}
        for other, _ in self._requests.values():
            name = other.host.name
            gpus[name] = gpus.get(name, 0) + other.gpu_count
        for name, count in gpus.items():
            most = self.most_at_once.get(name, 0)
            self.most_at_once[name] = max(most, count)

    def wait(self, timeout_s: float) -> list[Heard | Lost]:
        self._now_s += 1.0
        self.on_turn(self)
        news: list[Heard | Lost] = []
        for key, (request, turns) in list(self._requests.items()):
            if request.host.id in self.dead:
                del self._requests[key]
                news.append(Lost(key, "its host died"))
            elif turns > 1:
                self._requests[key] = (request, turns - 1)
            else:
                del self._requests[key]
                news += [Heard(key, row) for row in self._answers(request)]
        return news

    def cancel(self, key: str) -> None:
        self.cancelled.append(key)
        if key in self._requests:
            request, _ = self._requests[key]
            self._requests[key] = (
                dataclasses.replace(
                    request, order=Sweep(fleet="", delivered=())
                ),
                1,
            )

    def close(self) -> None:
        self._requests.clear()

    def _answers(self, request: Request) -> list:
        host, order = request.host, request.order
        match order:
            case Check():
                return self._listed(host)
            case Measure() if host.name in self.failing:
                return [Ended(status=3, reason="the disk is full")]
            case Measure():
                content = schema.encode(self._results(order, host))
                piece = Piece(path=RESULTS_FILE, offset=0, content=content)
                return [piece, Ended(status=0)]
            case Sweep(delivered=delivered):
                self.delivered[host.name] = delivered
                kept = Kept(folders=self.kept.get(host.name, {}))
                return [kept, Ended(status=0)]

    def _listed(self, host: Host) -> list:
        if host.name in self.lacking:
            return [Ended(status=4, reason="; ".join(self.lacking[host.name]))]
        kind = self._kinds[host.name]
        listed = UnitList(
            version=perfgate.__version__,
            kind=kind,
            machine=f"1x {kind}",
            units=self._units,
        )
        return [Listed(content=msgspec.json.encode(listed)), Ended(status=0)]
