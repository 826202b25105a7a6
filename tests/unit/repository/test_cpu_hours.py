"""Rates and times of CPU servers: what was recorded in one hour is green by another."""

import pytest
from click.testing import CliRunner

from benchmarks import cpu_hours


@pytest.fixture(scope="module")
def rows():
    """Every stored launch that other hours can judge."""
    return list(cpu_hours.every(cpu_hours.ROOT / "baselines"))


def test_no_stored_launch_is_red_in_another_hour(rows):
    """Of servers, of ratios of one engine, and of two; the largest loss leaves room."""
    kinds = {row.kind for row in rows}

    assert len(kinds) == 3
    for row in rows:
        assert row.decision.outcome.name in ("PASSED", "IMPROVED"), row
        assert row.share < 0.9, row


def test_the_table_has_a_row_for_each_kind():
    """With how many launches were judged."""
    done = CliRunner().invoke(cpu_hours.main, [])

    assert 5 == len(done.output.splitlines())
    assert "ratios of two engines" in done.output


def test_a_run_says_when_it_began():
    """Hours are told apart by the ids of the runs."""
    first = cpu_hours.began("20261125-181014-23822")
    second = cpu_hours.began("20261125-191115-1")

    assert second - first > cpu_hours.HOUR
