"""Simulation of the gate: launches are drawn as stated, and the gate itself decides."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import gate_simulation, gate_trials, whole_runs
from benchmarks.gate_simulation import LEARNED, learned_settings, subject_of
from benchmarks.gate_trials import decide, decide_by_gate, gate_rates, samples
from benchmarks.pair_rules import judged, pair_rates
from benchmarks.simulated_launches import (
    NOISY,
    QUIET,
    TYPICAL,
    Draws,
    LearnedNoise,
    Machine,
    Stalls,
    sigmas,
)
from benchmarks.whole_runs import Correlation, StudyRun, is_in_doubt, shares
from perfgate.judge import noise_table
from perfgate.judge.baseline_store import Store
from perfgate.judge.noise import log_loss
from perfgate.judge.noise_table import GroupNoise, Spread
from perfgate.judge.paired import judge_pairs
from perfgate.judge.verdict import Outcome
from tests.support import builders as m

BASELINES = Path(__file__).resolve().parents[3] / "baselines"
THROUGHPUT = subject_of("output_throughput")
STEADY = Spread(cv=0.003, degrees_of_freedom=12.0)
SHAKY = Spread(cv=0.012, degrees_of_freedom=2.0)


def learned(spread, rows=1):
    """A throughput whose noise the store knows."""
    group = GroupNoise(launches=spread, series=5)
    return dataclasses.replace(THROUGHPUT, group=group, judged_rows=rows)


@pytest.fixture(scope="module")
def study():
    """A run of vLLM's study on one H200, with the noise of this repository's store."""
    return StudyRun(Store(BASELINES), "h200x1", ("vllm",))


@pytest.mark.parametrize("spread", [STEADY, SHAKY])
@pytest.mark.parametrize("recorded", [1, 3, 8])
@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_trials_are_decided_as_by_the_gate(spread, recorded, loss):
    """The product's comparison alone has the outcome and the launches of the whole gate."""
    subject = learned(spread)
    source = LearnedNoise("-", spread)
    draws = source.draw(np.random.default_rng(5), 25, recorded)

    for past, now in zip(draws.recorded, draws.current + loss, strict=True):
        baseline = subject.baseline(samples(subject, past))
        current = samples(subject, now, "now")
        expected = decide_by_gate(subject, baseline, current)
        assert expected == decide(subject, baseline, current)


def test_series_vary_as_the_prior_says():
    """Mean of 1 / sigma^2 is 1 / cv^2: of a chi-square with d degrees of freedom it is d."""
    drawn = sigmas(np.random.default_rng(6), STEADY, (20_000,))

    inverse = float(np.mean(drawn**-2.0))
    assert pytest.approx(STEADY.cv**-2, rel=0.02) == inverse


def test_no_series_varies_without_end():
    """Of a prior with a weight of 1 some variances are absurd: they are cut."""
    spread = Spread(cv=0.01, degrees_of_freedom=1.0)
    drawn = sigmas(np.random.default_rng(6), spread, (20_000,))

    assert 1.0 == drawn.max()


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_launches_of_a_session_share_their_part(shared):
    """Their correlation is that part of the variance."""
    spread = Spread(cv=0.01, degrees_of_freedom=1000.0)
    source = LearnedNoise("-", spread, shared)
    draws = source.draw(np.random.default_rng(7), 20_000, 1)

    first, second = draws.current[:, 0], draws.current[:, 1]
    correlation = float(np.corrcoef(first, second)[0, 1])
    assert pytest.approx(shared, abs=0.02) == correlation


def test_medians_of_what_counts():
    """With half of the repetitions stalled and nine tries, the median has no stall in it."""
    stalls = Stalls(share=0.5, cost=0.09, tries=9, named=True)
    machine = Machine("-", 0.0, 0.0, 0.005, stalls=stalls)
    losses = machine.medians(np.random.default_rng(6), (4000,))

    # The chance of no valid repetition in nine is 0.5^9 = 0.2 %.
    assert np.isnan(losses).mean() < 0.01
    assert pytest.approx(0.0, abs=0.001) == np.nanmedian(losses)
    assert np.nanmax(losses) < 0.05


def test_stalls_that_nobody_names_are_losses():
    """Where all repetitions stall, each launch has lost what a stall costs."""
    stalls = Stalls(share=1.0, cost=0.09, tries=3, named=False)
    machine = Machine("-", 0.0, 0.0, 0.0, stalls=stalls)
    losses = machine.medians(np.random.default_rng(6), (10,))

    assert pytest.approx([-math.log1p(-0.09)] * 10) == losses.tolist()


def test_launches_that_do_not_count_are_judged_by_the_whole_gate():
    """A trial whose launches all stalled is INVALID."""
    stalls = Stalls(share=1.0, cost=0.09, tries=3, named=True)
    machine = Machine("-", 0.0, 0.0, 0.005, stalls=stalls)
    baseline = THROUGHPUT.baseline(samples(THROUGHPUT, [0.0, 0.001]))
    losses = machine.session(np.random.default_rng(6), 1, 3)[0]
    current = samples(THROUGHPUT, losses, "now")

    result = decide_by_gate(THROUGHPUT, baseline, current)
    assert (Outcome.INVALID, 3) == (result.outcome, result.launches)


@pytest.mark.parametrize("spread", [STEADY, SHAKY])
@pytest.mark.parametrize("recorded", [1, 3, 6])
def test_false_alarms_of_one_row(spread, recorded):
    """At most 0.1 % of unchanged trials fail: of 2,000 at most 2, and three errors more."""
    rates = gate_rates(
        np.random.default_rng(8),
        learned(spread),
        LearnedNoise("-", spread),
        recorded,
        0.0,
        2000,
    )
    assert rates.red <= (2 + 3 * math.sqrt(2)) / 2000


@pytest.mark.parametrize(
    ("recorded", "share"), [(1, 0.13), (3, 0.04), (6, 0.015)]
)
def test_launches_of_two_kinds_are_red_where_few_are_recorded(recorded, share):
    """Unchanged, 2 % apart: as docs/error-rates.md says in its limits."""
    spread = Spread(cv=0.0024, degrees_of_freedom=12.0)
    subject = dataclasses.replace(
        subject_of("itl_median_ms"), group=GroupNoise(launches=spread, series=5)
    )
    rng = np.random.default_rng(3)
    drawn = LearnedNoise("-", spread).draw(rng, 600, recorded)
    past = drawn.recorded + 0.02 * rng.integers(0, 2, drawn.recorded.shape)
    current = drawn.current + 0.02 * rng.integers(0, 2, drawn.current.shape)

    results = gate_trials.judged(subject, Draws(past, current), 0.0)
    red = gate_trials.rates(results).red
    assert share == pytest.approx(red, abs=3 * math.sqrt(share / 600))


@pytest.mark.parametrize(
    ("metric", "recorded", "loss", "at_least"),
    [
        ("ITL, closed", 3, 0.02, 0.95),
        ("ITL, single stream", 6, 0.03, 0.98),
        ("output throughput, closed", 3, 0.05, 0.93),
        ("output throughput, closed", 1, 0.10, 0.99),
    ],
)
def test_power(metric, recorded, loss, at_least):
    """The losses that docs/error-rates.md says are caught are caught."""
    table = noise_table.read(BASELINES / noise_table.FILE)
    settings = {row.source.name: row for row in learned_settings(table)}
    setting = settings[metric]
    rates = gate_rates(
        np.random.default_rng(8),
        setting.subject,
        setting.source,
        recorded,
        loss,
        400,
    )
    assert rates.red >= at_least


def test_more_rows_have_a_higher_threshold():
    """A row of a run with 100 rows is caught less often than a row alone."""
    source = LearnedNoise("-", Spread(cv=0.008, degrees_of_freedom=16.0))
    red = []
    for rows in (1, 100):
        subject = learned(source.spread, rows)
        rates = gate_rates(
            np.random.default_rng(9), subject, source, 3, 0.04, 300
        )
        red.append(rates.red)
    assert red[0] > red[1]


def test_rows_in_doubt_are_all_that_can_fail(study):
    """Where the first launch is not in doubt, the gate passes it alone."""
    draws = study.draw(np.random.default_rng(3), 4, 3, Correlation())
    skipped = 0
    for row in study.rows:
        for run in np.flatnonzero(~is_in_doubt(row, draws)):
            result = whole_runs.results(row, draws, run)
            skipped += 1
            assert 1 == result.launches
            assert result.outcome is not Outcome.REGRESSED
    assert skipped > 3 * len(study.rows)


def test_rows_of_a_launch_are_correlated(study):
    """By 0.5 where they are of one server, by 1 where they say the same, else not at all."""
    draws = study.draw(np.random.default_rng(4), 4000, 1, Correlation(0.5))
    signs = np.sign(draws.recorded[..., 0])
    first = study.quantities[0].part
    for number, quantity in enumerate(study.quantities):
        expected = 0.0
        if quantity.part == first:
            expected = 1.0
        elif quantity.part.server == first.server:
            # Of signs of normal values: 2 / pi * arcsin(0.5).
            expected = 1 / 3
        measured = float(np.mean(signs[:, 0] * signs[:, number]))
        assert pytest.approx(expected, abs=0.08) == measured


def test_unchanged_runs_of_the_whole_study_pass(study):
    """Of 400 unchanged runs at most 0.5 % fail, and three standard errors more."""
    for recorded in (1, 3):
        red = shares(study, 400, recorded, Correlation()).red
        assert red <= (2 + 3 * math.sqrt(2)) / 400


def test_study_has_ratios_and_absolute_rows(study):
    """The judged rows are those of the shipped study.

    It serves two models of one engine, and each with a longer context, too.
    """
    ratios = [row for row in study.rows if row.subject.case.is_ratio]

    assert len(ratios) > 10
    assert len(study.rows) > 5 * len(ratios)
    assert 4 == len(study.servers)
    assert study.judged_rows >= len(study.rows)


@pytest.mark.parametrize("variation", [0.002, 0.03])
def test_pairs_are_judged_by_the_product(variation):
    """Six pairs decide where three ask for more."""
    losses = np.random.default_rng(11).normal(0.04, variation, (20, 6))
    for row in losses:
        pairs = [(1000.0, 1000.0 * math.exp(-loss)) for loss in row]
        expected = judge_pairs(m.THROUGHPUT, pairs[:3], "h200x1", 0.05)
        is_repeated = bool(expected.needs_launches)
        if is_repeated:
            expected = judge_pairs(m.THROUGHPUT, pairs, "h200x1", 0.05)
        decision, again = judged(THROUGHPUT, row, 0.05)
        assert expected.outcome is decision.outcome
        assert is_repeated is again


def test_pairs_see_more_than_any_baseline():
    """Three pairs catch 5 % with typical noise, and fail no unchanged code."""
    rng = np.random.default_rng(9)
    loss = log_loss(0.05, True)

    lost = pair_rates(rng, THROUGHPUT, TYPICAL, loss, 0.05, 400)
    unchanged = pair_rates(rng, THROUGHPUT, TYPICAL, 0.0, 0.05, 1000)
    assert lost.red >= 0.98
    assert unchanged.red <= 0.003
    assert unchanged.not_excluded <= 0.03


def test_noisy_pairs_exclude_little():
    """With noisy launches half of unchanged pairs do not exclude 2 %, with quiet ones few."""
    rng = np.random.default_rng(8)

    noisy = pair_rates(rng, THROUGHPUT, NOISY, 0.0, 0.02, 300)
    quiet = pair_rates(rng, THROUGHPUT, QUIET, 0.0, 0.02, 300)
    assert noisy.not_excluded > 0.3 > quiet.not_excluded


def test_tables_are_printed():
    """The command prints all tables, with a line for each metric."""
    words = ["--scale", "0.0001", "--baselines", str(BASELINES)]
    done = CliRunner().invoke(gate_simulation.main, words)

    assert 0 == done.exit_code, done.output
    for table in gate_simulation.TABLES:
        assert table.__doc__ in done.output
    for name, _, _ in LEARNED:
        assert f"| {name} | 10 | 1 |" in done.output


def test_whole_runs_are_printed():
    """The command prints both tables, with a line for each study."""
    words = ["--runs", "2", "--baselines", str(BASELINES)]
    done = CliRunner().invoke(whole_runs.main, words)

    assert 0 == done.exit_code, done.output
    assert "| two H200, vLLM and SGLang |" in done.output
    assert "| launches of a session share nothing |" in done.output


def test_a_store_without_noise_is_named(tmp_path):
    """Where the store has no noise table, it is said how to make one."""
    words = ["--baselines", str(tmp_path)]
    done = CliRunner().invoke(gate_simulation.main, words)

    assert "perfgate noise --update" in str(done.exception)
