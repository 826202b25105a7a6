"""Why a case cannot run here: what is required and what this machine has."""

import os
import sys
import types
from pathlib import Path

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.config.config import Config
from perfgate.judge.baseline_store import Store
from perfgate.run.requirements import Requirements
from tests.support.builders import hardware
from tests.support.studies import SHIPPED, study_of


@pytest.fixture
def requirements():
    """Those of a session on a machine of H200s, with a Python for both engines."""

    def make(machine=None, **fields):
        pythons = dict.fromkeys(SHIPPED.engines, sys.executable)
        config = Config(
            run_dir=Path("r"),
            store=Store(Path("b")),
            engine_pythons=pythons,
            **fields,
        )
        return Requirements(config, SHIPPED, lambda: machine or hardware())

    return make


def case(platform="h200", ranks=2, **changes):
    """A question to the sparse server of a platform."""
    server = study_of(platform, "vllm", ranks).moe
    server = msgspec.structs.replace(server, **changes)
    return Case(
        experiment="E1", metric="memory_bytes", numerator=Load(server=server)
    )


def test_a_machine_with_all_of_it_runs_the_case(requirements):
    """Two H200s, which hold the model on two ranks."""
    assert requirements().skip_reason("h200", case()) is None


def test_too_few_gpus_are_said_with_what_fits(requirements):
    """Three of four: two is the largest power of 2."""
    here = requirements(hardware(count=3))

    reason = here.skip_reason("h200", case(ranks=4))

    assert reason.startswith("needs 4x H200, found ")
    assert "--tp 2" in reason


@pytest.mark.parametrize("kind", ["h100", "cpu"])
def test_another_product_is_no_substitute(requirements, kind):
    """No --tp helps there."""
    reason = requirements(hardware(kind)).skip_reason("h200", case())

    assert reason.startswith("needs 2x H200, found ")
    assert "--tp" not in reason


def test_a_gpu_that_is_too_small_is_said(requirements):
    """Weights of 93 GB do not fit one of 80 GB."""
    small = msgspec.structs.replace(hardware(), memory_bytes=80 * 10**9)

    reason = requirements(small).skip_reason("h200", case(ranks=1))

    assert reason.startswith("mixtral-8x7b ")
    assert reason.endswith("which has 80.0 GB")


def test_a_gpu_that_holds_weights_alone_is_too_small(requirements):
    """Two L40S of 48.3 GB: 46.7 GB are less, and leave no room for a KV cache."""
    small = msgspec.structs.replace(hardware(), memory_bytes=48_305_799_168)

    reason = requirements(small).skip_reason("h200", case())

    assert "needs 46.7 GB of weights" in reason
    assert reason.endswith("which has 48.3 GB, 43.5 GB of them for weights")


def test_each_rank_of_the_cpu_needs_a_core(requirements, monkeypatch):
    """The machine is not looked at for it: only its cores are."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    here = requirements()

    assert here.skip_reason("cpu", case("cpu", 1)) is None
    assert "needs 2 CPU cores, one for each rank, found 1" == (
        here.skip_reason("cpu", case("cpu", 2))
    )


def test_an_external_server_must_be_named(requirements):
    """By engine and model; one that is launched for it cannot be external."""
    attached = {("vllm", "mixtral-8x7b"): types.SimpleNamespace()}
    urls = ("vllm=http://x:1",)

    with_it = requirements(external_urls=urls, attached=attached)
    without = requirements(external_urls=urls)

    assert with_it.skip_reason("h200", case()) is None
    reason = without.skip_reason("h200", case())
    assert reason.startswith("needs vllm:mixtral-8x7b")
    assert "--attach" in reason
    special = case(expert_parallel=True)
    assert "--attach" in with_it.skip_reason("h200", special)
    start = msgspec.structs.replace(case(), metric="ready_s")
    assert "--attach" in with_it.skip_reason("h200", start)


def test_a_duel_needs_a_base_build(requirements, monkeypatch, tmp_path):
    """That of the lock file, which may not be installed, or one that is named."""
    monkeypatch.setenv("PERFGATE_ENGINES_DIR", str(tmp_path))
    server = study_of("cpu", "vllm").held[0]
    duel = Case(
        experiment="E20", metric="batch_cpu_ms", numerator=Load(server=server)
    )
    named = requirements(base_builds={"vllm": sys.executable})

    reason = requirements().skip_reason("cpu", duel)

    assert "needs a base build of vllm" in reason
    assert "--against-engine vllm=PYTHON" in reason
    assert named.skip_reason("cpu", duel) is None


def test_instructions_need_valgrind(requirements, monkeypatch):
    """A machine without it says how to install it; no other case asks."""
    server = study_of("cpu", "vllm").held[0]
    counted = msgspec.structs.replace(server, instructions=True)
    plain = Case(
        experiment="E21", metric="work_steps", numerator=Load(server=server)
    )
    asked = Case(
        experiment="E21",
        metric="work_instructions",
        numerator=Load(server=counted),
    )
    here = requirements()
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("shutil.which", lambda name: None)

    assert "apt-get install valgrind" in here.skip_reason("cpu", asked)
    assert here.skip_reason("cpu", plain) is None
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert here.skip_reason("cpu", asked) is None
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "x86-64" in here.skip_reason("cpu", asked)


def test_a_duel_on_a_gpu_needs_room_for_all_of_its_launches(requirements):
    """Four of Llama-3.1-8B fit into an H200; four of Mixtral-8x7B do not, nor twenty."""
    study = study_of("h200", "vllm", 1)
    reasons = []
    for server in study.models:
        held = msgspec.structs.replace(server, held=True)
        duel = Case(
            experiment="E20",
            metric="batch_active_ms",
            numerator=Load(server=held),
        )
        for launches in (2, 10):
            named = requirements(
                base_builds={"vllm": sys.executable}, launches=launches
            )
            reasons.append(named.skip_reason("h200", duel))
    mixtral, _, llama, llamas = reasons

    assert llama is None
    assert mixtral.startswith("mixtral-8x7b needs 93.4 GB of weights")
    assert mixtral.endswith("for each of 4 launches that are alive at once")
    assert llamas.endswith("for each of 20 launches that are alive at once")
