"""Launch record: one server start, and the failures of servers."""

from __future__ import annotations

import msgspec

from perfgate.errors import Failure


class ServerExited(Failure):
    """The server ended before it was ready."""


class ServerNotReady(Failure):
    """The server did not answer within its deadline."""


class ServerDied(Failure):
    """The server ended, or hung, after it had been ready."""


class PortInUse(Failure):
    """Another process listens on the server's port."""


class RunDirectoryFull(Failure):
    """The server's log cannot be written, mostly for lack of room."""


class PhaseTime(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A step of the start-up: seconds since the launch, and the log line that shows it."""

    name: str
    at_s: float
    line: str


class Removed(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What was cleaned up after a server ended.

    Attributes:
        segments: shared-memory segments.
        segment_bytes: their size.
        sockets: socket files. vLLM leaves some whenever it stops.
    """

    segments: int = 0
    segment_bytes: int = 0
    sockets: int = 0


class LaunchRecord(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One launch, for the run's results.

    Attributes:
        session_index: number of the launch among all of its session, from 0; the log's
            name ends in it.
        env: what was set on top of the inherited environment.
        started_unix_s: when it was launched; of one that was prepared, told to serve.
        ready_s: seconds from launch to the first healthy answer, imports included that
            were made before; None if there was none.
        stop: how it ended; None while it runs.
        removed: what was cleaned up after it ended; None if nothing was.
    """

    key: str
    session_index: int
    argv: tuple[str, ...]
    env: dict[str, str]
    pid: int
    log: str
    started_unix_s: float
    ready_s: float | None = None
    phases: tuple[PhaseTime, ...] = ()
    stop: str | None = None
    removed: Removed | None = None
