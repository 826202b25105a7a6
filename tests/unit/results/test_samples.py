"""Samples: the value of each launch, or why it has none."""

import msgspec
import pytest

from perfgate.results.samples import RunIndex
from tests.support.builders import (
    CLOSED,
    DENSE_CPU,
    DIED,
    MOE_CPU,
    bare_run,
    launched,
    measurement,
    repetition,
)


@pytest.mark.parametrize(
    ("values", "median"),
    [([200.0, 210.0, 190.0], 200.0), ([200.0, 210.0], 205.0), ([200.0], 200.0)],
)
def test_launch_counts_with_its_median(values, median):
    """One number for each launch: the median of its repetitions, which are kept as well."""
    row = measurement(
        0, *(repetition(i, value) for i, value in enumerate(values))
    )

    index = RunIndex(bare_run(measurements=(row,)))
    (found,) = index.samples_of(MOE_CPU.key, CLOSED.name, "output_throughput")
    repetitions = index.repetition_values(
        MOE_CPU.key, CLOSED.name, "output_throughput"
    )

    assert (0, median, {0: values}, ()) == (
        found.launch,
        found.value,
        repetitions,
        found.invalid,
    )


def test_invalid_repetitions_do_not_count():
    """They take no part in the median and their reasons are told."""
    row = measurement(
        0,
        repetition(0, 1.0, ("2 requests failed",)),
        repetition(1, 200.0),
        repetition(2, 220.0),
    )

    (found,) = RunIndex(bare_run(measurements=(row,))).samples_of(
        MOE_CPU.key, CLOSED.name, "output_throughput"
    )

    # (200 + 220) / 2
    assert (210.0, ("2 requests failed",)) == (found.value, found.invalid)


@pytest.mark.parametrize(
    ("row", "metric", "reasons"),
    [
        (
            measurement(
                0,
                repetition(0, 1.0, ("late",)),
                repetition(1, 1.0, ("2 failed", "late")),
            ),
            "output_throughput",
            ("late", "2 failed", "late"),
        ),
        (measurement(0, failure=DIED), "output_throughput", (DIED.seen,)),
        (
            measurement(0, repetition(0, 200.0)),
            "ttft_p99_ms",
            ("ttft_p99_ms could not be computed from this workload",),
        ),
    ],
    ids=["all-invalid", "died", "no-such-metric"],
)
def test_launch_without_a_value_says_why(row, metric, reasons):
    """None stands for no value, never without a reason."""
    (found,) = RunIndex(bare_run(measurements=(row,))).samples_of(
        MOE_CPU.key, CLOSED.name, metric
    )

    assert (None, reasons) == (found.value, found.invalid)


def test_launches_are_in_order_and_of_one_server():
    """Rows are in the order of the launches; another server's or workload's are left out."""
    rows = (
        measurement(2, repetition(0, 220.0)),
        measurement(0, repetition(0, 200.0)),
        measurement(0, repetition(0, 550.0), server=DENSE_CPU),
        msgspec.structs.replace(
            measurement(1, repetition(0, 13.0)), workload="single-stream"
        ),
    )

    found = RunIndex(bare_run(measurements=rows)).samples_of(
        MOE_CPU.key, CLOSED.name, "output_throughput"
    )

    assert [(0, 200.0), (2, 220.0)] == [
        (value.launch, value.value) for value in found
    ]


def test_values_of_the_server_itself():
    """Without a workload the value is the launch's own; a launch that lacks it is left out."""
    launches = (
        launched(0, values={"memory_bytes": 4e9}),
        launched(1),
        launched(0, server=DENSE_CPU, values={"memory_bytes": 1e9}),
    )

    (found,) = RunIndex(bare_run(launches=launches)).samples_of(
        MOE_CPU.key, None, "memory_bytes"
    )

    assert (0, 4e9) == (found.launch, found.value)


def test_a_launch_that_failed_requests_has_no_value():
    """However well it answered the others: a server's speed is not judged while it fails."""
    failed = msgspec.structs.replace(
        repetition(1, 500.0, ("2 of 8 requests failed: HTTP 503",)), failed=2
    )
    row = measurement(0, repetition(0, 200.0), failed, repetition(2, 210.0))

    (found,) = RunIndex(bare_run(measurements=(row,))).samples_of(
        MOE_CPU.key, CLOSED.name, "output_throughput"
    )

    assert (None, ("2 of 8 requests failed: HTTP 503",)) == (
        found.value,
        found.invalid,
    )
