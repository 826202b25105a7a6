"""Faults of a server: what the user sees, and what is left.

The fault table, with the fake engine. After each row: what the message must
say, that the other configuration can still be measured, that each was launched
as often as it should, and that no process is left. The rows of killed sessions
are in `supervisor/test_daemon.py`; the same table with a real engine is in
`real/test_faults.py`.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from perfgate.errors import Failure
from perfgate.servers.launch_record import (
    PortInUse,
    RunDirectoryFull,
    ServerDied,
    ServerExited,
    ServerNotReady,
)
from perfgate.servers.pool import (
    Devices,
    DevicesBusy,
    DevicesNotClean,
    ServerPool,
)
from tests.support.plans import SUPPORT, fake_plan, free_port
from tests.support.survivors import Session, tagged

# Children of every server here, who leave its session; the deaf ones ignore
# SIGTERM, too, and cost 2 s.
CHILDREN = ("--children", "1", "--children-own-session")
DEAF_CHILDREN = (*CHILDREN, "--children-ignore-sigterm")


@dataclass(frozen=True)
class Row:
    """A start that fails: what the engine does, what it logged, what the message must hold."""

    faults: tuple[str, ...]
    log: str
    failure: type[Failure]
    words: tuple[str, ...]


ROWS = {
    "exit at start": Row(
        ("--exit-at-start", "3"),
        "Traceback",
        ServerExited,
        ("status 3", "Traceback", "read the log"),
    ),
    "exit 0 at start": Row(
        ("--exit-at-start", "0"),
        "INFO done",
        ServerExited,
        ("status 0", "INFO done"),
    ),
    "hang at start": Row(
        ("--hang-at-start",),
        "Loading weights",
        ServerNotReady,
        ("in 5 s", "during: loading weights"),
    ),
    "never healthy": Row(
        ("--healthy-after", "99"),
        "",
        ServerNotReady,
        ("in 5 s", "during: listening"),
    ),
    "unknown model": Row(
        ("--exit-at-start", "1"),
        "ValueError: Transformers does not recognize this architecture",
        ServerExited,
        ("does not know the model",),
    ),
    "out of memory": Row(
        ("--exit-at-start", "1"),
        "torch.OutOfMemoryError: CUDA out of memory.",
        ServerExited,
        ("do not fit",),
    ),
    "gated model": Row(
        ("--exit-at-start", "1"),
        "GatedRepoError: 401 Client Error.",
        ServerExited,
        ("HF_TOKEN",),
    ),
    "missing weights": Row(
        ("--exit-at-start", "1"),
        "RuntimeError: Cannot find any model weights",
        ServerExited,
        ("download them",),
    ),
    "no space": Row(
        ("--exit-at-start", "1"),
        "OSError: [Errno 28] No space left on device",
        ServerExited,
        ("free space",),
    ),
}


@contextmanager
def _pool(
    folder: Path, devices: Devices | None = None
) -> Iterator[tuple[ServerPool, tuple[str, str]]]:
    """A pool, and an environment variable that marks its servers' processes for the check."""
    tag = uuid.uuid4().hex
    with ServerPool(
        log_dir=folder / "logs", progress=lambda _: None, devices=devices
    ) as pool:
        yield pool, ("TAG", tag)

    assert [] == tagged(tag)


def _complete(port: int, timeout_s: float = 20.0) -> None:
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=timeout_s
    )
    try:
        connection.request(
            "POST",
            "/v1/completions",
            json.dumps({"prompt": [1], "max_tokens": 4, "stream": True}),
        )
        connection.getresponse().read()
    finally:
        connection.close()


@pytest.mark.parametrize("name", ROWS)
def test_failed_start(tmp_path: Path, name: str) -> None:
    """A failed start shows command, state, log and remedy, and is tried once.

    The other configuration continues.
    """
    row = ROWS[name]
    (tmp_path / "lines").write_text(row.log)
    with _pool(tmp_path) as (pool, tag):
        arguments = (
            "--log-file-lines",
            str(tmp_path / "lines"),
            *CHILDREN,
            *row.faults,
        )
        # What is to happen within the deadline must have happened on a busy
        # machine, too.
        deadline_s = 5.0 if row.failure is ServerNotReady else 60.0
        bad = fake_plan(*arguments, startup_timeout_s=deadline_s, env=(tag,))
        good = fake_plan(*CHILDREN, env=(tag,))
        _complete(pool.get(good).plan.port)
        for _ in range(2):
            with pytest.raises(row.failure) as caught:
                pool.get(bad)
        _complete(pool.get(good).plan.port)

        for word in (
            *row.words,
            "fake_engine.py",
            f"--port {bad.port}",
            "logs/fake-engine-1.log",
        ):
            assert word in str(caught.value)
        assert [good.argv, bad.argv, good.argv] == [
            record.argv for record in pool.launches
        ]


def test_port_in_use(tmp_path: Path) -> None:
    """Whoever has the port is named and nothing is launched; with a free port it succeeds."""
    with _pool(tmp_path) as (pool, tag):
        with socket.create_server(("127.0.0.1", 0)) as holder:
            plan = fake_plan(port=holder.getsockname()[1], env=(tag,))
            with pytest.raises(
                PortInUse, match=f"in use by pid {os.getpid()}: .*python"
            ):
                pool.get(plan)

            assert [] == pool.launches

        assert pool.get(plan).alive()


def test_death_mid_run(tmp_path: Path) -> None:
    """A server that dies under load is reported at once and launched once more.

    The second death is the last.
    """
    with _pool(tmp_path) as (pool, tag):
        plan = fake_plan(
            "--die-after-requests",
            "1",
            "--exit-code",
            "9",
            *DEAF_CHILDREN,
            env=(tag,),
        )
        for _ in range(2):
            server = pool.get(plan)
            _complete(plan.port)

            assert (
                "exited with status 9, during: closed-c16"
                in server.death("closed-c16").seen
            )
            assert "dying as told" in server.log_tail()

        with pytest.raises(ServerDied, match="status 9"):
            pool.get(plan)

        assert 2 == len(pool.launches)
        assert pool.get(fake_plan(env=(tag,))).alive()


def test_a_server_that_outlives_its_connections_is_dying(
    tmp_path: Path,
) -> None:
    """Its exit is waited for after broken requests; one that goes on serving survives."""
    with _pool(tmp_path) as (pool, tag):
        plan = fake_plan(
            "--die-after-requests", "1", "--linger", "1.5", env=(tag,)
        )
        server = pool.get(plan)
        assert server.survives(patience_s=0.5)
        _complete(plan.port)

        assert server.alive()
        assert not server.survives()

        assert "exited with status 1, during: load" in server.death("load").seen


def test_a_server_without_health_is_dead_though_it_runs(tmp_path: Path) -> None:
    """An engine whose front end outlives it answers no health check; its death says so."""
    with _pool(tmp_path) as (pool, tag):
        plan = fake_plan(
            "--die-after-requests", "1", "--linger", "60", env=(tag,)
        )
        server = pool.get(plan)
        _complete(plan.port)

        assert not server.survives(patience_s=0.5)

        assert (
            "the process still runs, but /health does not answer with 200"
            in server.death("load").seen
        )


@pytest.mark.parametrize("is_stopped", [False, True], ids=["silent", "sigstop"])
def test_stall_mid_stream(tmp_path: Path, is_stopped: bool) -> None:
    """A server that lives but sends nothing is given up, with its log, and launched once more."""
    with _pool(tmp_path) as (pool, tag):
        plan = fake_plan(
            "--stall-after-tokens",
            "0" if not is_stopped else "99",
            *CHILDREN,
            env=(tag,),
        )
        server = pool.get(plan)
        if is_stopped:
            os.killpg(server.record.pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            _complete(plan.port, timeout_s=0.5)

        assert server.alive()

        failure = pool.abandon("no token for 0.5 s in closed-c16")

        assert (
            "the process still runs, during: no token for 0.5 s" in failure.seen
        )
        assert "listening on" in failure.detail
        assert pool.get(plan) is not server
        assert 2 == len(pool.launches)


def test_stranger_on_the_gpu(tmp_path: Path) -> None:
    """An external process is named by pid, command and memory, and nothing is launched."""
    devices = Devices(
        lambda: [(4711, "python train.py", 3 * 2**30)],
        lambda indices: [0 for _ in indices],
    )
    with _pool(tmp_path, devices) as (pool, tag):
        with pytest.raises(
            DevicesBusy, match=r"pid 4711 \(python train.py, 3.0 GiB\)"
        ):
            pool.get(fake_plan(gpu_indices=(0,), env=(tag,)))

        assert [] == pool.launches


def test_memory_not_released(tmp_path: Path) -> None:
    """If the memory stays, the next launch is refused with how much, where, and who."""
    held: list[int] = [0]
    devices = Devices(
        lambda: [], lambda indices: held * len(indices), settle_s=0.2
    )
    with _pool(tmp_path, devices) as (pool, tag):
        pool.get(fake_plan(gpu_indices=(0,), env=(tag,)))
        held[0] = 70 * 2**30
        for _ in range(2):
            with pytest.raises(
                DevicesNotClean,
                match=r"GPU 0 holds 70.0 GiB .* none is visible",
            ):
                pool.get(fake_plan(gpu_indices=(0,), env=(tag,)), fresh=True)

        assert 1 == len(pool.launches)


def test_two_sessions_at_once(tmp_path: Path) -> None:
    """The second one names the session that it waits for.

    If the first is killed, it starts only when nothing of that is left.
    """
    sessions = []
    for wait_s in (0.0, 60.0):
        port = free_port()
        command = (
            sys.executable,
            str(SUPPORT / "fake_engine.py"),
            "--port",
            str(port),
            *DEAF_CHILDREN,
        )
        sessions.append(Session(tmp_path, command, port, wait_s))
        sessions[-1].wait_for(
            "measured" if wait_s == 0.0 else "waiting for cpu: pid"
        )
    first, second = sessions

    assert f"waiting for cpu: pid {first.pid} of " in second.output.read_text()

    first.send(signal.SIGKILL)
    second.wait_for("starting")

    assert [] == tagged(first.tag)

    second.wait_for("measured")
    second.send(signal.SIGTERM)

    assert [] == second.survivors()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=24m",
        "perfgate-test",
        str(folder),
    ]
    if (
        os.geteuid() != 0
        or subprocess.run(mount, check=False, capture_output=True).returncode
        != 0
    ):
        pytest.skip(
            "needs the right to mount a small file system; this user has not got it"
        )
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_full_in_the_run_directory(small_disk: Path) -> None:
    """A full disk is named, the live server is ended, and what was written before stays."""
    with _pool(small_disk) as (pool, tag):
        first = pool.get(fake_plan(*CHILDREN, env=(tag,)))
        (small_disk / "results").write_text("measured")
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "filler").write_bytes(b"\0" * 25 * 2**20)
        _complete(first.plan.port)
        with pytest.raises(RunDirectoryFull, match="free space in"):
            pool.get(fake_plan(env=(tag,)))

        assert not first.alive()
        assert "measured" == (small_disk / "results").read_text()

        (small_disk / "filler").unlink()

        assert pool.get(fake_plan(env=(tag,))).alive()
