"""Who writes down what was measured, while it is measured?

The run's results are one frozen value; a ledger replaces it step by step and saves each
step to the run directory, so that a session which is killed loses at most the
repetition under way.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from perfgate.load.repetition import Repetition
from perfgate.models.catalogue import lookup
from perfgate.results import schema as rundata
from perfgate.results.schema import Launch, Measurement, RunResults, Server


class Ledger:
    """The results of a run so far.

    Args:
        results: what is known at the start; saved at once.
        run_dir: where results.json is kept.
    """

    def __init__(self, results: RunResults, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._encoded: dict[int, tuple[Measurement, bytes]] = {}
        self.results = results
        self.update()

    def update(self, **changes: Any) -> None:
        """Replace fields of the results, and save."""
        self.results = msgspec.structs.replace(self.results, **changes)
        *before, session = self.results.sessions or (None,)
        if session is not None:
            seen = msgspec.structs.replace(session, seen_unix_s=time.time())
            self.results = msgspec.structs.replace(
                self.results, sessions=(*before, seen)
            )
        rundata.save(self.results, self.run_dir, self._encode)
        there = {id(row) for row in self.results.measurements}
        self._encoded = {
            key: known for key, known in self._encoded.items() if key in there
        }

    def _encode(self, row: Measurement) -> bytes:
        """As JSON; once for each, since most of a large run does not change any more."""
        known = self._encoded.get(id(row))
        if known is None:
            # The row is kept, so that nothing else can get its id.
            known = self._encoded[id(row)] = row, rundata.line(row)
        return known[1]

    def spend(self, **seconds: float) -> None:
        """Add to where this session's time went, by the fields of `rundata.Session`; saved with what comes next."""
        *before, session = self.results.sessions or (None,)
        if session is not None:
            more = {
                name: getattr(session, name) + spent for name, spent in seconds.items()
            }
            changed = msgspec.structs.replace(session, **more)
            self.results = msgspec.structs.replace(
                self.results, sessions=(*before, changed)
            )

    def put_server(self, server: Server) -> None:
        """Note what runs a server, and the shape of the model that it serves."""
        config = server.config
        self.update(
            servers=self.results.servers | {config.key: server},
            models=self.results.models
            | {config.model: lookup(config.model).architecture},
        )

    def launches_of(self, server: str) -> tuple[Launch, ...]:
        """Launches of one server, in order."""
        return tuple(
            launch for launch in self.results.launches if launch.server == server
        )

    def next_index(self, server: str) -> int:
        """The number of a server's next launch; those of launches that were dropped stay free."""
        return 1 + max(
            (launch.index for launch in self.launches_of(server)), default=-1
        )

    def add_launch(self, launch: Launch) -> None:
        """Note a launch."""
        self.update(launches=(*self.results.launches, launch))

    def amend_launch(
        self, server: str, index: int, values: dict[str, float], notes: tuple[str, ...]
    ) -> None:
        """Add figures and notes to a launch."""

        def amended(row: Launch) -> Launch:
            both = tuple(dict.fromkeys(row.notes + notes))
            return msgspec.structs.replace(row, values=row.values | values, notes=both)

        self._change(server, index, amended)

    def end_launch(self, server: str, index: int) -> None:
        """Note that nothing more will be measured on a launch."""
        self._change(
            server, index, lambda row: msgspec.structs.replace(row, measured=True)
        )

    def _change(
        self, server: str, index: int, change: Callable[[Launch], Launch]
    ) -> None:
        rows = self.results.launches
        self.update(
            launches=tuple(
                change(row) if (row.server, row.index) == (server, index) else row
                for row in rows
            )
        )

    def measurement(self, server: str, launch: int, workload: str) -> Measurement:
        """What was measured of a workload on a launch."""
        key = (server, launch, workload)
        return next(
            m
            for m in self.results.measurements
            if (m.server, m.launch, m.workload) == key
        )

    def measurements_of(self, server: str, launch: int) -> tuple[Measurement, ...]:
        """What was measured on a launch."""
        return tuple(
            m
            for m in self.results.measurements
            if (m.server, m.launch) == (server, launch)
        )

    def put_measurement(self, row: Measurement) -> None:
        """Note the repetitions of a workload on a launch by now, in place of those noted before."""
        key = (row.server, row.launch, row.workload)
        others = tuple(
            m
            for m in self.results.measurements
            if (m.server, m.launch, m.workload) != key
        )
        self.update(measurements=(*others, row))

    def enrich(
        self, server: str, index: int, extra: Callable[[Repetition], dict[str, float]]
    ) -> None:
        """Add figures to every repetition of a launch that only the launch's end could tell."""

        def richer(repetition: Repetition) -> Repetition:
            return msgspec.structs.replace(
                repetition, values=repetition.values | extra(repetition)
            )

        self.update(
            measurements=tuple(
                msgspec.structs.replace(
                    row, repetitions=tuple(map(richer, row.repetitions))
                )
                if (row.server, row.launch) == (server, index)
                else row
                for row in self.results.measurements
            )
        )


def now() -> str:
    """UTC, to the second, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
