"""Is the server up, and is it gone afterwards?

Life: launched -> ready -> stopped or died. A server's output goes to a file, never to a pipe: an engine logs more
    than a pipe holds, and then hangs. Whoever launches must stop; should it fail to (it is killed, say), the guardian
    does.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from perfgate.engines.base import LaunchPlan
from perfgate.errors import Failure
from perfgate.servers.health import is_healthy, is_taken, listeners
from perfgate.servers.launch_record import (
    LaunchRecord,
    PhaseTime,
    PortInUse,
    RunDirectoryFull,
    ServerDied,
    ServerExited,
    ServerNotReady,
)
from perfgate.servers.log import LogWatch, diagnosis, tail
from perfgate.servers.supervisor.client import Launched
from perfgate.servers.supervisor.processes import Ending

# What SIGTERM may take in a normal stop: SGLang was seen to need 7 s on an H200.
STOP_GRACE_S = 20.0
TAIL_LINES = 40
_POLL_S = 0.2
_PROBE_S = 5.0
_TICK_S = 5.0
# Below this a run directory counts as full: one start logs more.
_ROOM_BYTES = 16 * 2**20

_F = TypeVar("_F", bound=Failure)


class Server:
    """One launched server. Made by `launch`; usable once `wait_until_ready` has returned.

    Attributes:
        plan: what was launched.
        url: base address, without a trailing slash.
        record: what is known of this launch by now.
    """

    def __init__(
        self, plan: LaunchPlan, launched: Launched, record: LaunchRecord
    ) -> None:
        self.plan = plan
        self.url = plan.url
        self.record = record
        self._launched = launched
        self._log = Path(record.log)
        self._began = time.monotonic()
        self._report: Ending | None = None

    def alive(self) -> bool:
        """Whether the launched process still runs; takes some 0.05 ms."""
        return self._launched.is_running()

    def pids(self) -> tuple[int, ...]:
        """Its processes, the engine's workers included."""
        return tuple(sorted(process.pid for process in self._launched.members()))

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """Last lines of its log."""
        return tail(self._log, lines)

    def wait_until_ready(self, progress: Callable[[str], None]) -> None:
        """Wait for the first healthy answer, and tell the phases of the start-up meanwhile.

        Raises:
            ServerExited: it ended first, also with status 0.
            ServerNotReady: the plan's deadline passed first.
            PortInUse: the answer came from somebody else.
        """
        watch = LogWatch(self._log, self.plan.phases, offset=len(_header(self.plan)))
        deadline = self._began + self.plan.startup_timeout_s
        doing, told_at = "starting", self._began
        while True:
            for name, line in watch.news():
                self._note(
                    phases=(
                        *self.record.phases,
                        PhaseTime(name=name, at_s=self._age_s(), line=line),
                    )
                )
                doing, told_at = name, 0.0
            if time.monotonic() - told_at >= _TICK_S:
                progress(f"{doing} ({self._age_s():.0f} s)")
                told_at = time.monotonic()
            if (code := self._launched.exit_code()) is not None:
                raise self._failed(
                    ServerExited,
                    f"{_status(code)} after {self._age_s():.1f} s, during: {doing}",
                )
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise self._failed(
                    ServerNotReady,
                    f"no healthy answer in {self._age_s():.0f} s, during: {doing}",
                )
            if self._answers(min(left_s, _PROBE_S)):
                break
            self._launched.exit_code(wait_s=min(left_s, _POLL_S))
        self._check_who_answers()
        self._note(ready_s=self._age_s())
        self._launched.note_ready()
        progress(f"ready ({self._age_s():.0f} s)")

    def death(self, during: str) -> ServerDied:
        """Make the failure to raise when it has died, or fallen silent, in the middle of something."""
        # A broken connection is seen before the exit that broke it.
        code = self._launched.exit_code(wait_s=1.0)
        return self._failed(
            ServerDied,
            f"{'it still runs' if code is None else _status(code)}, during: {during}",
        )

    def stop(self, why: str = "stopped", grace_s: float = STOP_GRACE_S) -> Ending:
        """End it and everything it started; does nothing the second time."""
        if self._report is None:
            code = self._launched.exit_code()
            self._report = self._launched.stop(grace_s)
            before = "" if code is None else f", {_status(code)} before"
            self._note(stop=f"{why}{before}: {self._report}")
        return self._report

    def _age_s(self) -> float:
        return time.monotonic() - self._began

    def _note(self, **changes: Any) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)

    def _failed(self, kind: type[_F], seen: str) -> _F:
        remedy, line = diagnosis(self._log, self.plan.remedies)
        if _free_bytes(self._log.parent) < 2**20:
            remedy = (
                f"make room in {self._log.parent}, where the log is: the disk is full"
            )
        seen = f"{seen}; it logged: {line}" if line else seen
        end = "\n".join(f"    {last}" for last in self.log_tail().splitlines())
        return kind(
            _tried(self.plan),
            seen,
            remedy,
            self._log,
            f"its last {TAIL_LINES} lines:\n{end}",
        )

    def _answers(self, patience_s: float) -> bool:
        def ended(wait_s: float, readable: int) -> bool:
            return self._launched.exit_code(wait_s, readable) is not None

        return is_healthy(
            (self.plan.host, self.plan.port), self.plan.health_path, patience_s, ended
        )

    def _check_who_answers(self) -> None:
        """A server that lost the race for the port may live on for a moment while the winner answers."""
        holders = listeners(self.plan.port)
        if holders and not set(holders) & {
            process.pid for process in self._launched.members()
        }:
            raise _port_in_use(self.plan, holders)


def launch(
    plan: LaunchPlan,
    *,
    log_dir: Path,
    index: int,
    owners: Sequence[int] = (),
    keep_open: Sequence[int] = (),
) -> Server:
    """Launch a server without waiting for it; whoever calls must stop it.

    Args:
        plan: what to launch.
        log_dir: where the log goes, made if missing.
        index: number of this launch, for the log's name.
        owners: pids whose death ends the server, besides this process.
        keep_open: descriptors of locks to hold until the server is gone, also after
            this process is.

    Raises:
        PortInUse: somebody listens there already.
        RunDirectoryFull: there is no room for the log.
        ServerExited: the command cannot be executed.
    """
    if is_taken((plan.host, plan.port)):
        raise _port_in_use(plan, listeners(plan.port))
    log = log_dir.resolve() / f"{plan.key}-{index}.log"
    _make_room(plan, log)
    # setproctitle, which both engines use, would write its title over the mark:
    # SPT_NOENV forbids it.
    env = {"SPT_NOENV": "1", **os.environ, **dict(plan.env)}
    try:
        launched = Launched(
            plan.argv, env=env, log=log, owners=owners, keep_open=keep_open
        )
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _full(plan, log, str(error)) from None
        raise ServerExited(
            _tried(plan),
            str(error),
            "check that the command exists and may be executed",
            log,
        ) from None
    record = LaunchRecord(
        key=plan.key,
        index=index,
        argv=plan.argv,
        env=dict(plan.env),
        pid=launched.pid,
        log=str(log),
        started_unix_s=time.time(),
    )
    return Server(plan, launched, record)


def _make_room(plan: LaunchPlan, log: Path) -> None:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(_header(plan))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _full(plan, log, str(error)) from None
    if (free := _free_bytes(log.parent)) < _ROOM_BYTES:
        raise _full(plan, log, f"{free / 2**20:.1f} MiB free")


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _full(plan: LaunchPlan, log: Path, seen: str) -> RunDirectoryFull:
    remedy = (
        f"make room in {log.parent}, or put the run directory elsewhere; what was "
        "measured so far is untouched"
    )
    return RunDirectoryFull(
        f"opened the log of {plan.key} in {log.parent}", seen, remedy, log
    )


def _port_in_use(plan: LaunchPlan, holders: dict[int, str]) -> PortInUse:
    who = (
        "; ".join(f"pid {pid}: {command}" for pid, command in holders.items())
        or "a process of another user"
    )
    return PortInUse(
        _tried(plan),
        f"port {plan.port} of {plan.host} is held by {who}",
        "end that process, or use another port",
    )


def _command(plan: LaunchPlan) -> str:
    return " ".join(
        [
            *(f"{name}={shlex.quote(value)}" for name, value in plan.env),
            shlex.join(plan.argv),
        ]
    )


def _header(plan: LaunchPlan) -> bytes:
    """First line of the log; writing it shows, too, that there is room."""
    return f"$ {_command(plan)}\n".encode()


def _tried(plan: LaunchPlan) -> str:
    return f"launched {plan.key}: {_command(plan)}"


def _status(code: int) -> str:
    if code >= 0:
        return f"exited with status {code}"
    known = {int(number): number.name for number in signal.Signals}
    return f"was killed by {known.get(-code, f'signal {-code}')}"
