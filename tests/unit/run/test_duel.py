"""Duel runner: which launches are asked, on which cores, and for how long."""

import random

import msgspec
import pytest

from perfgate.engines.held import BatchTimes
from perfgate.load.prompts import Synthetic
from perfgate.load.turns import FEWEST_CYCLES
from perfgate.load.workload import Workload
from perfgate.run.duel import USUAL_S, WARM_UP, Contestant, DuelRunner
from perfgate.web import NoAnswer

MS = 1_000_000
DECODE = Workload(
    name="decode",
    prompts=Synthetic(input_len_tokens=8, output_len_tokens=4),
    num_prompts=4,
    max_concurrency=2,
)
URLS = ("http://a", "http://b", "http://c", "http://d")
SIDES = ("base", "candidate", "base", "candidate")


class Engines:
    """Held engines that all share a clock: a batch takes its time and some noise."""

    def __init__(self, batch_ms=20.0, noise=0.0, busy_cores=()):
        self.batch_ms = batch_ms
        self.noise = noise
        self.busy_cores = busy_cores
        self.now_s = 0.0
        self.asked = []
        self._rng = random.Random(1)

    def answer(self, url, batch):
        """A batch; on a busy core it waits as long as it runs."""
        self.asked.append((url, batch))
        cpu_ms = self.batch_ms * (1 + self._rng.uniform(-1, 1) * self.noise)
        waited_ms = cpu_ms if batch.core in self.busy_cores else 0.0
        self.now_s += (cpu_ms + waited_ms) / 1000
        return BatchTimes(
            wall_ns=int((cpu_ms + waited_ms) * MS),
            cpu_ns=int(cpu_ms * MS),
            waited_ns=int(waited_ms * MS),
        )

    def runner(self, cores=(0,), longest_s=5.0):
        """A runner that asks these engines."""
        launches = [
            Contestant(url, side) for url, side in zip(URLS, SIDES, strict=True)
        ]
        return DuelRunner(
            launches,
            [DECODE],
            vocab_size=512,
            cores=cores,
            rng=random.Random(2),
            ask=self.answer,
            clock=lambda: self.now_s,
            longest_s=longest_s,
        )


def nothing(_):
    """Shows no progress."""


def test_steady_launches_are_soon_known():
    """Where all turns take the same, the fewest cycles are enough."""
    engines = Engines()

    turns = engines.runner().run(nothing)["decode"]

    cycles = {turn.cycle for turn in turns}
    assert FEWEST_CYCLES <= len(cycles) < FEWEST_CYCLES + 4
    assert len(turns) == len(cycles) * len(URLS) * 2


def test_unsteady_launches_are_asked_until_the_limit():
    """More turns say more; but the session must end."""
    engines = Engines(noise=0.5)

    engines.runner(longest_s=5.0).run(nothing)

    assert 5.0 < engines.now_s < 8.0


def test_after_some_seconds_less_is_enough():
    """A busy machine is not asked for the last tenth of a percent."""
    engines = Engines(noise=0.10)

    engines.runner(longest_s=1000.0).run(nothing)

    assert USUAL_S < engines.now_s < 2 * USUAL_S


def test_only_the_judged_times_must_be_known():
    """A thread that waits for the GPU has a CPU time that scatters, and is not judged."""
    engines = Engines()
    runner = engines.runner(longest_s=60.0)
    runner.judged = ("batch_active_ms",)
    scatter = random.Random(3)

    def answer(url, batch):
        times = engines.answer(url, batch)
        cpu_ns = int(scatter.uniform(5, 15) * MS)
        return msgspec.structs.replace(times, cpu_ns=cpu_ns)

    runner.ask = answer
    turns = runner.run(nothing)["decode"]

    assert len({turn.cycle for turn in turns}) < FEWEST_CYCLES + 4


def test_all_launches_get_the_same_prompts():
    """What differs within a cycle is the launch alone; the next cycle has other prompts."""
    engines = Engines()
    engines.runner().run(nothing)
    warm_up = WARM_UP * len(URLS)
    first = engines.asked[warm_up : warm_up + 8]
    second = engines.asked[warm_up + 8 : warm_up + 16]

    assert 1 == len({str(batch.prompts) for _, batch in first})
    assert first[0][1].prompts != second[0][1].prompts
    assert (4, 2) == (len(first[0][1].prompts), first[0][1].max_concurrency)


def test_two_free_cores_are_used_at_once():
    """Turns are taken on both cores, by every launch."""
    engines = Engines()
    engines.runner(cores=(3, 5)).run(nothing)
    measured = engines.asked[2 * WARM_UP * len(URLS) :]

    assert {(url, core) for url in URLS for core in (3, 5)} == {
        (url, batch.core) for url, batch in measured
    }


@pytest.mark.parametrize("busy", [3, 5])
def test_a_busy_core_is_left_alone(busy):
    """All turns are taken on the core for which nobody waits."""
    engines = Engines(busy_cores=(busy,))
    engines.runner(cores=(3, 5)).run(nothing)
    measured = engines.asked[2 * WARM_UP * len(URLS) :]

    assert {8 - busy} == {batch.core for _, batch in measured}


def test_an_engine_that_does_not_answer_ends_it():
    """The failure of a turn is that of the duel, also where two are asked at once."""
    engines = Engines()
    runner = engines.runner(cores=(3, 5))

    def refuse(url, batch):
        if len(engines.asked) > 40:
            raise NoAnswer("asking", "it is gone", "read its log")
        return engines.answer(url, batch)

    runner.ask = refuse
    with pytest.raises(NoAnswer, match="it is gone"):
        runner.run(nothing)


def test_a_gpu_is_asked_for_one_batch_at_a_time():
    """No core is named: the threads stay where they are."""
    engines = Engines()
    turns = engines.runner(cores=(None,)).run(nothing)["decode"]

    assert {None} == {batch.core for _, batch in engines.asked}
    assert {0, 1, 2, 3} == {turn.launch for turn in turns}
