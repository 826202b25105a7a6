"""Host probe: CPU time for a token, and waits that make a repetition invalid."""

import types

import msgspec
import pytest

from perfgate.judge import stalls
from perfgate.machine import cores, run_queue
from perfgate.machine.cores import Usage
from perfgate.machine.run_queue import Counts, Snapshot
from perfgate.run.probes import host
from perfgate.run.probes.host import HostProbe
from tests.support.builders import repetition

MS = 1_000_000
FRONT, RANK = 7, 9


@pytest.fixture
def counted(monkeypatch):
    """A probe of a server on GPUs whose threads did so much between two snapshots of 10 s."""

    def probe(threads, gpu_indices=(0,)):
        taken = [
            Snapshot(0.0, dict.fromkeys(threads, Counts())),
            Snapshot(10.0, threads),
        ]
        monkeypatch.setattr(run_queue, "snapshot", lambda _: taken.pop(0))
        server = types.SimpleNamespace(
            gpu_indices=gpu_indices, pids=lambda: (FRONT, RANK)
        )
        return HostProbe(server, FRONT)

    return probe


def figures_of(probe, tokens=100):
    """What it read of one repetition."""
    probe.before()
    return probe.after(repetition(0, output_tokens=tokens))


def test_cpu_time_for_a_token(counted):
    """Of all processes, and of the one that answers HTTP."""
    figures = figures_of(
        counted(
            {(FRONT, 7): Counts(1000 * MS, 0), (RANK, 9): Counts(4000 * MS, 0)}
        )
    )

    assert {
        "host_cpu_ms_per_output_token": 50.0,
        "front_cpu_ms_per_output_token": 10.0,
    } == figures.values
    assert () == figures.invalid


def test_a_wait_for_a_core_makes_it_invalid(counted):
    """The reason says how long, which thread, and what it means."""
    figures = figures_of(counted({(RANK, 9): Counts(4000 * MS, 1200 * MS)}))

    (reason,) = figures.invalid
    assert "the engine waited for a core in 12.0 % of the time" in reason
    assert "other processes use its cores, or it has too few" in reason


def test_a_wait_for_a_core_is_not_held_against_the_server(counted):
    """A neighbour's load is no stall of the engine."""
    figures = figures_of(counted({(RANK, 9): Counts(4000 * MS, 1200 * MS)}))
    row = msgspec.structs.replace(repetition(0, 1.0), invalid=figures.invalid)

    assert 0 == stalls.tally([row]).repetitions


def test_a_short_wait_is_nothing(counted):
    """Every scheduler makes threads wait now and then."""
    share = host.MOST_WAITING / 2
    figures = figures_of(
        counted({(RANK, 9): Counts(4000 * MS, int(share * 10_000 * MS))})
    )

    assert () == figures.invalid


def test_no_wait_is_a_reason_without_gpus(counted):
    """On a CPU the ranks take every core, and something always waits for one."""
    probe = counted({(RANK, 9): Counts(4000 * MS, 9000 * MS)}, gpu_indices=())
    figures = figures_of(probe)

    assert ({}, ()) == (figures.values, figures.invalid)


def test_a_kernel_without_counts_gives_nothing(counted):
    """No figure is made up, and nothing is invalid."""
    figures = figures_of(counted({}))

    assert ({}, ()) == (figures.values, figures.invalid)


def test_a_repetition_without_tokens_has_no_figure(counted):
    """All of its requests failed."""
    figures = figures_of(counted({(RANK, 9): Counts(4000 * MS, 0)}), tokens=0)

    assert {} == figures.values


@pytest.mark.parametrize("gpu_indices", [(), (0,)])
def test_a_server_shares_its_cores(monkeypatch, gpu_indices):
    """What was idle, and what others used; nothing where the kernel does not count it."""
    server = types.SimpleNamespace(
        gpu_indices=gpu_indices, pids=lambda: (FRONT, RANK)
    )
    taken = [
        Usage(0.0, 2, 5.0, {FRONT: 1.0}),
        Usage(10.0, 2, 6.0, {FRONT: 2.0, RANK: 8.0}),
        None,
        None,
    ]
    counting = types.SimpleNamespace(
        usage=lambda pids: taken.pop(0), shares=cores.shares
    )
    monkeypatch.setattr(host, "cores", counting)
    probe = HostProbe(server, FRONT)

    assert {"others_share": 0.5, "idle_share": 0.05} == figures_of(
        probe
    ).client_values
    assert {} == figures_of(probe).client_values
