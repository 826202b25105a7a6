"""Server pool: the port is no part of what a server is."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from perfgate.servers.launch_record import PortInUse, ServerDied
from perfgate.servers.pool import ServerPool
from perfgate.servers.supervisor.processes import look_up
from tests.support.plans import fake_plan


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while look_up(pid) is not None and time.monotonic() < until:
        time.sleep(0.02)


def test_same_server_on_another_port_is_the_same(tmp_path: Path) -> None:
    """A plan with a new port finds the live server; only a fresh launch takes the new port."""
    plans = [fake_plan(), fake_plan()]
    with ServerPool(log_dir=tmp_path, progress=lambda _: None) as pool:
        first = pool.get(plans[0])

        assert first is pool.get(plans[1])
        assert plans[1].port == pool.get(plans[1], fresh=True).plan.port


def test_deaths_are_counted_across_ports(tmp_path: Path) -> None:
    """A server that dies twice is given up, whichever ports its launches had."""
    with ServerPool(log_dir=tmp_path, progress=lambda _: None) as pool:
        for _ in range(2):
            _kill(pool.get(fake_plan()).record.pid)

        with pytest.raises(ServerDied):
            pool.get(fake_plan())


def test_taken_port_is_no_failure_of_the_server(tmp_path: Path) -> None:
    """After PortInUse the same server starts on another port."""
    with (
        ServerPool(log_dir=tmp_path, progress=lambda _: None) as pool,
        socket.create_server(("127.0.0.1", 0)) as holder,
    ):
        with pytest.raises(PortInUse):
            pool.get(fake_plan(port=holder.getsockname()[1]))

        assert pool.get(fake_plan()).alive()
