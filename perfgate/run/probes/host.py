"""Host probe: whose the cores were, CPU time for each token, and waits for a core.

On GPUs the host hides behind the device until it does not: CPU time for a token shows a
loss before it is one. A server whose busy threads wait for a core shares its cores with
somebody, and what it measures meanwhile is not its own.
"""

from __future__ import annotations

from perfgate import formatting
from perfgate.load.repetition import (
    HOST_REASON,
    IDLE_SHARE,
    OTHERS_SHARE,
    Repetition,
)
from perfgate.machine import cores, run_queue
from perfgate.machine.cores import Usage
from perfgate.machine.run_queue import Snapshot
from perfgate.run.probes.probe import NOTHING, Figures
from perfgate.servers.running import RunningServer

# Of the time. From here on a GPU server is not alone on its cores; a repetition is no
# measurement of it then.
MOST_WAITING = 0.10
MS_PER_S = 1e3


class HostProbe:
    """Cores, CPU time and run queue of one launched server.

    CPU time and run queue on GPUs alone: on a CPU the ranks take every core, and whatever
    hands them their steps waits for one by design. What others used is told of both.

    Args:
        front_pid: its first process, which answers HTTP and turns tokens into text.
    """

    def __init__(self, server: RunningServer, front_pid: int) -> None:
        self._server = server
        self._front_pid = front_pid
        self._before: Snapshot | None = None
        self._cores: Usage | None = None

    def start(self) -> Figures:
        """Nothing to begin."""
        return NOTHING

    def before(self) -> None:
        """Take the counts at the begin of a repetition."""
        pids = self._server.pids()
        if pids:
            self._cores = cores.usage(pids)
        if self._server.gpu_indices:
            self._before = run_queue.snapshot(pids)

    def after(self, repetition: Repetition) -> Figures:
        """CPU time for each output token; a long wait makes the repetition invalid."""
        before, self._before = self._before, None
        shares = self._whose_cores()
        if before is None or not before.threads:
            return Figures(client_values=shares)
        after = run_queue.snapshot(self._server.pids())
        values = {}
        if repetition.output_tokens:
            for name, pid in (
                ("host_cpu_ms_per_output_token", None),
                ("front_cpu_ms_per_output_token", self._front_pid),
            ):
                cpu_ms = MS_PER_S * run_queue.cpu_s(before, after, pid)
                values[name] = cpu_ms / repetition.output_tokens
        return Figures(
            values=values, invalid=_reasons(before, after), client_values=shares
        )

    def _whose_cores(self) -> dict[str, float]:
        """What was idle meanwhile, and what others used; nothing where it is not known."""
        before, self._cores = self._cores, None
        if before is None:  # of a server that is attached to
            return {}
        after = cores.usage(self._server.pids())
        if after is None:
            return {}
        shares = cores.shares(before, after)
        if shares is None:
            return {}
        return {OTHERS_SHARE: shares.others, IDLE_SHARE: shares.idle}

    def finish(self, is_part: bool) -> Figures:
        """Nothing of the launch as a whole."""
        return NOTHING

    def stop(self) -> None:
        """Nothing to end."""


def _reasons(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    waiting = run_queue.longest_wait(before, after)
    if waiting is None or waiting.share <= MOST_WAITING:
        return ()
    share = formatting.percent(waiting.share)
    limit = formatting.percent(MOST_WAITING)
    return (
        f"{HOST_REASON} in {share} of the time (thread {waiting.name} of process "
        f"{waiting.pid}, limit {limit}): other processes use its cores, or it has too few",
    )
