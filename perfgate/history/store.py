"""History store: one SQLite file with every complete run.

A run is added once, under its id, whoever adds it and however often; several writers
wait for each other. Runs outlive the run directories that they were made from. The JSON
lines that held the history before (`history.jsonl` in the same folder) are imported at
the first use, and left as they are.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from perfgate.errors import Failure
from perfgate.history.series import Entry, HistoryError, entries_of
from perfgate.judge.baseline_upgrade import with_new_prefixes
from perfgate.results.head import RunHead
from perfgate.results.schema import RunResults, stored

FORMER_FILE = "history.jsonl"
VERSION = 2
WAIT_S = 10.0  # for another writer, which takes milliseconds
_TABLES = """
CREATE TABLE runs (run TEXT PRIMARY KEY, started TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (
    run TEXT NOT NULL REFERENCES runs (run),
    "case" TEXT NOT NULL,
    hardware TEXT NOT NULL,
    value REAL NOT NULL,
    launches TEXT NOT NULL,
    outcome TEXT,
    context TEXT NOT NULL,
    baseline REAL,
    allowed REAL,
    PRIMARY KEY (run, "case", hardware)
) WITHOUT ROWID;
CREATE INDEX by_case ON entries ("case", hardware);
"""
# What version 2 has that version 1 had not.
_SINCE_1 = (
    "ALTER TABLE entries ADD COLUMN baseline REAL",
    "ALTER TABLE entries ADD COLUMN allowed REAL",
)
_ENTRIES = """
SELECT run, started, hardware, "case", value, launches, outcome, context,
    baseline, allowed
FROM entries JOIN runs USING (run) ORDER BY started, run, "case"
"""


class History:
    """The history in one file; made at the first use.

    Args:
        path: of the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, results: RunResults) -> int:
        """Add a complete run unless it is there; returns how many entries that made.

        A run in which something was changed on purpose is noted without entries.
        """
        if not results.is_whole:
            return 0
        with self._open() as database:
            entries = entries_of(results)
            return _insert(database, results.run_id, results.started, entries)

    def refresh(self, runs_dir: Path) -> list[Failure]:
        """Add the complete runs of a run store that are not here.

        Returns:
            why each run that cannot be read was left out.
        """
        failures: list[Failure] = []
        run_ids = self.runs()

        def is_new(head: RunHead) -> bool:
            return head.complete and head.run_id not in run_ids

        for results in stored(
            runs_dir, on_failure=failures.append, is_wanted=is_new
        ):
            if results.run_id not in run_ids:
                self.append(results)
        return failures

    def runs(self) -> set[str]:
        """Ids of the runs that were added."""
        with self._open() as database:
            return {run for (run,) in database.execute("SELECT run FROM runs")}

    def entries(self) -> list[Entry]:
        """Everything, in order of time."""
        with self._open() as database:
            rows = database.execute(_ENTRIES).fetchall()
        return [_entry(row) for row in rows]

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection inside one transaction that holds the right to write."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(
                self.path, timeout=WAIT_S, isolation_level=None
            )
            try:
                database.execute("BEGIN IMMEDIATE")
                self._prepare(database)
                yield database
                database.execute("COMMIT")
            finally:
                database.close()
        except (sqlite3.Error, OSError, msgspec.DecodeError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> HistoryError:
        remedy = (
            "name another file by --history or PERFGATE_HISTORY, or restore this one "
            "from a copy"
        )
        if getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY":
            remedy = (
                f"wait for the process that writes to it (`fuser {self.path}` names "
                "it), or name another file by --history or PERFGATE_HISTORY"
            )
        return HistoryError(
            tried=f"using the history {self.path}",
            seen=f"{type(error).__name__}: {error}",
            remedy=remedy,
        )

    def _prepare(self, database: sqlite3.Connection) -> None:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == VERSION:
            return
        if version == 1:
            for statement in _SINCE_1:
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {VERSION}")
            return
        if version:
            raise HistoryError(
                tried=f"using the history {self.path}",
                seen=f"its schema is version {version}, this suite knows {VERSION}",
                remedy=(
                    "use the suite that wrote it, or name another file by --history "
                    "or PERFGATE_HISTORY"
                ),
            )
        for statement in _TABLES.split(";\n"):
            database.execute(statement)
        for run, started, entries in _former(self.path.parent / FORMER_FILE):
            _insert(database, run, started, entries)
        database.execute(f"PRAGMA user_version = {VERSION}")


def _entry(row: tuple[Any, ...]) -> Entry:
    """An entry as it was stored; sides of a ratio's context by their names of today."""
    run, started, hardware, case, value, launches, outcome = row[:7]
    context, baseline, allowed = row[7:]
    fields = msgspec.json.decode(context, type=dict[str, str])
    if "--over--" in case:
        fields = with_new_prefixes(fields)
    return Entry(
        run=run,
        started=started,
        hardware=hardware,
        case=case,
        value=value,
        launches=msgspec.json.decode(launches, type=tuple[float, ...]),
        outcome=outcome,
        context=fields,
        baseline=baseline,
        allowed=allowed,
    )


def _insert(
    database: sqlite3.Connection,
    run: str,
    started: str,
    entries: Iterable[Entry],
) -> int:
    added = database.execute(
        "INSERT OR IGNORE INTO runs VALUES (?, ?)", (run, started)
    )
    if not added.rowcount:
        return 0
    rows = []
    for entry in entries:
        context = msgspec.json.encode(entry.context, order="deterministic")
        row = (
            run,
            entry.case,
            entry.hardware,
            entry.value,
            msgspec.json.encode(entry.launches).decode(),
            entry.outcome,
            context.decode(),
            entry.baseline,
            entry.allowed,
        )
        rows.append(row)
    database.executemany(
        "INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
    )
    return len(rows)


def _former(path: Path) -> list[tuple[str, str, list[Entry]]]:
    """The runs of a history of JSON lines.

    Raises:
        HistoryError: a line is not of that form; the message names it.
    """
    if not path.exists():
        return []
    runs: dict[str, list[Entry]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except msgspec.DecodeError as error:
            raise HistoryError(
                tried=f"importing {path}",
                seen=f"line {number}: {error}",
                remedy="delete that line; runs that still have a run directory are added again",
            ) from error
        runs.setdefault(entry.run, []).append(entry)
    return [(run, entries[0].started, entries) for run, entries in runs.items()]
