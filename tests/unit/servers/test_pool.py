"""Server pool: one live server on a set of devices, each launch once."""

import os
import signal
import time
from pathlib import Path

import pytest

from perfgate.machine.leases import LeaseExpired, acquire
from perfgate.servers.launch_record import ServerDied, ServerExited
from perfgate.servers.pool import (
    Devices,
    DevicesBusy,
    DevicesNotClean,
    ServerPool,
)
from perfgate.servers.supervisor.processes import look_up
from tests.support.plans import fake_plan

GIB = 2**30


class _Gpus:
    """GPUs whose memory and visitors are what a test says."""

    def __init__(self, *used: int) -> None:
        self.used = list(used)
        self.visitors: list[tuple[int, str, int]] = []

    def devices(self, settle_s: float = 0.0) -> Devices:
        return Devices(
            lambda: self.visitors,
            lambda indices: [self.used[index] for index in indices],
            settle_s,
        )


def _pool(folder: Path, devices: Devices | None = None) -> ServerPool:
    return ServerPool(
        log_dir=folder / "logs", progress=lambda _: None, devices=devices
    )


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while look_up(pid) is not None and time.monotonic() < until:
        time.sleep(0.02)


def test_same_plan_is_launched_once(tmp_path: Path) -> None:
    """Whoever asks again gets the live server."""
    plan = fake_plan()
    with _pool(tmp_path) as pool:
        first = pool.get(plan)

        assert first is pool.get(plan)
        assert 1 == len(pool.launches)


def test_two_are_never_alive_together(tmp_path: Path) -> None:
    """The old server is gone before the next is launched, in whichever order they are asked."""
    plans = [fake_plan(), fake_plan(env=(("ANOTHER", "1"),))]
    with _pool(tmp_path) as pool:
        for plan in (plans[0], plans[1], plans[0]):
            server = pool.get(plan)

            assert [server.record.pid] == [
                r.pid for r in pool.launches if look_up(r.pid) is not None
            ]

    assert [] == [r.pid for r in pool.launches if look_up(r.pid) is not None]
    assert [0, 1, 2] == [record.session_index for record in pool.launches]
    assert [
        "made room for fake-engine",
        "made room for fake-engine",
        "closed",
    ] == [str(record.stop).partition(":")[0] for record in pool.launches]


def test_fresh_launches_anew(tmp_path: Path) -> None:
    """A launch is the unit of replication: it can be had although the server is well."""
    plan = fake_plan()
    with _pool(tmp_path) as pool:
        first = pool.get(plan)
        second = pool.get(plan, fresh=True)

        assert (False, True) == (first.alive(), second.alive())
        assert second is pool.get(plan)


def test_failed_start_is_remembered(tmp_path: Path) -> None:
    """A failed start is not retried; the next call fails alike, and the live server stays."""
    bad, good = fake_plan("--exit-at-start", "3"), fake_plan()
    with _pool(tmp_path) as pool:
        with pytest.raises(ServerExited) as first:
            pool.get(bad)
        server = pool.get(good)
        with pytest.raises(ServerExited) as second:
            pool.get(bad, fresh=True)

        assert first.value is second.value
        assert 2 == len(pool.launches)
        assert server.alive()
        assert (
            "failed to start (ServerExited), exited with status 3 before: nothing was running"
            == pool.launches[0].stop
        )


def test_dead_server_is_launched_once_more(tmp_path: Path) -> None:
    """One death is forgiven; the second is told, and told again."""
    plan = fake_plan()
    with _pool(tmp_path) as pool:
        _kill(pool.get(plan).record.pid)
        _kill(pool.get(plan).record.pid)
        for _ in range(2):
            with pytest.raises(ServerDied, match="killed by SIGKILL"):
                pool.get(plan)

        assert 2 == len(pool.launches)
        assert all("found dead" in str(record.stop) for record in pool.launches)


def test_only_the_launch_after_a_death_is_told_as_that(tmp_path: Path) -> None:
    """A further launch of a server that died once replaces one that lives."""
    plan = fake_plan()
    told: list[str] = []
    with ServerPool(log_dir=tmp_path / "logs", progress=told.append) as pool:
        _kill(pool.get(plan).record.pid)
        pool.get(plan)
        pool.get(plan, fresh=True)

        assert 3 == len(pool.launches)
    assert 1 == len([line for line in told if "because it died" in line])


def test_abandoned_server_counts_as_dead(tmp_path: Path) -> None:
    """A server that has fallen silent is ended, also when it is stopped, and launched once more."""
    plan = fake_plan()
    with _pool(tmp_path) as pool:
        server = pool.get(plan)
        os.kill(server.record.pid, signal.SIGSTOP)
        failure = pool.abandon("no token for 30 s in closed-c16")

        assert (
            "the process still runs, during: no token for 30 s in closed-c16"
            in str(failure)
        )
        assert look_up(server.record.pid) is None
        assert pool.get(plan).alive()

        pool.abandon("no token for 30 s in closed-c16")
        with pytest.raises(ServerDied, match="no token"):
            pool.get(plan)


def test_abandoning_nothing_is_a_mistake(tmp_path: Path) -> None:
    """There must be a live server to give up."""
    with _pool(tmp_path) as pool, pytest.raises(LookupError):
        pool.abandon("nothing")


def test_stranger_on_the_gpu_is_named(tmp_path: Path) -> None:
    """Nothing is launched while an external process is there; after that it is."""
    gpus = _Gpus(0)
    gpus.visitors = [(4711, "python train.py", 3 * GIB)]
    plan = fake_plan(gpu_indices=(0,))
    with _pool(tmp_path, gpus.devices()) as pool:
        with pytest.raises(
            DevicesBusy, match=r"pid 4711 \(python train.py, 3.0 GiB\)"
        ):
            pool.get(plan)

        assert [] == pool.launches

        gpus.visitors = []

        assert pool.get(plan).alive()


def test_dead_server_may_be_listed_for_a_moment(tmp_path: Path) -> None:
    """The driver's list of processes lags; the pool's own last server is no stranger."""
    lagging = iter([[], [(4711, "vllm", GIB)], [(4711, "vllm", GIB)]])
    plan = fake_plan(gpu_indices=(0,))
    with _pool(
        tmp_path,
        Devices(
            lambda: next(lagging, []), lambda indices: [0 for _ in indices]
        ),
    ) as pool:
        pool.get(plan)

        assert pool.get(plan, fresh=True).alive()


def test_memory_that_stays_stops_everything(tmp_path: Path) -> None:
    """If a GPU's memory is not freed nothing more is launched, and each later call says why."""
    gpus = _Gpus(GIB, GIB)
    plan = fake_plan(gpu_indices=(1,))
    pool = _pool(tmp_path, gpus.devices(settle_s=0.3))
    pool.get(plan)
    gpus.used[1] = 80 * GIB
    for asked in (fake_plan(), plan):
        with pytest.raises(
            DevicesNotClean,
            match=r"GPU 1 holds 80.0 GiB \(1.0 GiB before the launch\)",
        ):
            pool.get(asked)

    assert 1 == len(pool.launches)

    pool.close()


def test_memory_may_take_a_while(tmp_path: Path) -> None:
    """Memory that comes back within the time given is no fault."""
    said: list[str] = []
    falling = iter([40 * GIB, 20 * GIB])
    devices = Devices(
        tuple,
        lambda _: [next(falling, 0)] if pool.launches else [0],
        settle_s=60,
    )
    pool = ServerPool(log_dir=tmp_path, progress=said.append, devices=devices)
    pool.get(fake_plan(gpu_indices=(0,)))
    pool.close()

    assert [] == list(falling)
    assert (
        "waiting for GPU memory: GPU 0 holds 40.0 GiB (0.0 GiB before the launch)"
        in said[-1]
    )


def test_interrupted_start_leaves_nothing(tmp_path: Path) -> None:
    """A start that is cancelled is neither left running nor remembered as failed."""

    def cancel(_: str) -> None:
        raise KeyboardInterrupt

    plan = fake_plan()
    pool = ServerPool(log_dir=tmp_path, progress=cancel)
    with pytest.raises(KeyboardInterrupt):
        pool.get(plan)

    assert [None] == [look_up(record.pid) for record in pool.launches]
    assert str(pool.launches[0].stop).startswith(
        "interrupted while starting (KeyboardInterrupt)"
    )


def test_expired_lease_launches_nothing(tmp_path: Path) -> None:
    """A session that has had its time starts no server more."""
    with acquire(
        ["GPU-0"],
        1,
        wait_s=0,
        hold_s=-1,
        progress=lambda _: None,
        folder=tmp_path,
    ) as lease:
        pool = ServerPool(
            log_dir=tmp_path, progress=lambda _: None, lease=lease
        )
        with pytest.raises(LeaseExpired):
            pool.get(fake_plan())

        assert [] == pool.launches


def test_progress_names_the_server(tmp_path: Path) -> None:
    """Two servers' lines can be told apart."""
    said: list[str] = []
    with ServerPool(log_dir=tmp_path, progress=said.append) as pool:
        pool.get(fake_plan())

    assert {"fake-engine"} == {text.partition(":")[0] for text in said}


def test_servers_are_alive_together_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    """All are ready, on ports of their own; the next launch ends every one of them."""
    plans = [fake_plan(), fake_plan(), fake_plan()]
    with _pool(tmp_path) as pool:
        before = pool.get(fake_plan())
        together = pool.launch_together(plans)

        assert not before.alive()
        assert [True] * 3 == [server.alive() for server in together]
        assert 3 == len({server.url for server in together})
        pool.get(fake_plan(env=(("ANOTHER", "1"),)))
        assert [False] * 3 == [server.alive() for server in together]


def test_closing_ends_servers_that_are_alive_together(tmp_path: Path) -> None:
    """As an interrupted session does."""
    with _pool(tmp_path) as pool:
        together = pool.launch_together([fake_plan(), fake_plan()])

    assert [False, False] == [server.alive() for server in together]
    assert all(record.stop for record in pool.launches)


def test_one_that_fails_to_start_ends_the_others(tmp_path: Path) -> None:
    """Nothing is compared with a part of the launches, and nothing stays behind."""
    bad = fake_plan("--exit-at-start", "3")
    with _pool(tmp_path) as pool:
        with pytest.raises(ServerExited):
            pool.launch_together([fake_plan(), bad, fake_plan()])

        running = [r.pid for r in pool.launches if look_up(r.pid) is not None]
        assert [] == running


def test_memory_of_servers_together_is_looked_at_when_all_have_ended(
    tmp_path: Path,
) -> None:
    """While one of them lives, its memory is no rest of another one."""
    plans = [fake_plan(gpu_indices=(0,)), fake_plan(gpu_indices=(0,))]

    def used(_: tuple[int, ...]) -> list[int]:
        alive = [r.pid for r in pool.launches if look_up(r.pid) is not None]
        return [GIB + 20 * GIB * len(alive)]

    pool = _pool(tmp_path, Devices(tuple, used, 0.3))
    pool.launch_together(plans)
    pool.end_together()

    assert ["done", "done"] == [r.stop.partition(":")[0] for r in pool.launches]


def test_memory_that_servers_together_leave_is_a_fault(tmp_path: Path) -> None:
    """As that of one server is."""
    gpus = _Gpus(GIB)
    pool = _pool(tmp_path, gpus.devices(settle_s=0.3))
    pool.launch_together([fake_plan(gpu_indices=(0,)) for _ in range(2)])
    gpus.used[0] = 40 * GIB

    with pytest.raises(DevicesNotClean, match="GPU 0 holds 40"):
        pool.end_together()
