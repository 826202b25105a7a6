"""Server pool: one live server at a time on a session's devices (GPUs, or the CPU).

Only engines that are held in one process, and take turns, are alive together. The next
server may have imported its engine meanwhile, and wait (`perfgate.servers.prepared`).

The pool stops the old server before it launches the next, and continues only if the
devices are free again. With a session fixture for each server two would be alive, and
the next one would start even after a failed teardown.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import msgspec

from perfgate.engines.base import LaunchPlan
from perfgate.errors import Failure
from perfgate.machine.leases import Lease
from perfgate.servers.health import is_taken
from perfgate.servers.launch_record import LaunchRecord, PortInUse, ServerDied
from perfgate.servers.prepared import can_wait
from perfgate.servers.removed import count_removed, removed_line
from perfgate.servers.server import STOP_GRACE_S, Server, launch
from perfgate.servers.supervisor.processes import Ending

_POLL_S = 0.2
_GIB = 2**30
# The first death may have an outside cause (another job, a driver).
_DEATHS_ALLOWED = 1
GpuProcess = tuple[int, str, int]


class DevicesBusy(Failure):
    """A process of another session is on the GPUs."""


class DevicesNotClean(Failure):
    """A stopped server left processes or GPU memory: nothing can be measured here."""


def _no_memory(indices: tuple[int, ...]) -> Sequence[int]:
    return [0] * len(indices)


@dataclass(frozen=True)
class Devices:
    """How a pool reads what is on its GPUs.

    Attributes:
        strangers: (pid, command, bytes) of each process on the GPUs; called when no
            server of the pool runs.
        gpu_memory_used: bytes used on each GPU of the given NVML indices.
        settle_s: how long the memory may take to be freed after a stop; 2 s (vLLM) and
            7 s (SGLang) were seen on an H200.
        tolerance_bytes: memory that may be used after the stop, above what was used
            before the launch.
    """

    strangers: Callable[[], Sequence[GpuProcess]] = tuple
    gpu_memory_used: Callable[[tuple[int, ...]], Sequence[int]] = _no_memory
    settle_s: float = 30.0
    tolerance_bytes: int = 512 * 2**20


class ServerPool:
    """The servers of one session on one set of devices.

    Close it, or use it as a context manager.

    Args:
        log_dir: where the servers' logs go.
        progress: called with a line while a step takes long, and with a line about
            what was cleaned up.
        devices: how to read the GPUs; the default is for the CPU.
        lease: the right to use these devices; held until the last process is gone, even
            if this one is killed before.
        owners: pids whose death ends the servers, besides this process.
        leased: names of what the session has leased, see `perfgate.servers.orphans`.
    """

    def __init__(
        self,
        *,
        log_dir: Path,
        progress: Callable[[str], None],
        devices: Devices | None = None,
        lease: Lease | None = None,
        owners: Sequence[int] = (),
        leased: Sequence[str] = (),
    ) -> None:
        self._log_dir = log_dir
        self._progress = progress
        self._devices = devices or Devices()
        self._lease = lease
        self._owners = tuple(owners)
        self._leased = tuple(leased)
        self._servers: list[Server] = []
        self._log_count = 0
        self._live: Server | None = None
        self._prepared: Server | None = None
        self._group: list[Server] = []
        self._used_before: Sequence[int] = ()
        # By plan without its port, which differs between launches of one server.
        self._failures: dict[LaunchPlan, Failure] = {}
        self._deaths: Counter[LaunchPlan] = Counter()
        self._not_replaced: set[LaunchPlan] = set()
        self._unclean: Failure | None = None

    @property
    def launches(self) -> list[LaunchRecord]:
        """One record per launch, in order, those that failed included."""
        return [server.record for server in self._servers]

    def get(
        self,
        plan: LaunchPlan,
        *,
        fresh: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Server:
        """Return a live server of this plan: the one that runs, or else a new one.

        Args:
            plan: what must run. Two plans that differ in their port alone are the same.
            fresh: launch a new one even if it runs already.
            meanwhile: called while a new one starts, for example to `prepare` the next.

        Raises:
            ServerExited, ServerNotReady: the start failed, at this call or an earlier
                one; it is tried once.
            ServerDied: it died a second time.
            PortInUse: another process listens on the plan's port; try another port.
            LogLost: its log was deleted while it started.
            DevicesBusy, DevicesNotClean, LeaseExpired: it cannot be launched here now.
        """
        if self._live is not None and not self._live.alive():
            self._end_dead(self._live, "found dead")
        identity = _without_port(plan)
        failure = self._unclean or self._failures.get(identity)
        if failure is not None:
            raise failure.with_traceback(None)
        live = self._live
        if (
            live is not None
            and not fresh
            and _without_port(live.plan) == identity
        ):
            return live
        reason = f"made room for {plan.key}"
        if fresh:
            reason = "replaced by a fresh launch"
        self._end_live(reason)
        self._check_devices(plan)
        return self._launch(plan, meanwhile)

    def prepare(self, plan: LaunchPlan) -> None:
        """Have a server import its engine; `get` lets it serve.

        One that was prepared before and never needed is ended. What goes wrong here goes
        wrong again, and is reported, when the server is launched.
        """
        if not can_wait(plan) or self._prepared_for(plan) is not None:
            return
        self._end_prepared("another one is next")
        with contextlib.suppress(Failure):
            self._prepared = self._started(
                dataclasses.replace(plan, waits=True)
            )

    def _end_prepared(self, reason: str) -> None:
        if self._prepared is None:
            return
        waiting, self._prepared = self._prepared, None
        waiting.stop(reason, grace_s=0.0)
        waiting.log.unlink(missing_ok=True)

    def _prepared_for(self, plan: LaunchPlan) -> Server | None:
        """The server that waits, if it is one of this plan."""
        waiting = self._prepared
        if waiting is None:
            return None
        if _without_port(waiting.plan) != _without_port(plan):
            return None
        return waiting

    def _take_prepared(self, plan: LaunchPlan) -> Server | None:
        """The server that waits for this plan, which now serves; None if there is none."""
        waiting = self._prepared_for(plan)
        if waiting is None:
            return None
        address = (waiting.plan.host, waiting.plan.port)
        is_whole = waiting.alive() and waiting.log.exists()
        if not is_whole or is_taken(address):
            self._end_prepared("it cannot serve")
            return None
        self._prepared = None
        imports_s = waiting.go()
        self._progress_of(plan)(f"imported before ({imports_s:.0f} s)")
        return waiting

    def launch_together(self, plans: Sequence[LaunchPlan]) -> list[Server]:
        """Launch several servers, alive at once, and wait until all of them are ready.

        The next launch, `end_together` or `close` ends them.

        Raises:
            ServerExited, ServerNotReady: one of them did not start; all are ended.
            PortInUse: another process listens on a plan's port; try other ports.
            DevicesBusy, DevicesNotClean, LeaseExpired: none can be launched here now.
        """
        if self._unclean is not None:
            raise self._unclean.with_traceback(None)
        self._end_live(f"made room for {len(plans)} servers at once")
        self._check_devices(plans[0])
        self._used_before = tuple(
            self._devices.gpu_memory_used(plans[0].gpu_indices)
        )
        try:
            for plan in plans:
                self._group.append(self._start(plan))
            for server in self._group:
                server.wait_until_ready(self._progress_of(server.plan))
        except BaseException as error:
            self.end_together(f"failed to start ({type(error).__name__})")
            raise
        return list(self._group)

    def end_together(self, reason: str = "done") -> None:
        """End the servers that were launched together.

        Raises:
            DevicesNotClean: one of them left processes.
        """
        endings = []
        while self._group:
            server = self._group.pop()
            endings.append((server, self._stop(server, reason)))
        # What one leaves free is not known before all have ended.
        for server, ending in endings:
            self._check_ended(server, ending)

    def abandon(self, reason: str) -> ServerDied:
        """End the live server, for example after a stall; returns its death.

        The next `get` launches it once more; after the second time it raises what this
        returns.

        Raises:
            LookupError: no server is live.
        """
        if self._live is None:
            raise LookupError("no server lives in this pool")
        return self._end_dead(self._live, reason)

    def close(self) -> None:
        """End the live server; the pool may be used again.

        Raises:
            DevicesNotClean: the server left processes or GPU memory.
        """
        self._end_prepared("closed")
        self._end_live("closed")

    def __enter__(self) -> ServerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        self.close()

    def _launch(
        self, plan: LaunchPlan, meanwhile: Callable[[], None]
    ) -> Server:
        identity = _without_port(plan)
        if identity in self._not_replaced:
            self._progress(f"{plan.key}: launching it again, because it died")
        self._not_replaced.discard(identity)
        self._used_before = tuple(
            self._devices.gpu_memory_used(plan.gpu_indices)
        )
        server = self._start(plan)
        self._live = server
        try:
            meanwhile()
            server.wait_until_ready(self._progress_of(plan))
        except Failure as failure:
            # A port that is taken says nothing about the server.
            if not isinstance(failure, PortInUse):
                self._failures[identity] = failure
            self._end_live(f"failed to start ({type(failure).__name__})")
            raise
        except BaseException as error:
            # A cancelled start must end the server too.
            self._end_live(
                f"interrupted while starting ({type(error).__name__})"
            )
            raise
        return server

    def _start(self, plan: LaunchPlan) -> Server:
        """Start a server without waiting for it; one that is prepared goes on."""
        server = self._take_prepared(plan)
        if server is None:
            server = self._started(plan)
        self._servers.append(server)
        return server

    def _started(self, plan: LaunchPlan) -> Server:
        """A process, in none of the pool's lists."""
        locks: Sequence[int] = ()
        if self._lease is not None:
            locks = self._lease.descriptors
        server = launch(
            plan,
            log_dir=self._log_dir,
            index=self._log_count,
            owners=self._owners,
            keep_open=locks,
            leased=self._leased,
        )
        self._log_count += 1
        return server

    def _progress_of(self, plan: LaunchPlan) -> Callable[[str], None]:
        return lambda text: self._progress(f"{plan.key}: {text}")

    def _end_dead(self, server: Server, reason: str) -> ServerDied:
        failure = server.death(reason)
        identity = _without_port(server.plan)
        self._deaths[identity] += 1
        self._not_replaced.add(identity)
        if self._deaths[identity] > _DEATHS_ALLOWED:
            self._failures[identity] = failure
        self._end_live(f"died ({reason})")
        return failure

    def _end_live(self, reason: str) -> None:
        self.end_together(reason)
        if self._live is None:
            return
        self._end(self._live, reason)

    def _end(self, server: Server, reason: str) -> None:
        ending = self._stop(server, reason)
        self._check_ended(server, ending)

    def _stop(self, server: Server, reason: str) -> Ending:
        ending = server.stop(reason, grace_s=STOP_GRACE_S)
        if server is self._live:
            self._live = None
        self._note_removed(server, ending)
        return ending

    def _check_ended(self, server: Server, ending: Ending) -> None:
        """Raise if a stopped server left processes or GPU memory."""
        self._unclean = self._survivors(server, ending)
        if self._unclean is None:
            self._unclean = self._unfreed_memory(server, ending)
        if self._unclean is not None:
            raise self._unclean

    def _note_removed(self, server: Server, ending: Ending) -> None:
        removed = count_removed(ending.removed)
        if removed is None:
            return
        server.record = msgspec.structs.replace(server.record, removed=removed)
        self._progress(f"{server.plan.key}: {removed_line(removed)}")

    def _survivors(self, server: Server, ending: Ending) -> Failure | None:
        """The failure if a process of a stopped server still runs."""
        if not ending.survivors:
            return None
        return DevicesNotClean(
            tried=f"stopping {server.plan.key} ({ending})",
            seen=f"SIGKILL did not end {'; '.join(ending.survivors)}",
            remedy="they hang in the kernel: read `dmesg`, and reset the GPU",
            log=server.log,
        )

    def _unfreed_memory(self, server: Server, ending: Ending) -> Failure | None:
        """Wait for the GPU memory of a stopped server; the failure if it is not freed."""
        settle_s = self._devices.settle_s
        deadline = time.monotonic() + settle_s
        is_reported = False
        while excess := "; ".join(self._excess(server.gpu_indices)):
            if not is_reported:
                self._progress(
                    f"{server.plan.key}: stopped, waiting for GPU memory: {excess}"
                )
                is_reported = True
            if time.monotonic() >= deadline:
                holders = _format_processes(self._devices.strangers())
                if not holders:
                    holders = "none is visible"
                return DevicesNotClean(
                    tried=f"stopping {server.plan.key} ({ending})",
                    seen=(
                        f"{excess}, {settle_s:.0f} s after its last process ended; "
                        f"processes on the GPU: {holders}"
                    ),
                    remedy="end these processes, or reset the GPU; then run again",
                    log=server.log,
                )
            time.sleep(_POLL_S)
        return None

    def _excess(self, indices: tuple[int, ...]) -> list[str]:
        """GPUs with more memory in use than before the launch, as text."""
        used_now = self._devices.gpu_memory_used(indices)
        rows = zip(indices, used_now, self._used_before, strict=True)
        texts = []
        for index, used_bytes, before_bytes in rows:
            if used_bytes <= before_bytes + self._devices.tolerance_bytes:
                continue
            texts.append(
                f"GPU {index} holds {used_bytes / _GIB:.1f} GiB "
                f"({before_bytes / _GIB:.1f} GiB before the launch)"
            )
        return texts

    def _check_devices(self, plan: LaunchPlan) -> None:
        if self._lease is not None:
            self._lease.check()
        # For a moment after its end NVML may list the previous server, in a container
        # under a pid of the host.
        settle_s = self._devices.settle_s if self._servers else 0.0
        deadline = time.monotonic() + settle_s
        while strangers := _format_processes(self._devices.strangers()):
            if time.monotonic() >= deadline:
                raise DevicesBusy(
                    tried=f"checking the GPUs before the launch of {plan.key}",
                    seen=f"in use by {strangers}",
                    remedy="wait for these processes, end them, or use other GPUs",
                )
            time.sleep(_POLL_S)


def _without_port(plan: LaunchPlan) -> LaunchPlan:
    """The plan without its port, which engines take as a word of its own.

    A server that was prepared for it is the same.
    """
    port = str(plan.port)
    argv = ["PORT" if word == port else word for word in plan.argv]
    return dataclasses.replace(plan, port=0, argv=tuple(argv), waits=False)


def _format_processes(processes: Sequence[GpuProcess]) -> str:
    texts = []
    for pid, command, used_bytes in processes:
        texts.append(f"pid {pid} ({command}, {used_bytes / _GIB:.1f} GiB)")
    return "; ".join(texts)
