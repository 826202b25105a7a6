"""Which server lives on these devices now?

A pool owns a set of devices (GPUs, or the CPU) for a session and lets one server live
on it at a time. It stops the old server itself before it launches the next, and goes on
only if the devices came back: a session fixture per server would leave two alive, and a
fixture's failing teardown does not keep the next one from starting.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from perfgate.engines.base import LaunchPlan
from perfgate.errors import Failure
from perfgate.machine.leases import Lease
from perfgate.servers.launch_record import LaunchRecord, ServerDied
from perfgate.servers.server import STOP_GRACE_S, Server, launch
from perfgate.servers.supervisor.processes import Ending

_POLL_S = 0.2
# One accident is bad luck (a neighbour, a driver); the second is the server's own.
_DEATHS_ALLOWED = 1


class DevicesBusy(Failure):
    """Somebody else's process is on the GPUs."""


class DevicesNotClean(Failure):
    """A stopped server left processes or GPU memory behind, so that nothing can be measured here any more."""


@dataclass(frozen=True)
class Devices:
    """How a pool sees what is on its GPUs.

    Attributes:
        strangers: (pid, command, bytes) of each process on the GPUs; asked when no
            server of the pool runs.
        gpu_memory_used: bytes used on each GPU of the given NVML indices.
        settle_s: how long the memory may take to come back after a stop; 2 s (vLLM) and
            7 s (SGLang) were seen on an H200.
        tolerance_bytes: by how much more than before the launch may be used after the
            stop.
    """

    strangers: Callable[[], Sequence[tuple[int, str, int]]] = tuple
    gpu_memory_used: Callable[[tuple[int, ...]], Sequence[int]] = lambda indices: (
        [0] * len(indices)
    )
    settle_s: float = 30.0
    tolerance_bytes: int = 512 * 2**20


class ServerPool:
    """The servers of one session on one set of devices. Close it, or use it as a context manager.

    Args:
        log_dir: where the servers' logs go.
        progress: called with a line now and then while something takes long.
        devices: how to look at the GPUs; on the CPU there is nothing to see.
        lease: the right to use these devices; held until the last process is gone, even
            if this one is killed before.
        owners: pids whose death ends the servers, besides this process.
    """

    def __init__(
        self,
        *,
        log_dir: Path,
        progress: Callable[[str], None],
        devices: Devices | None = None,
        lease: Lease | None = None,
        owners: Sequence[int] = (),
    ) -> None:
        self._log_dir = log_dir
        self._progress = progress
        self._devices = devices or Devices()
        self._lease = lease
        self._owners = tuple(owners)
        self._servers: list[Server] = []
        self._live: Server | None = None
        self._used_before: Sequence[int] = ()
        self._failed: dict[LaunchPlan, Failure] = {}
        self._deaths: Counter[LaunchPlan] = Counter()
        self._dirty: Failure | None = None

    @property
    def launches(self) -> list[LaunchRecord]:
        """One record per launch, in order, those that failed included."""
        return [server.record for server in self._servers]

    def get(self, plan: LaunchPlan, *, fresh: bool = False) -> Server:
        """Return a live server of this plan: the one that runs, or else a new one.

        Args:
            plan: what must run.
            fresh: launch anew also if it runs already.

        Raises:
            ServerExited, ServerNotReady: the start failed, now or at an earlier call;
                it is tried once.
            ServerDied: it has died a second time.
            DevicesBusy, DevicesNotClean, PortInUse, LeaseExpired: it cannot be launched
                here now.
        """
        if self._live is not None and not self._live.alive():
            self._bury(self._live, "found dead")
        for failure in (self._dirty, self._failed.get(plan)):
            if failure is not None:
                raise failure.with_traceback(None)
        if self._live is not None and self._live.plan == plan and not fresh:
            return self._live
        self._end_live(
            "replaced by a fresh launch" if fresh else f"made room for {plan.key}"
        )
        self._check_devices(plan)
        return self._launch(plan)

    def abandon(self, why: str) -> ServerDied:
        """End the live server because it is of no use (it stalled, say), count that as a death, and return the failure.

        The next `get` launches it once more; after the second time it raises what this
        returns.
        """
        if self._live is None:
            raise LookupError("no server lives in this pool")
        return self._bury(self._live, why)

    def close(self) -> None:
        """End the live server; the pool may be used again.

        Raises:
            DevicesNotClean: something stayed behind.
        """
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

    def _launch(self, plan: LaunchPlan) -> Server:
        if self._deaths[plan]:
            self._progress(f"{plan.key}: launching it once more, for it died")
        self._used_before = tuple(self._devices.gpu_memory_used(plan.gpu_indices))
        server = launch(
            plan,
            log_dir=self._log_dir,
            index=len(self._servers),
            owners=self._owners,
            keep_open=() if self._lease is None else self._lease.descriptors,
        )
        self._live = server
        self._servers.append(server)
        try:
            server.wait_until_ready(lambda text: self._progress(f"{plan.key}: {text}"))
        except Failure as failure:
            self._failed[plan] = failure
            self._end_live(f"failed to start ({type(failure).__name__})")
            raise
        except BaseException as error:  # a cancelled start must end the server too
            self._end_live(f"interrupted while starting ({type(error).__name__})")
            raise
        return server

    def _bury(self, server: Server, why: str) -> ServerDied:
        failure = server.death(why)
        self._deaths[server.plan] += 1
        if self._deaths[server.plan] > _DEATHS_ALLOWED:
            self._failed[server.plan] = failure
        self._end_live(f"died ({why})")
        return failure

    def _end_live(self, why: str) -> None:
        if self._live is None:
            return
        server = self._live
        report = server.stop(why, grace_s=STOP_GRACE_S)
        self._live = None
        self._dirty = self._what_stayed(server, report)
        if self._dirty is not None:
            raise self._dirty

    def _what_stayed(self, server: Server, report: Ending) -> Failure | None:
        tried = f"stopped {server.plan.key} ({report})"
        log = Path(server.record.log)
        if report.left:
            seen = f"SIGKILL did not end {'; '.join(report.left)}"
            return DevicesNotClean(
                tried,
                seen,
                "the kernel holds them: look at `dmesg`, reset the GPU",
                log,
            )
        indices = server.plan.gpu_indices
        until, was_told = time.monotonic() + self._devices.settle_s, False
        while excess := self._excess(indices):
            if not was_told:
                self._progress(
                    f"{server.plan.key}: stopped; waiting until {'; '.join(excess)} no more"
                )
                was_told = True
            if time.monotonic() >= until:
                holders = (
                    _name(self._devices.strangers()) or "no process that can be seen"
                )
                seen = (
                    f"{'; '.join(excess)} {self._devices.settle_s:.0f} s after its "
                    f"last process; there: {holders}"
                )
                return DevicesNotClean(
                    tried,
                    seen,
                    "end what holds the memory, or reset the GPU; then run again",
                    log,
                )
            time.sleep(_POLL_S)
        return None

    def _excess(self, indices: tuple[int, ...]) -> list[str]:
        used = self._devices.gpu_memory_used(indices)
        return [
            f"GPU {index} holds {now / 2**30:.1f} GiB ({before / 2**30:.1f} GiB before the launch)"
            for index, now, before in zip(indices, used, self._used_before, strict=True)
            if now > before + self._devices.tolerance_bytes
        ]

    def _check_devices(self, plan: LaunchPlan) -> None:
        if self._lease is not None:
            self._lease.check()
        # NVML may list our last server for a moment after its end, in a container under
        # a pid that means nothing there.
        until = time.monotonic() + (self._devices.settle_s if self._servers else 0.0)
        while strangers := _name(self._devices.strangers()):
            if time.monotonic() >= until:
                raise DevicesBusy(
                    f"looked at the GPUs before launching {plan.key}",
                    f"in use by {strangers}",
                    "wait until they have ended, end them, or measure on other GPUs",
                )
            time.sleep(_POLL_S)


def _name(strangers: Sequence[tuple[int, str, int]]) -> str:
    return "; ".join(
        f"pid {pid} ({command}, {held / 2**30:.1f} GiB)"
        for pid, command, held in strangers
    )
