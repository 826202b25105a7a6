"""Policy: ceilings of a run replace those of the table, by family or for every rate."""

from __future__ import annotations

import dataclasses

import pytest

from perfgate.judge import policy
from perfgate.judge.policy import (
    CPU_RATIO,
    EXACT,
    GPU_ENERGY,
    GPU_RATE,
    GPU_TTFT,
    START_UP,
    policy_for,
)
from perfgate.load.metrics import FAMILIES


def ceiling(metric, fail_over, label="h200x2", ratio=False):
    """The ceiling of that metric."""
    return policy_for(label, metric, ratio, fail_over).fail_over


def test_without_a_choice_the_table_counts():
    """Of a rate of a GPU 5 %, of its TTFT 10 %, of a ratio on a CPU 30 %."""
    assert GPU_RATE is policy_for("h200x2", "itl_median_ms", False, {})
    assert (0.05, 0.10) == (GPU_RATE.fail_over, GPU_TTFT.fail_over)
    assert 0.35 == CPU_RATIO.fail_over


def test_a_family_has_its_own_ceiling():
    """The others keep theirs."""
    chosen = {"itl": 0.03}

    assert 0.03 == ceiling("itl_median_ms", chosen)
    assert 0.03 == ceiling("itl_mean_ms", chosen, ratio=True)
    assert GPU_RATE.fail_over == ceiling("output_throughput", chosen)


@pytest.mark.parametrize(
    "metric", ["output_throughput", "ttft_median_ms", "e2el_p99_ms", "unheard"]
)
def test_all_is_every_rate(metric):
    """Whatever the table says of it, on GPUs and CPUs."""
    assert 0.07 == ceiling(metric, {"all": 0.07})
    assert 0.07 == ceiling(metric, {"all": 0.07}, "cpu-avx2-x2")


@pytest.mark.parametrize(
    ("metric", "unchanged"),
    [
        ("weights_bytes_per_rank", EXACT),
        ("energy_per_output_token_j", GPU_ENERGY),
        ("ready_s", START_UP),
    ],
)
def test_all_leaves_what_is_no_rate(metric, unchanged):
    """Bytes, energy and starts have another scale; their names set them."""
    assert unchanged is policy_for("h200x2", metric, False, {"all": 0.07})


def test_a_family_goes_before_all():
    """Also one that is no rate."""
    chosen = {"all": 0.07, "ttft": 0.2, "energy": 0.35}

    assert 0.2 == ceiling("ttft_median_ms", chosen)
    assert 0.35 == ceiling("energy_per_output_token_j", chosen)
    assert 0.07 == ceiling("tpot_median_ms", chosen)


def test_a_ceiling_changes_nothing_else():
    """Neither the target effect nor the floor."""
    chosen = policy_for("h200x2", "ttft_median_ms", False, {"ttft": 0.2})

    assert dataclasses.replace(GPU_TTFT, fail_over=0.2) == chosen


def table_rows():
    """Every policy of the table by its name."""
    for name, row in vars(policy).items():
        if isinstance(row, policy.Policy):
            yield pytest.param(row, id=name)


@pytest.mark.parametrize("row", list(table_rows()))
def test_no_ceiling_is_below_its_target_effect(row):
    """What is to be caught cannot be more than what may pass."""
    assert 0.0 < row.smallest <= row.fail_over


def test_rates_are_families():
    """Each name that `all` stands for is declared by some metric."""
    assert set(FAMILIES) >= policy.RATE_FAMILIES
