"""Simulation of the gate: same decisions as the gate, and the rates that its tables state."""

import math

import numpy as np
import pytest

from benchmarks.gate_rules import (
    H200,
    NOISY,
    QUIET,
    TYPICAL,
    Setup,
    Stalls,
    baseline,
    gate_rate,
    gate_red,
    medians,
    run_rate,
    session,
    thresholds,
)
from benchmarks.gate_simulation import main
from benchmarks.pair_rules import (
    pairs_doubtful,
    pairs_rate,
    pairs_red,
    pairs_report_only,
    pairs_report_only_rate,
)
from perfgate.judge.gate import judge
from perfgate.judge.paired import judge_pairs
from perfgate.judge.verdict import Outcome, is_red
from tests.support import builders as m


def judged_red(recorded, now, target_effect):
    """What the plugin does with the gate: one launch, two more if it asks for them."""
    base = m.recorded(m.THROUGHPUT, recorded, delta=target_effect)
    first = judge(m.THROUGHPUT, m.seen(m.THROUGHPUT, now[0]), base)
    decided = (
        judge(m.THROUGHPUT, m.seen(m.THROUGHPUT, *now), base)
        if first.needs_launches
        else first
    )
    return is_red(decided.outcome, decided.gate, required=True)


@pytest.mark.parametrize(
    "machine", [QUIET, TYPICAL, NOISY], ids=lambda machine: machine.name
)
@pytest.mark.parametrize("loss", [0.0, 0.03, 0.08])
def test_vectorised_rule_is_the_judge(machine, loss):
    """On 100 random baselines and runs the simulation fails exactly where `judge` does."""
    rng = np.random.default_rng(5)
    setup = Setup(machine, (8, 1))
    recorded = baseline(rng, setup, 100)
    now = session(rng, machine, 100, 3) + math.log1p(-loss)
    limits = thresholds(recorded, setup)
    simulated = gate_red(now, limits).tolist()
    judged = [
        judged_red(
            [1000 * math.exp(v) for v in recorded[i]],
            [1000 * math.exp(v) for v in now[i]],
            float(limits.target_effect[i]),
        )
        for i in range(100)
    ]
    assert judged == simulated


def test_medians_of_what_counts():
    """With half of the repetitions stalled and nine tries, the median has no stall in it."""
    rng = np.random.default_rng(6)
    values = medians(
        rng, (4000,), H200[0], Stalls(share=0.5, cost=0.09, tries=9, named=True)
    )
    # The chance of no valid repetition in nine is 0.5^9 = 0.2 %.
    assert np.isnan(values).mean() < 0.01
    assert pytest.approx(0.0, abs=0.001) == np.nanmedian(values)
    assert np.nanmin(values) > -0.05


@pytest.mark.parametrize(
    "machine", [*H200, QUIET, TYPICAL, NOISY], ids=lambda machine: machine.name
)
@pytest.mark.parametrize("layout", [(3, 2), (6, 1), (20, 1)])
def test_false_alarms_stay_below_a_thousandth(machine, layout):
    """At most 0.1 % false alarms per gate on every machine.

    Of 40,000 draws at most 40, and three standard errors more.
    """
    rng = np.random.default_rng(7)
    assert (
        gate_rate(rng, Setup(machine, layout), 0.0, 40_000)
        <= (40 + 3 * math.sqrt(40)) / 40_000
    )


@pytest.mark.parametrize(
    ("machine", "launches", "loss", "at_least"),
    [
        (H200[1], 20, 0.02, 0.97),  # output throughput, five repetitions
        (H200[2], 6, 0.02, 0.95),  # ITL
        (H200[2], 10, 0.02, 0.99),
        (QUIET, 10, 0.05, 0.99),
        (TYPICAL, 30, 0.05, 0.92),
        (TYPICAL, 10, 0.10, 0.99),
        (NOISY, 20, 0.10, 0.95),
    ],
)
def test_power(machine, launches, loss, at_least):
    """The losses that docs/error-rates.md says are caught are caught."""
    rng = np.random.default_rng(8)
    assert gate_rate(rng, Setup(machine, (launches, 1)), loss, 4000) >= at_least


def test_pairs_see_more_than_any_baseline():
    """Three pairs catch 99 % of 5 % (typical noise) and 97 % of 2 % (H200), no false alarms."""
    rng = np.random.default_rng(9)
    assert pairs_rate(rng, TYPICAL, 0.05, 0.05, 10_000) >= 0.99
    assert pairs_rate(rng, H200[0], 0.02, 0.02, 10_000) >= 0.97
    assert pairs_rate(rng, TYPICAL, 0.0, 0.05, 20_000) <= 0.001


@pytest.mark.parametrize("variation", [0.002, 0.01, 0.03])
def test_simulated_pairs_are_judged_as_real_ones(variation):
    """Failed, report-only and launched again exactly where `judge_pairs` says so."""

    def judged(losses):
        return judge_pairs(
            m.THROUGHPUT, [(1.0, math.exp(-loss)) for loss in losses], "h200x2"
        )

    losses = np.random.default_rng(11).normal(0.04, variation, (300, 6))
    first = [judged(row[:3]) for row in losses]
    real = [
        judged(row) if verdict.needs_launches else verdict
        for verdict, row in zip(first, losses, strict=True)
    ]

    assert [bool(v.needs_launches) for v in first] == pairs_doubtful(
        losses, 0.05
    ).tolist()
    assert [v.outcome is Outcome.REGRESSED for v in real] == pairs_red(
        losses, 0.05
    ).tolist()
    assert [bool(v.report_only_reason) for v in real] == pairs_report_only(
        losses, 0.05
    ).tolist()
    assert any(v.outcome is Outcome.REGRESSED for v in real)
    assert not any(v.needs_launches for v in real)


def test_pairs_seldom_exclude_nothing():
    """With typical noise, unchanged code is report-only in less than 1 % of cases."""
    rng = np.random.default_rng(8)
    assert pairs_report_only_rate(rng, TYPICAL, 0.0, 0.05, 20_000) <= 0.01
    assert pairs_report_only_rate(rng, TYPICAL, 0.0, 0.02, 20_000) >= 0.3


def test_unchanged_runs_pass():
    """Of 1,000 unchanged runs of 72 gates on a quiet machine fewer than ten fail."""
    assert (
        run_rate(np.random.default_rng(10), Setup(QUIET, (10, 1)), 2000) < 0.01
    )


def test_tables_are_printed(capsys):
    """The command prints all four tables."""
    main(scale=0.0005)
    out = capsys.readouterr().out
    titles = (
        "False alarms and power",
        "The rules that others use",
        "failed runs of 1,000",
        "half the repetitions stall",
    )
    assert [True] * 4 == [title in out for title in titles]
