"""Bisection on the noise of recorded launches: the right build, with few pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import bisect_simulation
from benchmarks.bisect_simulation import LOADS, recorded, residuals, trial
from perfgate.judge.baseline_store import Store
from tests.support import builders as m
from tests.support.projects import ROOT


@pytest.fixture(scope="module")
def store():
    """The baselines of this repository."""
    return Store(ROOT / "baselines")


def ends(store, name, loss, **how):
    """How 20 bisections on the noise of a load ended."""
    load = recorded(store, *LOADS[name])
    rng = np.random.default_rng(7)
    return [trial(load, loss, rng, **how) for _ in range(20)]


def test_one_build_of_16_is_found_in_five_pairs(store):
    """A loss of 3 % of the ITL on one H200: 20 of 20 times."""
    found = ends(store, "one H200, ITL", 0.03)

    assert ["right"] * 20 == [row.end for row in found]
    assert max(row.pairs for row in found) <= 5


def test_builds_that_do_not_start_cost_no_answer(store):
    """Three of 16: their neighbours are compared."""
    found = ends(store, "one H200, ITL", 0.05, broken=(4, 8, 9))

    assert ["right"] * 20 == [row.end for row in found]


def test_noise_costs_pairs(store):
    """On shared cores, where launches differ by 7 %, twice the time a token is found too."""
    found = ends(store, "shared CPU cores, throughput", 1.0)

    assert ["right"] * 20 == [row.end for row in found]


def test_without_a_loss_nothing_is_found(store):
    """The ends do not differ, and it ends there."""
    found = ends(store, "one H200, ITL", 0.0)

    assert 18 <= sum(row.end == "no loss" for row in found)


def test_noise_is_that_of_each_machine():
    """Around its own mean, and as large as that of one launch."""
    values = [10.0, 11.0, 12.1, 20.0]
    metric = m.recorded(m.ITL, values).metric
    runs = [point.run for point in metric.launches]
    machines = dict(zip(runs, ["a", "a", "a", "b"], strict=True))

    found = list(residuals(metric, machines).values())

    scale = math.sqrt(3 / 2)
    step = scale * math.log(1.1)
    assert [-step, 0.0, step] == pytest.approx(found)


def test_table_has_a_row_for_each_load_and_loss():
    """With the share that ended rightly."""
    done = CliRunner().invoke(
        bisect_simulation.main,
        ["--trials", "1", "--baselines", str(ROOT / "baselines")],
    )

    assert 0 == done.exit_code, done.output
    rows = done.output.splitlines()[2:]
    assert sum(map(len, bisect_simulation.LOSSES.values())) == len(rows)
