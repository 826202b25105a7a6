"""Server pool: at most one live server on a set of devices, GPUs or the CPU.

A pool owns its devices for a session. It stops the old server before it launches the
next one, and launches only if the devices came back. A session fixture per server would
leave two alive, and a fixture's failing teardown does not keep the next from starting.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from perfgate.engines.base import LaunchPlan
from perfgate.errors import Failure
from perfgate.machine.leases import Lease
from perfgate.servers.launch_record import LaunchRecord, PortInUse, ServerDied
from perfgate.servers.server import STOP_GRACE_S, Server, launch
from perfgate.servers.supervisor.processes import Ending

_POLL_S = 0.2
# One accident is bad luck (a neighbour, a driver); the second is the server's own.
_DEATHS_ALLOWED = 1


class DevicesBusy(Failure):
    """A process of another session is on the GPUs."""


class DevicesNotClean(Failure):
    """A stopped server left processes or GPU memory behind: nothing more can be measured here."""


@dataclass(frozen=True)
class Devices:
    """How a pool sees what is on its GPUs.

    Attributes:
        strangers: (pid, command, bytes) of each process on the GPUs; asked when no
            server of the pool runs.
        gpu_memory_used: bytes used on each GPU of the given NVML indices.
        settle_s: how long the memory may take to come back after a stop; vLLM took 2 s
            and SGLang 7 s on an H200.
        tolerance_bytes: how many more bytes than before the launch may be in use after
            the stop.
    """

    strangers: Callable[[], Sequence[tuple[int, str, int]]] = tuple
    gpu_memory_used: Callable[[tuple[int, ...]], Sequence[int]] = lambda indices: (
        [0] * len(indices)
    )
    settle_s: float = 30.0
    tolerance_bytes: int = 512 * 2**20


class ServerPool:
    """The servers of one session on one set of devices.

    Close it, or use it as a context manager.

    Args:
        log_dir: where the servers' logs go.
        progress: called with a line of text while something takes long.
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
        # By plan without its port, which differs between launches of one server.
        self._failures: dict[LaunchPlan, Failure] = {}
        self._deaths: Counter[LaunchPlan] = Counter()
        self._dirty: Failure | None = None

    @property
    def launches(self) -> list[LaunchRecord]:
        """One record per launch, in order, those that failed included."""
        return [server.record for server in self._servers]

    def get(
        self,
        plan: LaunchPlan,
        *,
        fresh: bool = False,
    ) -> Server:
        """Return a live server of this plan: the running one, or else a new one.

        Args:
            plan: what must run. Two plans that differ in their port alone are the same.
            fresh: launch a new one also if it runs already.

        Raises:
            ServerExited, ServerNotReady: the start failed, now or at an earlier call;
                it is tried once.
            ServerDied: it has died a second time.
            PortInUse: another process listens on the plan's port; try another port.
            DevicesBusy, DevicesNotClean, LeaseExpired: it cannot be launched here now.
        """
        if self._live is not None and not self._live.alive():
            self._bury(self._live, "found dead")
        identity = _without_port(plan)
        for failure in (self._dirty, self._failures.get(identity)):
            if failure is not None:
                raise failure.with_traceback(None)
        live = self._live
        if live is not None and not fresh and _without_port(live.plan) == identity:
            return live
        reason = f"made room for {plan.key}"
        if fresh:
            reason = "replaced by a fresh launch"
        self._end_live(reason)
        self._check_devices(plan)
        return self._launch(plan)

    def abandon(self, why: str) -> ServerDied:
        """End the live server because it hung or died, and return the failure.

        The next `get` launches it once more. After the second death, `get` raises the
        failure that this returns.
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
        identity = _without_port(plan)
        if self._deaths[identity]:
            self._progress(f"{plan.key}: launching it once more, for it died")
        self._used_before = tuple(self._devices.gpu_memory_used(plan.gpu_indices))
        descriptors: Sequence[int] = ()
        if self._lease is not None:
            descriptors = self._lease.descriptors
        server = launch(
            plan,
            log_dir=self._log_dir,
            index=len(self._servers),
            owners=self._owners,
            keep_open=descriptors,
        )
        self._live = server
        self._servers.append(server)
        try:
            server.wait_until_ready(lambda text: self._progress(f"{plan.key}: {text}"))
        except Failure as failure:
            # A port that is taken says nothing about the server.
            if not isinstance(failure, PortInUse):
                self._failures[identity] = failure
            self._end_live(f"failed to start ({type(failure).__name__})")
            raise
        except BaseException as error:  # a cancelled start must end the server too
            self._end_live(f"interrupted while starting ({type(error).__name__})")
            raise
        return server

    def _bury(
        self,
        server: Server,
        why: str,
    ) -> ServerDied:
        failure = server.death(why)
        identity = _without_port(server.plan)
        self._deaths[identity] += 1
        if self._deaths[identity] > _DEATHS_ALLOWED:
            self._failures[identity] = failure
        self._end_live(f"died ({why})")
        return failure

    def _end_live(self, why: str) -> None:
        if self._live is None:
            return
        server = self._live
        ending = server.stop(why, grace_s=STOP_GRACE_S)
        self._live = None
        self._dirty = self._remains(server, ending)
        if self._dirty is not None:
            raise self._dirty

    def _remains(
        self,
        server: Server,
        ending: Ending,
    ) -> Failure | None:
        """What a stopped server left behind: processes or GPU memory; None if nothing."""
        tried = f"stopped {server.plan.key} ({ending})"
        if ending.left:
            return DevicesNotClean(
                tried,
                f"SIGKILL did not end {'; '.join(ending.left)}",
                "the kernel holds them: look at `dmesg`, reset the GPU",
                server.log,
            )
        seen = self._wait_for_memory(server)
        if seen is None:
            return None
        return DevicesNotClean(
            tried,
            seen,
            "end what holds the memory, or reset the GPU; then run again",
            server.log,
        )

    def _wait_for_memory(self, server: Server) -> str | None:
        """Wait until the GPU memory came back; returns what is still held, or None."""
        until_s = time.monotonic() + self._devices.settle_s
        is_reported = False
        excess = self._excess(server.gpu_indices)
        while excess:
            listed = "; ".join(excess)
            if not is_reported:
                self._progress(
                    f"{server.plan.key}: stopped; waiting until {listed} no more"
                )
                is_reported = True
            if time.monotonic() >= until_s:
                strangers = _format(self._devices.strangers())
                holders = strangers or "no process that can be seen"
                settle_s = self._devices.settle_s
                return f"{listed} {settle_s:.0f} s after its last process; there: {holders}"
            time.sleep(_POLL_S)
            excess = self._excess(server.gpu_indices)
        return None

    def _excess(self, indices: tuple[int, ...]) -> list[str]:
        """GPUs that hold more memory than before the launch."""
        used = self._devices.gpu_memory_used(indices)
        texts = []
        for index, now, before in zip(indices, used, self._used_before, strict=True):
            if now > before + self._devices.tolerance_bytes:
                texts.append(
                    f"GPU {index} holds {now / 2**30:.1f} GiB "
                    f"({before / 2**30:.1f} GiB before the launch)"
                )
        return texts

    def _check_devices(self, plan: LaunchPlan) -> None:
        if self._lease is not None:
            self._lease.check()
        until_s = time.monotonic()
        if self._servers:
            # NVML may list our last server for a moment after its end, in a container
            # under a pid that means nothing there.
            until_s += self._devices.settle_s
        strangers = _format(self._devices.strangers())
        while strangers:
            if time.monotonic() >= until_s:
                raise DevicesBusy(
                    f"looked at the GPUs before launching {plan.key}",
                    f"in use by {strangers}",
                    "wait until they have ended, end them, or measure on other GPUs",
                )
            time.sleep(_POLL_S)
            strangers = _format(self._devices.strangers())


def _without_port(plan: LaunchPlan) -> LaunchPlan:
    """The plan without its port, which engines take as a word of its own."""
    port = str(plan.port)
    argv = ["PORT" if word == port else word for word in plan.argv]
    return dataclasses.replace(
        plan,
        port=0,
        argv=tuple(argv),
    )


def _format(strangers: Sequence[tuple[int, str, int]]) -> str:
    texts = []
    for pid, command, held_bytes in strangers:
        texts.append(f"pid {pid} ({command}, {held_bytes / 2**30:.1f} GiB)")
    return "; ".join(texts)
