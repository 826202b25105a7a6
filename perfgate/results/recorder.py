"""Recorder: writes what a session measures into its run directory, step by step.

The results of a run are one frozen value. The recorder replaces it at each step and
saves what changed, so that a killed session loses at most the repetition under way.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from perfgate.models.catalogue import lookup
from perfgate.results import schema as rundata
from perfgate.results.answer import Answer
from perfgate.results.journal import Journal
from perfgate.results.profile import (
    CounterProof,
    Explained,
    Explanation,
    Profile,
    Unexplained,
)
from perfgate.results.schema import Launch, Measurement, RunResults, Server
from perfgate.servers.launch_record import ServerDied


@dataclass(frozen=True)
class Measured:
    """The repetitions of one workload on one launch so far.

    Attributes:
        load_s: seconds of load since the entry before.
    """

    measurement: Measurement
    load_s: float = 0.0


@dataclass(frozen=True)
class LaunchFigures:
    """Figures and notes that belong to a launch as a whole.

    Attributes:
        server: key of the server. launch: its index.
        load_s: seconds of load since the entry before, such as the warm-up.
        answers: hashes of its answers to the fixed prompts, if they were read.
        answer_tokens: the answers themselves, with log-probabilities.
    """

    server: str
    launch: int
    values: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    load_s: float = 0.0
    answers: tuple[str, ...] = ()
    answer_tokens: tuple[Answer, ...] = ()


@dataclass(frozen=True)
class LaunchEnd:
    """The end of what is measured on a launch for now.

    Attributes:
        server: key of the server. launch: its index.
        death: how the server died or hung meanwhile; None if it did not.
    """

    server: str
    launch: int
    death: ServerDied | None = None


LaunchEntry = Measured | LaunchFigures | LaunchEnd


class Recorder:
    """The results of a run so far.

    Args:
        results: what is known at the start; saved at once.
        run_dir: where results.json is kept.
    """

    def __init__(self, results: RunResults, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.results = results
        path = run_dir / rundata.RESULTS_FILE
        self._journal = Journal(path, rundata.encode)
        self.update()

    def update(self, **changes: Any) -> None:
        """Replace fields of the results, and save."""
        self._change(**changes)
        self._journal.write(self.results)

    def finish(self, **changes: Any) -> None:
        """Replace fields of the results, and write results.json whole."""
        self._change(**changes)
        self._journal.write_whole(self.results)

    def begin(self, server: str, launch: int) -> None:
        """Note that a launch is measured (again): it is not whole until its `LaunchEnd`."""
        row = self._launch(server, launch)
        if row.measured:
            self._replace(row, measured=False)

    def add(self, entry: LaunchEntry) -> None:
        """Add what was measured on a launch, and save."""
        match entry:
            case Measured(measurement, load_s):
                self.spend(load_s=load_s)
                self.put_measurement(measurement)
            case LaunchFigures():
                self._add_figures(entry)
            case LaunchEnd(server, launch):
                row = self._launch(server, launch)
                self._replace(row, measured=True)

    def spend(self, **seconds: float) -> None:
        """Add to the seconds that this session spent; saved with the next change.

        Args:
            seconds: by field of `perfgate.results.timing.Session`.
        """
        if not self.results.sessions:
            return
        session = self.results.sessions[-1]
        totals = {}
        for name, spent_s in seconds.items():
            totals[name] = getattr(session, name) + spent_s
        self._change_session(**totals)

    def put_server(self, server: Server) -> None:
        """Note what runs a server, and the shape of the model that it serves."""
        config = server.config
        servers = dict(self.results.servers)
        environments = dict(self.results.environments)
        if server.packages:
            environments[server.python] = server.packages
        server = msgspec.structs.replace(server, packages={})
        if servers.get(config.key) == server:
            return
        servers[config.key] = server
        models = dict(self.results.models)
        models[config.model] = lookup(config.model).architecture
        self.update(servers=servers, models=models, environments=environments)

    def add_launch(self, launch: Launch) -> None:
        """Note a launch."""
        self.update(launches=(*self.results.launches, launch))

    def launches_of(self, server: str) -> tuple[Launch, ...]:
        """Launches of one server, in order."""
        rows = self.results.launches
        return tuple(launch for launch in rows if launch.server == server)

    def next_index(self, server: str) -> int:
        """Index of a server's next launch; those of dropped launches stay free."""
        indices = [launch.index for launch in self.launches_of(server)]
        return max(indices, default=-1) + 1

    def measurements_of(
        self, server: str, launch: int
    ) -> dict[str, Measurement]:
        """What was measured on a launch, by workload."""
        rows = {}
        for row in self.results.measurements:
            if (row.server, row.launch) == (server, launch):
                rows[row.workload] = row
        return rows

    def put_measurement(self, row: Measurement) -> None:
        """Put a measurement in place of the one of the same launch and workload."""
        rows = []
        for earlier in self.results.measurements:
            if _key(earlier) != _key(row):
                rows.append(earlier)
        self.update(measurements=(*rows, row))

    def put_explanation(self, entry: Explanation) -> None:
        """Put what explains a loss in place of what was known of its server."""
        results = self.results
        match entry:
            case Profile(server=server):
                rows = _others(results.profiles, server)
                self.update(profiles=(*rows, entry))
            case CounterProof(server=server):
                proofs = _others(results.counter_proofs, server)
                self.update(counter_proofs=(*proofs, entry))
            case Unexplained(server=server, reason=reason):
                reasons = results.unexplained | {server: reason}
                self.update(unexplained=reasons)

    def _add_figures(self, entry: LaunchFigures) -> None:
        self.spend(load_s=entry.load_s)
        row = self._launch(entry.server, entry.launch)
        notes = dict.fromkeys(row.notes + entry.notes)
        values = {**row.values, **entry.values}
        self._replace(
            row,
            values=values,
            notes=tuple(notes),
            answers=entry.answers or row.answers,
            answer_tokens=entry.answer_tokens or row.answer_tokens,
        )

    def _launch(self, server: str, index: int) -> Launch:
        for launch in self.launches_of(server):
            if launch.index == index:
                return launch
        raise LookupError(f"the run has no launch {index} of {server}")

    def _replace(self, old: Launch, **changes: Any) -> None:
        new = msgspec.structs.replace(old, **changes)
        launches = list(self.results.launches)
        for place, launch in enumerate(launches):
            if launch is old:
                launches[place] = new
        self.update(launches=tuple(launches))

    def _change(self, **changes: Any) -> None:
        self.results = msgspec.structs.replace(self.results, **changes)
        self._change_session(seen_unix_s=time.time())

    def _change_session(self, **changes: Any) -> None:
        if not self.results.sessions:
            return
        *earlier, session = self.results.sessions
        session = msgspec.structs.replace(session, **changes)
        self.results = msgspec.structs.replace(
            self.results, sessions=(*earlier, session)
        )


def _others(rows: Iterable[Explained], server: str) -> list[Explained]:
    """The rows of other servers."""
    return [row for row in rows if row.server != server]


def _key(row: Measurement) -> tuple[str, int, str]:
    return row.server, row.launch, row.workload


def now() -> str:
    """UTC, to the second, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
