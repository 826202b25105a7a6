"""The tables of duels: rates by the gate's own code, and what recorded launches vary by."""

import math

import msgspec
import numpy as np
import pytest

from benchmarks import duel_simulation, duel_trials
from perfgate.cases import Case, Load
from perfgate.judge.verdict import Outcome
from perfgate.load.turns import Turn
from perfgate.results.schema import save
from tests.support import builders as m


def test_rates():
    """Hardly any unchanged duel is red, and a loss of 10 % always is."""
    rng = np.random.default_rng(1)

    unchanged = duel_simulation.rates(rng, (2,), 0.007, 0.0, trials=500)
    lost = duel_simulation.rates(rng, (2,), 0.007, 0.10, trials=500)

    assert unchanged.red < 0.01
    assert 1.0 == lost.red


def test_the_table_has_a_row_for_each_setting():
    """Number of launches and scatter."""
    lines = list(duel_simulation.table(trials=10))

    settings = len(duel_simulation.LAUNCHES) * len(duel_simulation.SCATTERS)
    assert 2 + settings == len(lines)
    assert 1 == len({line.count("|") for line in lines})


def test_recorded_launches(tmp_path):
    """Launches of one build are compared with each other alone."""
    held = msgspec.structs.replace(m.MOE_CPU, held=True)
    load = Load(server=held, workload=m.CLOSED)
    case = Case(experiment="E20", metric="batch_cpu_ms", numerator=load)
    values = {
        load.candidate: {"batch_cpu_ms": [10.0, 10.0 * math.exp(0.02)]},
        load.base: {"batch_cpu_ms": [20.0, 20.0]},
    }
    save(m.run(values, [case]), tmp_path)

    ((cv, freedom),) = duel_simulation.recorded_scatter([tmp_path]).values()

    assert 2 == freedom
    assert 0.01 == pytest.approx(cv)
    assert "| all | 1.00 | 2 |" in list(
        duel_simulation.scatter_table([tmp_path])
    )


def test_trials_judge_every_choice_of_launches():
    """Six bases of four unchanged launches; what is altered is red against each."""
    names = [*["unchanged"] * 4, "slow", "slow"]
    turns = []
    for cycle in range(10):
        for launch, name in enumerate(names):
            time_ms = 33.0 if name == "slow" else 30.0
            turns.append(Turn(cycle, launch, time_ms, time_ms, 0.0))

    found = list(duel_trials.rows(names, {"decode": turns}))

    assert 4 == len(found)
    for row in found:
        expected = Outcome.REGRESSED if row.name == "slow" else Outcome.PASSED
        assert {expected: 6} == dict(row.outcomes)
        assert 6 == len(row.losses)
        assert row.name == row.cells[0]
