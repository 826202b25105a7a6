"""Changes between two runs: the largest first, with which way is worse."""

import msgspec

from perfgate.report.changes import changes_between
from tests.unit.report.test_losses import DENSE, results_of, row


def run(**values):
    """A run with these values of one load, by metric."""
    rows = []
    for metric, value in values.items():
        verdict = row(DENSE, "batch-32", metric)
        rows.append(msgspec.structs.replace(verdict, value=value, unit="ms"))
    return results_of(*rows)


def test_the_largest_change_comes_first():
    """In either direction, and with both values."""
    found = changes_between(
        run(itl_median_ms=5.0, ttft_median_ms=20.0),
        run(itl_median_ms=5.5, ttft_median_ms=16.0),
    )

    assert ["better", "worse"] == [change.level for change in found]
    assert (
        "vllm llama-3.1-8b-tp1, batch-32, TTFT median: -20.0 % (20 ms → 16 ms)"
        == found[0].text
    )


def test_metrics_of_one_family_are_one_change():
    """Three throughputs of one load move together: the one that moved furthest is shown."""
    (change,) = changes_between(
        run(output_throughput=100.0, request_throughput=10.0),
        run(output_throughput=90.0, request_throughput=8.0),
    )

    assert change.case.endswith("request_throughput")


def test_what_only_one_run_has_is_no_change():
    """Runs of different loads have nothing in common."""
    assert [] == changes_between(
        run(itl_median_ms=5.0), run(ttft_median_ms=20.0)
    )


def test_a_small_change_is_neither_worse_nor_better():
    """Half a per cent is noise until something judges it."""
    (change,) = changes_between(
        run(itl_median_ms=5.0), run(itl_median_ms=5.025)
    )

    assert "" == change.level
