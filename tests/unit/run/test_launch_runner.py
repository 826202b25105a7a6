"""Is everything warmed up that must be, nothing twice, and where the tokens go asked when nothing is timed any more?"""

import dataclasses
import types

import msgspec
import pytest
import requests

from perfgate.engines.injection import NOTHING
from perfgate.load import measurement
from perfgate.load import warmup as warming
from perfgate.load.workload import Synthetic, Workload
from perfgate.results.recorder import Ledger
from perfgate.results.schema import Measurement
from perfgate.run import launch_runner as rounds
from perfgate.run.launch_runner import LaunchMeasurement
from perfgate.run.probes import routing as probe
from perfgate.servers.launch_record import ServerDied
from tests.support import builders as m

ONE, MANY = (Workload(name=f"at-{n}", num_prompts=64, max_concurrency=n) for n in (1, 32))
RATE = Workload(name="rate-2", num_prompts=8, request_rate=2.0)
TIMED = Workload(name="timed", num_prompts=2, max_concurrency=1, repetitions=2)
ASKED = Workload(name="routing", num_prompts=2, max_concurrency=1, repetitions=1, asks_routing=True)


def test_every_workload_is_warmed_up_on_gpus():
    """Graphs and kernels are made for one size, so each workload's own sizes are sent."""
    assert [ONE, MANY, RATE] == warming.needing([ONE, MANY, RATE], "cuda")


def test_the_fastest_open_loop_warms_a_gpu_up_for_the_slower_ones():
    """Its batch passes through theirs; one with other prompts makes steps of its own."""
    slow = msgspec.structs.replace(RATE, name="rate-1", request_rate=1.0)
    other = msgspec.structs.replace(slow, name="long", prompts=Synthetic(input_len_tokens=512, output_len_tokens=8))
    assert [RATE, ONE, other] == warming.needing([slow, RATE, ONE, other], "cuda")


def test_the_largest_batch_warms_a_cpu_up():
    """Steps of every size run the same code there; a server that is sent nothing is not warmed up."""
    assert [MANY] == warming.needing([ONE, MANY, RATE], "cpu")
    assert [RATE] == warming.needing([RATE], "cpu")
    assert [] == warming.needing([], "cpu")


class Asked:
    """A launch in which everything that is asked of the server is noted, and it dies at what `dies_at` names."""

    def __init__(self, tmp_path, monkeypatch, dies_at=""):
        self.order, self.dead = [], False
        config = m.MOE_CPU
        log = tmp_path / "log"
        log.touch()
        record = msgspec.structs.replace(
            m.run({m.MOE_LOAD: {"output_throughput": [1.0]}}, ()).launches[0].start, log=str(log)
        )
        server = types.SimpleNamespace(
            url="http://x", record=record, alive=lambda: not self.dead, plan=types.SimpleNamespace(gpu_indices=())
        )
        self.ledger = Ledger(m.run({}, (), machine=m.hardware("cpu")), tmp_path)

        def at(what, answer=None):
            def noted(*args, **more):
                self.order.append(what)
                self.dead = self.dead or what == dies_at
                return answer

            return noted

        holding = types.SimpleNamespace(watch=lambda: None, note=at("memory"), stop=at("memory no more"))
        monkeypatch.setattr(rounds, "Holding", lambda *args: holding)
        monkeypatch.setattr(warming, "warm_up", at("warm-up"))
        monkeypatch.setattr(measurement, "measure", at("timed", m.repetition(0, {"output_throughput": 1.0})))
        row = Measurement(
            server=config.key, launch=0, workload="routing", repetitions=(m.repetition(0, {"routing_shares": 0.5}),)
        )
        monkeypatch.setattr(probe, "measure", at("routing", row))
        tell = types.SimpleNamespace(line=lambda text: None, step=lambda *args: None)
        death = ServerDied("measuring", "died", "look at the log")
        self.launch = LaunchMeasurement(config, server, 0, self.ledger, tell, lambda during: death)

    def run(self, *workloads):
        """Measure these; returns the death, and the errors by workload."""
        death = self.launch.run(workloads, NOTHING, 1.0)
        return death, {row.workload: row.error is None for row in self.ledger.results.measurements}


def test_routing_is_asked_when_nothing_is_timed_any_more(tmp_path, monkeypatch):
    """After all repetitions, and after the server's memory was read and is no longer watched."""
    asked = Asked(tmp_path, monkeypatch)

    assert (None, {"timed": True, "routing": True}) == asked.run(ASKED, TIMED)
    assert ["warm-up", "timed", "timed", "memory", "memory no more", "routing"] == asked.order
    assert asked.ledger.results.launches[-1].measured


def test_server_that_is_only_asked_for_routing_is_not_timed(tmp_path, monkeypatch):
    """No warm-up either, and no memory: it has seen no load."""
    asked = Asked(tmp_path, monkeypatch)

    assert (None, {"routing": True}) == asked.run(ASKED)
    assert ["routing"] == asked.order


def unsettled(asked):
    """Notes of a launch that was not settled."""
    return [note for note in asked.ledger.results.launches[-1].notes if note.startswith("not settled")]


def settling(asked, monkeypatch, settle):
    """The launch's engine does this once it is warm."""
    engine = dataclasses.replace(asked.launch._engine, settle=settle)
    monkeypatch.setattr(asked.launch, "_engine", engine)


def test_engine_settles_between_warm_up_and_measurement(tmp_path, monkeypatch):
    """Once, when it is warm; nothing is to be noted."""
    asked = Asked(tmp_path, monkeypatch)
    settling(asked, monkeypatch, lambda url: asked.order.append(f"settle {url}"))
    asked.run(TIMED)

    assert ["warm-up", "settle http://x", "timed", "timed"] == asked.order[:4]
    assert [] == unsettled(asked)


def test_engine_that_does_not_settle_is_measured_and_says_so(tmp_path, monkeypatch):
    """A release without that request is no reason to measure nothing."""
    asked = Asked(tmp_path, monkeypatch)

    def refuse(url):
        raise requests.HTTPError("404 Not Found")

    settling(asked, monkeypatch, refuse)

    assert (None, {"timed": True}) == asked.run(TIMED)
    assert ["not settled after its warm-up, so that its garbage collection may stop all streams: 404 Not Found"] == (
        unsettled(asked)
    )


def test_server_of_somebody_else_is_left_as_it_is(tmp_path, monkeypatch):
    """Its owner decides what it collects."""
    asked = Asked(tmp_path, monkeypatch)
    monkeypatch.setattr(rounds, "AttachedServer", types.SimpleNamespace)
    settling(asked, monkeypatch, lambda url: asked.order.append("settle"))

    assert () == asked.launch._settle()
    assert [] == asked.order


@pytest.mark.parametrize(
    ("dies_at", "kept"),
    [("routing", {"timed": True, "routing": False}), ("timed", {"timed": False, "routing": False})],
)
def test_death_costs_what_it_met(tmp_path, monkeypatch, dies_at, kept):
    """What was timed before the server died of the routing counts; what was not asked any more is in error."""
    death, whole = Asked(tmp_path, monkeypatch, dies_at).run(TIMED, ASKED)

    assert death is not None
    assert kept == whole


def test_failed_requests_are_not_measured_away():
    """A repetition that stalled is replaced; one in which requests failed is the server's own, and ends its load."""
    workload = Workload(name="closed", num_prompts=8, max_concurrency=4, repetitions=3)
    stalled = m.repetition(0, 1.0, ("all streams fell silent",))
    failed = msgspec.structs.replace(m.repetition(1, 1.0, ("3 of 8 requests failed: HTTP 503",)), failed=3)

    assert [True, False] == [rounds.wants_more(workload, taken) for taken in ([stalled], [stalled, failed])]
