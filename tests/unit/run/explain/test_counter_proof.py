"""Counter-proof: base and candidate with the argument, measured once; problems are told."""

import dataclasses
import types

import msgspec
import pytest

from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure
from perfgate.judge.causes.next_step import PutBack
from perfgate.load.workload import Workload
from perfgate.results.recorder import LaunchEnd, Measured
from perfgate.results.verdict import Outcome, Verdict
from perfgate.run.explain import counter_proof
from perfgate.run.explain.builds import Build
from perfgate.run.explain.subject import Subject
from tests.support import builders as m
from tests.support.plans import fake_plan

CONFIG = ServerConfig(engine="vllm", model="mixtral-small")
BACK = PutBack(CONFIG.key, "max_num_seqs 256 -> 4", "--max-num-seqs 256")
LOAD = Workload(name="closed-c16", num_prompts=32, max_concurrency=16)
SUBJECT = Subject(
    config=CONFIG,
    workload=LOAD,
    worst=Verdict(
        case="a/closed-c16/output_throughput",
        metric="output_throughput",
        outcome=Outcome.REGRESSED,
        gate="hard",
        baseline=100.0,
        value=40.0,
        change=-0.6,
        worse_by=0.6,
        summary="",
    ),
    output_tokens=32,
    losses={},
)
SETTINGS = types.SimpleNamespace(
    injection=lambda config: None, silence_timeout_s=1.0
)
BASE, CANDIDATE = (
    Build(side, name, CONFIG, SETTINGS)
    for side, name in (
        ("base", "the base build"),
        ("candidate", "the candidate"),
    )
)


class FakeLauncher:
    """Launches nothing, and keeps the plans that it would launch."""

    hardware = tell = None

    def __init__(self):
        self.plans = []

    def plan(self, build):
        """A plan of the fake engine."""
        return fake_plan(port=1)

    def source(self, build, altered):
        """A source whose start keeps the plan."""

        def start(config, is_fresh):
            self.plans.append(altered(self.plan(build)))

        return types.SimpleNamespace(start=start)

    def say(self, build, text):
        """Nothing."""


@pytest.fixture
def measuring(monkeypatch):
    """Launches measure these throughputs in turn, and the engine lists that argument."""

    def given(*values, listed=True):
        left = list(values)

        class FakeRunner:
            def __init__(self, started, *_):
                pass

            def run(self, workloads, is_part):
                value = left.pop(0)
                repetitions = []
                if value is not None:
                    repetitions = [m.repetition(0, value)]
                yield Measured(m.measurement(0, *repetitions))
                yield LaunchEnd(CONFIG.key, 0)

        monkeypatch.setattr(counter_proof, "LaunchRunner", FakeRunner)
        monkeypatch.setattr(counter_proof, "start_launch", lambda *_: None)
        monkeypatch.setattr(
            counter_proof.put_back, "is_accepted", lambda *_: listed
        )

    return given


def test_the_argument_stands_behind_all_others(measuring):
    """In the candidate alone; the pair is compared as it was measured."""
    measuring(100.0, 99.0)
    launcher = FakeLauncher()

    proof = counter_proof.proof(launcher, (BASE, CANDIDATE), SUBJECT, BACK)

    before, now = launcher.plans
    assert ("--max-num-seqs", "256") == now.argv[-2:]
    assert before.argv == fake_plan(port=1).argv
    assert ("", "the base build", 100.0, 99.0, -0.6) == (
        proof.problem,
        proof.base,
        proof.before,
        proof.now,
        proof.without,
    )


def test_without_a_base_the_baseline_counts(measuring):
    """That of the verdict."""
    measuring(99.0)

    proof = counter_proof.proof(
        FakeLauncher(), (None, CANDIDATE), SUBJECT, BACK
    )

    assert ("the baseline", 100.0, 99.0) == (
        proof.base,
        proof.before,
        proof.now,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"value": 100.0, "change": 0.0, "worse_by": 0.0},
        {"value": 110.0, "change": 0.1, "worse_by": -0.1},
        {"worse_by": None},
    ],
)
def test_what_lost_nothing_is_not_put_back(measuring, changes):
    """Of a red ratio the other server may have: there is no loss of which to have a share."""
    measuring()
    launcher = FakeLauncher()
    worst = msgspec.structs.replace(SUBJECT.worst, **changes)
    subject = dataclasses.replace(SUBJECT, worst=worst)

    proof = counter_proof.proof(launcher, (BASE, CANDIDATE), subject, BACK)

    assert "closed-c16 has lost nothing" in proof.problem
    assert [] == launcher.plans


def test_an_argument_that_is_not_listed_is_a_problem(measuring):
    """Nothing is launched."""
    measuring(listed=False)
    launcher = FakeLauncher()

    proof = counter_proof.proof(launcher, (BASE, CANDIDATE), SUBJECT, BACK)

    assert "this vllm has no such argument" == proof.problem
    assert [] == launcher.plans


def test_a_load_without_a_value_is_a_problem(measuring):
    """As is a server that dies of it."""
    measuring(100.0, None)

    proof = counter_proof.proof(
        FakeLauncher(), (BASE, CANDIDATE), SUBJECT, BACK
    )

    assert "output_throughput" in proof.problem


def test_a_launch_that_fails_is_a_problem(measuring, monkeypatch):
    """The verdicts stand."""
    measuring()

    def failing(*_):
        raise Failure(tried="starting", seen="no memory", remedy="add some")

    monkeypatch.setattr(counter_proof, "start_launch", failing)

    proof = counter_proof.proof(
        FakeLauncher(), (None, CANDIDATE), SUBJECT, BACK
    )

    assert "no memory" == proof.problem
