"""The launch planner: which Python, weights and port each launch of a server gets."""

import sys
from pathlib import Path

import msgspec
import pytest

from perfgate.config.config import Config
from perfgate.engines.environment import EngineMissing
from perfgate.engines.injection import Injection
from perfgate.engines.variables import STATED_ROUTING
from perfgate.judge.baseline_store import Store
from perfgate.models.catalogue import CATALOGUE
from perfgate.run import launch_planner
from perfgate.run.launch_planner import Planner
from tests.support.builders import MOE_CPU
from tests.support.checkpoints import hollow


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory):
    """The sparse model's folder, hollow: real weights would take 1.6 GB a test."""
    folder = tmp_path_factory.mktemp("models") / MOE_CPU.model
    hollow(CATALOGUE[MOE_CPU.model], folder)
    return {MOE_CPU.model: str(folder)}


@pytest.fixture
def planner(tmp_path, monkeypatch, model_dirs):
    """A planner whose engine is this Python."""
    monkeypatch.setattr(
        launch_planner.environment, "versions", lambda path: {"vllm": "0.26.0"}
    )

    def make(**fields):
        settings = {
            "engine_pythons": {"vllm": sys.executable},
            "model_dirs": model_dirs,
        }
        config = Config(
            run_dir=tmp_path / "r",
            store=Store(tmp_path / "b"),
            **settings | fields,
        )
        return Planner(config, lambda text: None)

    return make


def test_each_launch_has_a_port_of_its_own(planner, monkeypatch):
    """All else of a server stays from launch to launch."""
    ports = iter([8001, 8002])
    monkeypatch.setattr(launch_planner, "free_port", lambda: next(ports))
    plans = planner()

    first, second = plans.plan(MOE_CPU), plans.plan(MOE_CPU)

    assert (8001, 8002) == (first.port, second.port)
    assert [word.replace("8001", "8002") for word in first.argv] == list(
        second.argv
    )
    assert first.env == second.env


def test_the_engine_is_looked_for_once(planner, monkeypatch):
    """The weights of a server do not change in a session."""
    calls = []
    find = launch_planner.find_python

    def counted(*arguments):
        calls.append(arguments)
        return find(*arguments)

    monkeypatch.setattr(launch_planner, "find_python", counted)
    plans = planner()
    for _ in range(3):
        plans.plan(MOE_CPU)

    assert 1 == len(calls)


def test_software_has_the_python_and_what_named_it(planner):
    """And the versions in it; two fields, so that nobody takes a text apart."""
    server = planner().software(MOE_CPU)

    assert MOE_CPU == server.config
    assert Path(sys.executable) == server.python_path
    assert "--engine-python vllm=" == server.python_origin
    assert {"vllm": "0.26.0"} == server.versions
    assert f"{sys.executable} (--engine-python vllm=)" == server.python_label


def test_a_base_build_has_a_python_of_its_own(planner):
    """--against-engine names it."""
    plans = planner(base_builds={"vllm": "/no/such/python"})

    assert sys.executable == plans.plan(MOE_CPU).argv[0]
    with pytest.raises(EngineMissing, match="--against-engine vllm="):
        plans.plan(MOE_CPU.base)


def test_what_is_injected_is_on_the_command_line(planner):
    """In servers of that model alone."""
    change = Injection(arguments=("--enforce-eager",))
    plans = planner(injections={MOE_CPU.model: change})

    assert "--enforce-eager" in plans.plan(MOE_CPU).argv


def test_the_port_is_free():
    """Another socket can listen on it at once."""
    import socket

    with socket.socket() as server:
        server.bind((launch_planner.HOST, launch_planner.free_port()))


def test_a_stated_routing_reaches_the_engine(planner):
    """As the chances of the model's eight experts; other servers are told nothing."""
    stated = msgspec.structs.replace(MOE_CPU, stated_routing="few")
    told = dict(planner().plan(stated).env)

    assert "1,1,0,0,0,0,0,0" == told[STATED_ROUTING]
    assert STATED_ROUTING not in dict(planner().plan(MOE_CPU).env)
