"""Rows together: what all of them lost is red where each of them hides it."""

import math

import msgspec
import pytest
from scipy import stats

from perfgate.judge import joint
from perfgate.judge.joint_rows import Effect
from perfgate.judge.verdict import Outcome
from perfgate.report.verdict_text import render_group
from tests.support import builders as m
from tests.support import joint_runs as runs

UNCHANGED = [0.0, 0.0, 0.0, 0.0]
LOST = [0.045, 0.045, 0.045, 0.045]


@pytest.fixture
def store(tmp_path):
    """Two servers, of which one launch was recorded."""
    recorded = runs.run({m.DENSE: UNCHANGED, m.MOE: UNCHANGED}, day=1)
    return runs.store_of(tmp_path, recorded)


def red_rows(rows):
    """The rows that fail by themselves."""
    return [row for row in rows if row.outcome is Outcome.REGRESSED]


def test_losses_below_every_threshold_are_red_together(store):
    """By Student's t of the mean's noise, one launch against one."""
    rows, verdicts = runs.judged(runs.run({m.DENSE: LOST}, day=2), store)

    quantile = stats.t.ppf(1 - 1e-4, runs.FREEDOM)
    bound = quantile * runs.SHIFT_CV * math.sqrt(2)
    assert [] == red_rows(rows)
    assert 1 == len(verdicts)
    verdict = verdicts[0]
    assert ("server", m.DENSE.key, "shift") == (
        verdict.scope,
        verdict.subject,
        verdict.check,
    )
    assert (Outcome.REGRESSED, "hard") == (verdict.outcome, verdict.gate)
    assert 0.045 == pytest.approx(verdict.worse_by, rel=1e-4)
    assert math.expm1(bound) == pytest.approx(verdict.threshold, rel=1e-6)
    assert 1e-4 == verdict.false_alarm_rate
    assert tuple(row.case for row in rows) == verdict.cases


def test_one_line_says_what_decided(store):
    """The loss of all loads, the threshold; then how single rows fare."""
    _, verdicts = runs.judged(runs.run({m.DENSE: LOST}, day=2), store)

    lines = render_group(verdicts[0]).splitlines()
    assert (
        f"REGRESSED: shift, {m.DENSE.key}: decoding is slower by 4.5 % on the mean of "
        "all 4 loads, threshold 1.6 %"
    ) == lines[0]
    assert (
        "  Single rows lose 4.5 % to 4.5 %; 0 of 4 fail by themselves."
    ) == lines[1]
    assert "one of 10,000 runs" in lines[3]
    assert "perfgate accept RUN" in lines[4]


@pytest.mark.parametrize("loss", [0.0, -0.045, 0.009])
def test_unchanged_rows_give_nothing(store, loss):
    """Neither does a gain, nor a loss below the smallest that counts."""
    losses = [loss] * 4
    current = runs.run({m.DENSE: losses, m.MOE: losses}, day=2)

    _, verdicts = runs.judged(current, store)

    assert [] == verdicts


def test_less_than_one_percent_never_counts(tmp_path):
    """However quiet the launches are."""
    recorded = runs.run({m.DENSE: UNCHANGED}, day=1)
    quiet = runs.NOISE | {"gpu/decode_speed/shift": 1e-4}
    store = runs.store_of(tmp_path, recorded, noise=quiet)

    _, below = runs.judged(runs.run({m.DENSE: [0.009] * 4}, day=2), store)
    _, above = runs.judged(runs.run({m.DENSE: [0.011] * 4}, day=2), store)

    assert [] == below
    assert ["shift"] == [row.check for row in above]


def test_one_load_out_is_no_shift(store):
    """A load that lost 7 % is named alone, though the mean is above its threshold."""
    losses = [0.07, 0.0, 0.0, 0.0]
    rows, verdicts = runs.judged(runs.run({m.DENSE: losses}, day=2), store)

    assert [] == red_rows(rows)
    assert ["outlier"] == [row.check for row in verdicts]
    outlier = verdicts[0]
    assert f"{m.DENSE.key}, batch-2" == outlier.subject
    assert (rows[0].case,) == outlier.cases
    quantile = stats.t.ppf(1 - 1e-4 / 4, runs.FREEDOM)
    bound = quantile * runs.OUTLIER_CV * math.sqrt(2)
    assert math.expm1(bound) == pytest.approx(outlier.threshold, rel=1e-6)
    assert 0.07 == pytest.approx(outlier.worse_by, rel=1e-4)
    assert (
        f"REGRESSED: outlier, {m.DENSE.key}, batch-2: itl_median_ms lost 7.0 %, and "
        "7.0 % beside the other 3 loads of the server, threshold 2.9 %"
    ) == render_group(outlier).splitlines()[0]


def test_a_row_that_fails_by_itself_is_no_outlier(store):
    """It is said already."""
    losses = [0.12, 0.0, 0.0, 0.0]
    rows, verdicts = runs.judged(runs.run({m.DENSE: losses}, day=2), store)

    assert 1 == len(red_rows(rows))
    assert [] == verdicts


def test_a_row_that_did_not_gain_is_no_outlier(store):
    """The others became faster, and it stayed as it was."""
    losses = [0.0, -0.07, -0.07, -0.07]
    _, verdicts = runs.judged(runs.run({m.DENSE: losses}, day=2), store)

    assert [] == verdicts


def test_a_shift_is_said_where_rows_fail_as_well(store):
    """With the number of them."""
    losses = [0.10, 0.10, 0.05, 0.05]
    rows, verdicts = runs.judged(runs.run({m.DENSE: losses}, day=2), store)

    assert 2 == len(red_rows(rows))
    assert "2 of 4 fail by themselves" in verdicts[0].details[0]


def test_servers_lose_together_what_each_hides(tmp_path):
    """Each lost 0.93 of its threshold; that of both is 0.87 of it."""
    noise = runs.NOISE | {"gpu/decode_speed/shift": 0.01}
    recorded = runs.run({m.DENSE: UNCHANGED, m.MOE: UNCHANGED}, day=1)
    store = runs.store_of(tmp_path, recorded, noise=noise)
    # One server's threshold, one launch against one.
    bound = stats.t.ppf(1 - 1e-4, runs.FREEDOM) * 0.01 * math.sqrt(2)
    loss = math.expm1(0.93 * bound)
    current = runs.run({m.DENSE: [loss] * 4, m.MOE: [loss] * 4}, day=2)

    _, verdicts = runs.judged(current, store)
    _, alone = runs.judged(runs.run({m.DENSE: [loss] * 4}, day=2), store)

    assert [] == alone
    assert [("run", "", "shift")] == [
        (row.scope, row.subject, row.check) for row in verdicts
    ]
    # Half of the variance is shared: of two, three quarters remain.
    limit = math.expm1(bound * math.sqrt(0.75))
    assert limit == pytest.approx(verdicts[0].threshold, rel=1e-6)
    assert "on the mean of 2 servers" in verdicts[0].summary
    assert m.MOE.key in verdicts[0].details[1]
    assert 8 == len(verdicts[0].cases)


def test_one_server_alone_is_no_loss_of_the_session(store):
    """Its own verdict says it; the other server is as it was."""
    current = runs.run({m.DENSE: LOST, m.MOE: UNCHANGED}, day=2)

    _, verdicts = runs.judged(current, store)

    assert [("server", m.DENSE.key)] == [
        (row.scope, row.subject) for row in verdicts
    ]


def test_a_named_cause_is_repeated(store):
    """Of the rows, once."""
    rows, _ = runs.judged(runs.run({m.DENSE: LOST}, day=2), store)
    results = runs.run({m.DENSE: LOST}, day=2)
    rows = [
        msgspec.structs.replace(row, cause="another kernel") for row in rows
    ]

    verdicts = list(joint.check(joint.RunReader(results), rows, store))

    assert "Rows name a cause: another kernel." == verdicts[0].details[-1]


def effect(loss, error, shared, freedom=20.0):
    """A server's shift."""
    return Effect(
        rows=(),
        loss=loss,
        error=error,
        degrees_of_freedom=freedom,
        noise=error,
        shared=shared,
        sessions=1,
    )


def test_independent_servers_combine_by_inverse_variance():
    """Weights 4 to 1, error 1 / sqrt(125) of errors 0.1 and 0.2; Welch-Satterthwaite."""
    two = [effect(0.05, 0.1, 0.0), effect(0.10, 0.2, 0.0)]

    together = joint.combined(two)

    assert 0.06 == pytest.approx(together.loss)
    assert math.sqrt(1 / 125) == pytest.approx(together.error)
    # 1 / (0.8^2 / 20 + 0.2^2 / 20) is 29.4: no more than the largest counts.
    assert 20.0 == together.degrees_of_freedom


def test_servers_that_share_all_variance_gain_nothing():
    """Their mean has the error of one."""
    together = joint.combined([effect(0.05, 0.1, 1.0), effect(0.05, 0.1, 1.0)])

    assert 0.1 == pytest.approx(together.error)


def test_a_shift_on_a_cpu_counts_by_its_noise(tmp_path):
    """Each row may take twice the recorded time there; all of them 1.6 times."""
    noise = {"cpu/itl": 0.10, "cpu/decode_speed/shift": 0.07}
    cpu = m.hardware("cpu", count=2)
    recorded = runs.run({m.DENSE_CPU: UNCHANGED}, day=1, machine=cpu)
    store = runs.store_of(tmp_path, recorded, noise=noise)
    quantile = stats.t.ppf(1 - 1e-4, runs.FREEDOM)
    bound = math.expm1(quantile * 0.07 * math.sqrt(2))
    found = {}
    for day, loss in ((2, 1.1 * bound), (3, 0.9 * bound)):
        losses = {m.DENSE_CPU: [loss] * 4}
        current = runs.run(losses, day=day, machine=cpu)
        rows, verdicts = runs.judged(current, store)
        assert [] == red_rows(rows)
        found[day] = [row.check for row in verdicts]

    assert {2: ["shift"], 3: []} == found
