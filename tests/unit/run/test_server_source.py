"""Server sources: a port for each launch, and what may be done to whose server."""

import contextlib
import dataclasses
import socket
import types

import pytest

from perfgate.config.config import Config
from perfgate.engines import registry
from perfgate.judge.baseline_store import Store
from perfgate.run import launch_planner
from perfgate.run.launch_planner import Planner
from perfgate.run.server_source import ExternalSource, PoolSource
from perfgate.servers.external import ExternalServer
from perfgate.servers.launch_record import PortInUse
from perfgate.servers.pool import ServerPool
from perfgate.web import Address, NoAnswer
from tests.support import builders as m
from tests.support.plans import fake_plan, free_port


class Lines:
    """What a person is told."""

    def __init__(self):
        self.texts = []

    def line(self, text):
        """Keep it."""
        self.texts.append(text)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A pool's source whose launches of the fake engine get these ports, one after the other."""
    pools = []

    def make(*ports):
        remaining = iter(ports)
        monkeypatch.setattr(
            Planner,
            "plan",
            lambda self, config: fake_plan(port=next(remaining)),
        )
        pool = ServerPool(log_dir=tmp_path / "logs", progress=lambda _: None)
        pools.append(pool)
        settings = Config(run_dir=tmp_path, store=Store(tmp_path))
        return PoolSource(settings, pool, m.hardware("cpu"), Lines())

    yield make
    for pool in pools:
        pool.close()


def test_each_launch_has_a_port_of_its_own(source):
    """A fresh launch does not wait for the port of the last one; a running server keeps its own."""
    first, second, third = free_port(), free_port(), free_port()
    here = source(first, second, third)

    assert (
        f"http://127.0.0.1:{first}" == here.start(m.MOE_CPU, is_fresh=False).url
    )
    assert (
        f"http://127.0.0.1:{first}" == here.start(m.MOE_CPU, is_fresh=False).url
    )
    assert (
        f"http://127.0.0.1:{third}" == here.start(m.MOE_CPU, is_fresh=True).url
    )


def test_taken_port_costs_one_more_try(source):
    """Another process took the chosen port: the launch succeeds on another, and says so."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        here = source(port, free_port())
        server = here.start(m.MOE_CPU, is_fresh=True)

    assert server.alive()
    (text,) = here._tell.texts
    assert f"port {port} " in text
    assert "trying another port" in text


def test_third_taken_port_is_the_failure(source):
    """What takes one port after the other is no accident."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(3):
            holder = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            ports.append(holder.getsockname()[1])
        here = source(*ports)
        with pytest.raises(PortInUse) as caught:
            here.start(m.MOE_CPU, is_fresh=True)

    assert 2 == len(here._tell.texts)
    assert "each launch chooses a free port" in caught.value.remedy


def test_planner_chooses_a_port_for_each_plan(tmp_path, monkeypatch):
    """Engine and weights are looked up once; the port is new each time."""
    lookups = []
    ports = iter([8101, 8102])

    def locate(*_args):
        lookups.append(1)
        return types.SimpleNamespace(path="/models/m", offline=True)

    monkeypatch.setattr(launch_planner.weights, "locate", locate)
    monkeypatch.setattr(launch_planner, "free_port", lambda: next(ports))
    python = types.SimpleNamespace(path="/env/bin/python", origin="named")
    monkeypatch.setattr(launch_planner, "find_python", lambda *_args: python)
    planner = Planner(
        Config(run_dir=tmp_path, store=Store(tmp_path)), lambda _: None
    )

    plans = [planner.plan(m.MOE_CPU) for _ in range(2)]

    assert [8101, 8102] == [plan.port for plan in plans]
    assert ["8101" in plans[0].argv, "8102" in plans[1].argv] == [True, True]
    assert [1] == lookups


def settling(monkeypatch, settle):
    """The engine does this once it is warm."""
    engine = dataclasses.replace(
        registry.lookup(m.MOE_CPU.engine), settle=settle
    )
    monkeypatch.setitem(registry.ENGINES, m.MOE_CPU.engine, engine)


def test_engine_that_does_not_settle_says_so(source, monkeypatch):
    """A release without that request is no reason to measure nothing."""

    def refuse(url):
        raise NoAnswer("POST", "HTTP 404: not here", "look")

    settling(monkeypatch, refuse)

    server = types.SimpleNamespace(url="http://x")
    expected = (
        "settling after the warm-up failed (HTTP 404: not here): garbage collection may "
        "stop all streams"
    )
    assert (expected,) == source().settle(m.MOE_CPU, server)


def test_external_server_is_left_as_it_is(monkeypatch):
    """Its operator decides what it collects; nothing is read of it, and nothing launched."""
    settled = []
    settling(monkeypatch, settled.append)
    server = ExternalServer(Address("http://127.0.0.1:1"), served_model="m")
    here = ExternalSource(server)

    assert () == here.settle(m.MOE_CPU, server)
    assert [] == settled
    assert () == here.probes(m.MOE_CPU, server, None)
    assert server is here.start(m.MOE_CPU, is_fresh=True)
    assert "http://127.0.0.1:1" == here.software(m.MOE_CPU).attached
