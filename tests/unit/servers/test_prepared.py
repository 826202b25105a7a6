"""Prepared servers: they import early, wait, and serve as any other."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from perfgate.engines import sglang, vllm
from perfgate.engines.base import ServerConfig
from perfgate.servers import prepared
from perfgate.servers.launch_record import ServerExited
from perfgate.servers.pool import ServerPool
from perfgate.servers.supervisor.processes import look_up
from tests.support.plans import SUPPORT, fake_plan, free_port, request_for

IMPORT_S = 0.5
SLOW = f"""
import time
time.sleep({IMPORT_S})
with open({{marker!r}}, "a") as marker:
    marker.write("imported ")
"""
PATIENCE_S = 20.0


@pytest.fixture
def plan(tmp_path):
    """Makes a plan of the fake engine, started as a module that imports slowly."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "slow_engine.py").write_text(
        SLOW.format(marker=str(tmp_path / "marker"))
    )

    def make(*arguments, **changes):
        planned = fake_plan(*arguments, **changes)
        path = os.pathsep.join(
            map(str, (SUPPORT, vllm.INSIDE, tmp_path / "modules"))
        )
        return dataclasses.replace(
            planned,
            argv=(sys.executable, "-m", "fake_engine", *planned.argv[2:]),
            env=(*planned.env, ("PYTHONPATH", path)),
            late_imports=("slow_engine", "no_such_module"),
        )

    return make


@pytest.fixture
def lines():
    """What the pool says."""
    return []


@pytest.fixture
def pool(tmp_path, lines):
    """A pool that is closed at the end."""
    with ServerPool(log_dir=tmp_path / "logs", progress=lines.append) as made:
        yield made


def waiting_pid(pool):
    """The process of the server that waits."""
    return pool._prepared.record.pid


def until(condition):
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def has_imported(pool):
    """Whether the server that waits has made its imports."""
    return prepared.imports_s(pool._prepared.log) is not None


def test_it_imports_while_another_one_serves(pool, plan, tmp_path, lines):
    """And answers once it is asked for; its start counts the imports."""
    first, second = plan(), plan("--served-model", "second")
    server = pool.get(first, meanwhile=lambda: pool.prepare(second))
    pid = waiting_pid(pool)
    until(lambda: has_imported(pool))
    assert server.alive()
    assert [server.record.pid] == [row.pid for row in pool.launches]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", second.port), timeout=5)

    later = pool.get(second)

    assert pid == later.record.pid
    assert not server.alive()
    assert "imported " == (tmp_path / "marker").read_text()
    record = later.record
    assert record.ready_s >= IMPORT_S
    assert abs(time.time() - record.started_unix_s - record.ready_s) < 5.0
    assert second.argv == record.argv
    assert "listening" in [phase.name for phase in record.phases]
    assert any("imported before" in line for line in lines)
    assert look_up(pid) is not None
    pool.close()
    assert look_up(pid) is None


def test_one_that_still_imports_is_waited_for(pool, plan):
    """Asked for at once, it counts from its own beginning."""
    planned = plan()
    pool.prepare(planned)
    pid = waiting_pid(pool)

    server = pool.get(planned)

    assert pid == server.record.pid
    # The supervisor answers a moment after the process began.
    assert server.record.ready_s >= IMPORT_S / 2


def test_another_port_makes_no_other_server(pool, plan):
    """The plan of the second call has a port of its own; the first one's is used."""
    planned = plan()
    pool.prepare(planned)
    pid = waiting_pid(pool)
    pool.prepare(plan())
    assert pid == waiting_pid(pool)

    server = pool.get(plan())

    assert planned.url == server.url


def test_what_is_not_needed_is_ended(pool, plan):
    """When another one is prepared, and at the end; no log is left of it."""
    pool.prepare(plan())
    first = pool._prepared
    pool.prepare(plan("--served-model", "second"))
    second = pool._prepared
    assert look_up(first.record.pid) is None
    pool.close()

    assert look_up(second.record.pid) is None
    assert not first.log.exists()
    assert not second.log.exists()
    assert [] == pool.launches


def test_one_that_died_is_launched_as_any_other(pool, plan):
    """A killed process is nothing that a person must know of."""
    planned = plan()
    pool.prepare(planned)
    pid = waiting_pid(pool)
    os.kill(pid, signal.SIGKILL)
    until(lambda: look_up(pid) is None)

    server = pool.get(planned)

    assert server.alive()
    assert pid != server.record.pid
    assert prepared.imports_s(server.log) is None


def test_one_without_its_log_is_launched_as_any_other(pool, plan):
    """A log folder that is deleted meanwhile is made again."""
    planned = plan()
    pool.prepare(planned)
    pid = waiting_pid(pool)
    until(lambda: has_imported(pool))
    shutil.rmtree(pool._prepared.log.parent)

    server = pool.get(planned)

    assert server.log.exists()
    assert look_up(pid) is None


def test_a_taken_port_is_no_failure(pool, plan):
    """Another process listens on it meanwhile: the server takes another port."""
    port = free_port()
    pool.prepare(plan(port=port))
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", port))
        taker.listen()

        server = pool.get(plan())

    assert server.alive()
    assert port != server.plan.port


def test_a_failed_start_is_told_as_always(pool, plan):
    """With its exit status and its output."""
    planned = plan("--exit-at-start", "3")
    pool.prepare(planned)

    with pytest.raises(ServerExited, match="exited with status 3"):
        pool.get(planned)


def test_it_ends_with_a_session_that_is_killed(plan, tmp_path):
    """As a server that serves."""
    planned = plan()
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from perfgate.servers.server import launch\n"
        "from tests.unit.servers.test_prepared import revived\n"
        f"plan = revived({planned.argv!r}, {planned.env!r})\n"
        f"made = launch(plan, log_dir=Path({str(tmp_path)!r}), index=0)\n"
        "print(made.record.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    session = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        cwd=SUPPORT.parents[1],
    )
    with session:
        pid = int(session.stdout.readline())
        assert look_up(pid) is not None
        session.kill()

    until(lambda: look_up(pid) is None)


def revived(argv, env):
    """A plan of another process."""
    planned = fake_plan()
    return dataclasses.replace(
        planned, argv=argv, env=env, late_imports=("slow_engine",), waits=True
    )


def test_what_is_no_module_is_not_prepared(pool):
    """A plan of a script, and one whose engine names no imports."""
    pool.prepare(fake_plan())

    assert pool._prepared is None


@pytest.mark.parametrize(
    ("engine", "module"),
    [
        (vllm, "vllm.entrypoints.openai.api_server"),
        (sglang, "sglang.launch_server"),
    ],
    ids=["vllm", "sglang"],
)
def test_the_engines_servers_can_be_prepared(engine, module):
    """Their arguments stay, and what imports for them is on their path."""
    config = ServerConfig(engine=engine.ENGINE.name, model="m")
    planned = engine.plan(request_for(config))

    command = prepared.command(dataclasses.replace(planned, waits=True))

    assert prepared.can_wait(planned)
    assert planned.argv == prepared.command(planned)
    assert (module, *planned.argv[3:]) == command[4:]
    assert ("-m", "perfgate_prepared") == command[1:3]
    assert str(vllm.INSIDE) in dict(planned.env)["PYTHONPATH"]
