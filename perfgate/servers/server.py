"""Server: one launched server process, from its launch to its stop or death.

Its output goes to a log file, not to a pipe: an engine logs more than a pipe holds, and
would hang. The caller that launches a server must stop it. If the launching process is
killed, the supervisor stops it.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from perfgate import foreign_text
from perfgate.engines.base import LaunchPlan
from perfgate.engines.variables import installed_modules
from perfgate.errors import Failure, describe_error, exhausted
from perfgate.machine.container import OomWatch
from perfgate.servers import memory_kills, orphans, prepared
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
from perfgate.servers.log import (
    LogWatch,
    diagnosis,
    first_error,
    is_port_lost,
    lost_remedy,
    opened,
    tail,
)
from perfgate.servers.supervisor.client import Launched
from perfgate.servers.supervisor.processes import Ending

# Patience after SIGTERM: SGLang needed 7 s on an H200.
STOP_GRACE_S = 20.0
TAIL_LINES = 40
# vLLM's front end ended 1 to 4 s after one of its ranks was killed.
DEATH_S = 6.0
_POLL_S = 0.2
_PROBE_S = 5.0
_TICK_S = 5.0
# With less a run directory counts as full: one start logs more.
_MIN_FREE_BYTES = 16 * 2**20

# With one of them an engine refuses requests without that key.
SERVER_KEYS = ("VLLM_API_KEY", "SGLANG_API_KEY")

_F = TypeVar("_F", bound=Failure)


class Server:
    """A server that this suite launched (`perfgate.servers.running.RunningServer`).

    Made by `launch`; usable once `wait_until_ready` has returned.

    Attributes:
        plan: what was launched.
        url: base address, without a trailing slash.
        served_model: "": it serves the model under the catalogue's name.
        log: its log file.
        authorization: "": it asks for no key.
        notes: empty: everything can be read.
        record: what is known of this launch so far.
    """

    served_model = ""
    authorization = ""
    death_reason = "the server process is gone"
    notes: tuple[str, ...] = ()

    def __init__(
        self, plan: LaunchPlan, launched: Launched, record: LaunchRecord
    ) -> None:
        self.plan = plan
        self.url = plan.url
        self.record = record
        self._launched = launched
        self.log = Path(record.log)
        self._began_s = time.monotonic()
        self._ending: Ending | None = None
        self._oom_watch = OomWatch()
        self._is_healthy = True
        self._ready_at_byte = 0

    @property
    def gpu_indices(self) -> tuple[int, ...]:
        """NVML indices of its GPUs; empty on the CPU."""
        return self.plan.gpu_indices

    def launch_record(self, key: str) -> LaunchRecord:
        """What is known of this launch so far."""
        return self.record

    def go(self) -> float:
        """Let a server that was prepared serve; returns how long it had imported, in s.

        Its age counts the imports, as if they had just been made, so that its start is
        comparable with that of another launch. It is launched now, in the session's order.
        """
        imports_s = prepared.imports_s(self.log)
        if imports_s is None:
            imports_s = self._age_s()
        self._began_s = time.monotonic() - imports_s
        self._note(started_unix_s=time.time())
        self._launched.go()
        return imports_s

    def alive(self) -> bool:
        """Whether the launched process still runs; takes some 0.05 ms."""
        return self._launched.is_running()

    def note_life(self) -> None:
        """Nothing: its process is known."""

    def survives(self, patience_s: float = DEATH_S) -> bool:
        """Whether it still serves some time after requests failed.

        An engine whose rank died ends after seconds, and breaks its streams at once: its
        exit is waited for, and then its health page decides.
        """
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if self._launched.exit_code(wait_s=_POLL_S) is not None:
                return False
        self._is_healthy = self.alive() and self._answers(_PROBE_S)
        return self._is_healthy

    def pids(self) -> tuple[int, ...]:
        """Its processes, the engine's workers included."""
        return tuple(
            sorted(process.pid for process in self._launched.members())
        )

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """Last lines of its log."""
        return tail(self.log, lines)

    def wait_until_ready(self, progress: Callable[[str], None]) -> None:
        """Wait for the first healthy answer, and report the start-up phases meanwhile.

        Raises:
            ServerExited: it ended first, also with status 0.
            PortInUse: it ended because another process took a port of it.
            ServerNotReady: the plan's deadline passed first.
            PortInUse: another process answered.
            LogLost: its log was deleted meanwhile.
        """
        watch = LogWatch(
            self.log, self.plan.phases, offset=len(_header(self.plan))
        )
        deadline_s = self._began_s + self.plan.startup_timeout_s
        phase = "starting"
        reported_s = self._began_s
        while True:
            for name in self._note_phases(watch):
                phase = name
                reported_s = 0.0
            if time.monotonic() - reported_s >= _TICK_S:
                progress(f"{phase} ({self._age_s():.0f} s)")
                reported_s = time.monotonic()
            remaining_s = deadline_s - time.monotonic()
            self._check_start(phase, remaining_s)
            if self._answers(min(remaining_s, _PROBE_S)):
                break
            self._launched.exit_code(wait_s=min(remaining_s, _POLL_S))
        self._note_phases(watch)  # what was logged just before it answered
        self._check_port_owner()
        self._note(ready_s=self._age_s())
        self._launched.note_ready()
        with opened(self.log) as log:
            self._ready_at_byte = log.seek(0, os.SEEK_END)
        progress(f"ready ({self._age_s():.0f} s)")

    def _note_phases(self, watch: LogWatch) -> list[str]:
        """Add the phases that the log has begun since the last look; their names."""
        names = []
        for name, line in watch.news():
            text = foreign_text.one_line(line)
            entry = PhaseTime(name=name, at_s=self._age_s(), line=text)
            self._note(phases=(*self.record.phases, entry))
            names.append(name)
        return names

    def _check_start(self, phase: str, remaining_s: float) -> None:
        """Raise if the process ended, or its deadline passed, during this phase."""
        code = self._launched.exit_code()
        if code is not None:
            after = f"after {self._age_s():.1f} s, during: {phase}"
            kind: type[Failure] = ServerExited
            if is_port_lost(self.log):
                kind = PortInUse
            raise self._failure(kind, f"{_status(code)} {after}")
        if remaining_s <= 0:
            waited = (
                f"no healthy answer in {self._age_s():.0f} s, during: {phase}"
            )
            raise self._failure(ServerNotReady, waited)

    def death(self, activity: str) -> ServerDied:
        """The failure to raise when it died or hung during an activity."""
        # The client notices a broken connection before the exit that caused it.
        code = self._launched.exit_code(wait_s=1.0)
        status = "the process still runs"
        if not self._is_healthy:
            status += f", but {self.plan.health_path} does not answer with 200"
        if code is not None:
            status = _status(code)
        return self._failure(ServerDied, f"{status}, during: {activity}")

    def stop(
        self, reason: str = "stopped", grace_s: float = STOP_GRACE_S
    ) -> Ending:
        """End it and every process it started; does nothing the second time."""
        if self._ending is None:
            code = self._launched.exit_code()
            self._ending = self._launched.stop(grace_s)
            before = ""
            if code is not None:
                before = f", {_status(code)} before"
            self._note(stop=f"{reason}{before}: {self._ending}")
        return self._ending

    def _age_s(self) -> float:
        return time.monotonic() - self._began_s

    def _note(self, **changes: Any) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)

    def _failure(self, kind: type[_F], seen: str) -> _F:
        remedy, line = diagnosis(
            self.log, self.plan.remedies, self._ready_at_byte
        )
        if not self.log.exists():
            seen = f"{seen}; its log is gone"
            remedy = lost_remedy(self.log)
        elif _free_bytes(self.log.parent) < 2**20:
            remedy = f"the disk is full: free space in {self.log.parent}"
        line = line or first_error(self.log, self._ready_at_byte)
        if line:
            seen = f"{seen}; it logged: {line}"
        killed, remedy = memory_kills.explain(
            self._oom_watch, self._launched.exit_code(), remedy, line
        )
        if killed:
            seen = f"{seen}; {killed}"
        last = foreign_text.quoted(self.log_tail())
        details = f"its last {TAIL_LINES} lines:\n{last}"
        return kind(_tried(self.plan), seen, remedy, self.log, details)

    def _answers(self, patience_s: float) -> bool:
        def ended(wait_s: float, readable: int) -> bool:
            return self._launched.exit_code(wait_s, readable) is not None

        return is_healthy(
            (self.plan.host, self.plan.port),
            self.plan.health_path,
            patience_s,
            ended,
        )

    def _check_port_owner(self) -> None:
        """Raise if another process listens on the port.

        A server that lost the race for its port may run for a moment longer, while the
        other process answers. With SO_REUSEPORT, which vLLM sets for several
        API servers, both listen, and each gets a part of the requests.
        """
        # A child of the server that ended meanwhile is none of its processes any more.
        if self._others_on_port() and (others := self._others_on_port()):
            raise _port_in_use(self.plan, others)

    def _others_on_port(self) -> dict[int, str]:
        """Those that listen on its port and are none of its processes."""
        holders = listeners(self.plan.port)
        for pid in self.pids():
            holders.pop(pid, None)
        return holders


def launch(
    plan: LaunchPlan,
    *,
    log_dir: Path,
    index: int,
    owners: Sequence[int] = (),
    keep_open: Sequence[int] = (),
    leased: Sequence[str] = (),
) -> Server:
    """Launch a server without waiting for it; the caller must stop it.

    One whose plan says that it waits is prepared only, and serves after `Server.go`.

    Args:
        plan: what to launch.
        log_dir: where the log goes, made if missing.
        index: number of this launch, for the log's name.
        owners: pids whose death ends the server, besides this process.
        keep_open: descriptors of locks to hold until the server is gone, also after
            this process is.
        leased: names of what the session has leased, see `perfgate.servers.orphans`.

    Raises:
        PortInUse: another process listens on the port.
        RunDirectoryFull: the log cannot be written.
        ServerExited: the command cannot be executed.
    """
    log = log_dir.resolve() / f"{plan.key}-{index}.log"
    try:
        if is_taken((plan.host, plan.port)):
            raise _port_in_use(plan, listeners(plan.port))
        _make_room(plan, log)
        launched = Launched(
            prepared.command(plan),
            env=environment_of(plan, os.environ) | orphans.variables(leased),
            log=log,
            owners=owners,
            keep_open=keep_open,
            waits=plan.waits,
        )
    except OSError as error:
        raise _not_launched(plan, log, error) from None
    record = LaunchRecord(
        key=plan.key,
        session_index=index,
        argv=foreign_text.shown_arguments(plan.argv),
        env={
            name: foreign_text.secret_value(name, value)
            for name, value in plan.env
        },
        pid=launched.pid,
        log=str(log),
        started_unix_s=time.time(),
    )
    return Server(plan, launched, record)


def _not_launched(plan: LaunchPlan, log: Path, error: OSError) -> Failure:
    """What became of a launch that the system refused."""
    if error.errno == errno.ENOSPC:
        return _full(plan, log, describe_error(error))
    return ServerExited(
        tried=_tried(plan),
        seen=describe_error(error),
        remedy=(
            exhausted(error)
            or f"check that {plan.argv[0]} exists and is executable"
        ),
        log=log,
    )


def environment_of(
    plan: LaunchPlan, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a server: the inherited one, and what the plan sets.

    Without the key that it would ask its clients for. No proxy stands between it and
    itself: SGLang warms itself up by HTTP.
    """
    # setproctitle, which both engines use, would write its title over the mark:
    # SPT_NOENV forbids it.
    env = {"SPT_NOENV": "1", **installed_modules(plan.argv), **inherited}
    for name in SERVER_KEYS:
        env.pop(name, None)
    if any(name.lower().endswith("_proxy") for name in env):
        direct = [env.get("no_proxy", ""), env.get("NO_PROXY", "")]
        names = ",".join([*filter(None, direct), plan.host, "localhost"])
        env["no_proxy"] = env["NO_PROXY"] = names
    return env | dict(plan.env)


def _make_room(plan: LaunchPlan, log: Path) -> None:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(_header(plan))
    except OSError as error:
        seen = describe_error(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(plan, log, seen) from None
        remedy = exhausted(error) or (
            f"make {log.parent} writable, or use another --run-dir"
        )
        raise _no_log(plan, log, seen, remedy) from None
    free = _free_bytes(log.parent)
    if free < _MIN_FREE_BYTES:
        raise _full(plan, log, f"{free / 2**20:.1f} MiB free")


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _full(plan: LaunchPlan, log: Path, seen: str) -> RunDirectoryFull:
    remedy = (
        f"free space in {log.parent}, or use another --run-dir; what was measured so "
        "far is unchanged"
    )
    return _no_log(plan, log, seen, remedy)


def _no_log(
    plan: LaunchPlan, log: Path, seen: str, remedy: str
) -> RunDirectoryFull:
    return RunDirectoryFull(
        f"opening the log of {plan.key} in {log.parent}", seen, remedy, log
    )


def _port_in_use(plan: LaunchPlan, holders: dict[int, str]) -> PortInUse:
    names = [f"pid {pid}: {command}" for pid, command in holders.items()]
    holder = "; ".join(names) or "a process of another user"
    return PortInUse(
        _tried(plan),
        f"port {plan.port} of {plan.host} is in use by {holder}",
        "end that process, or run again: each launch chooses a free port",
    )


def _command(plan: LaunchPlan) -> str:
    env = [f"{name}={shlex.quote(value)}" for name, value in plan.env]
    argv = foreign_text.shown_arguments(plan.argv)
    command = " ".join([*env, shlex.join(argv)])
    return foreign_text.without_secrets(command)


def _header(plan: LaunchPlan) -> bytes:
    """First line of the log; writing it also shows that there is room."""
    return f"$ {_command(plan)}\n".encode()


def _tried(plan: LaunchPlan) -> str:
    return f"launching {plan.key}: {_command(plan)}"


def _status(code: int) -> str:
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"
