"""A repetition is stored and read without the load client."""

import subprocess
import sys

import msgspec
import pytest

from perfgate.load.client import STARVED
from perfgate.load.repetition import (
    IDLE_SHARE,
    OTHERS_SHARE,
    Repetition,
    RequestRow,
)
from perfgate.machine.telemetry import GpuSummary, throttled
from tests.support.builders import repetition

REQUEST = RequestRow(
    scheduled_ms=0.0,
    sent_ms=None,
    ttft_ms=None,
    e2el_ms=None,
    output_tokens=0,
    itl_ms=(),
    error="HTTP 503",
)


def test_json_holds_every_field():
    """What is written is what is read, of failed requests and hangs, too."""
    row = repetition(
        2,
        {"itl_median_ms": 8.25},
        ("late",),
        requests=(REQUEST,),
        hang="all streams fell silent",
    )

    assert row == msgspec.json.decode(msgspec.json.encode(row), type=Repetition)


@pytest.mark.parametrize("field", ["hang", "gpus"])
def test_rows_without_newer_fields_are_read(field):
    """They have a default."""
    tree = msgspec.to_builtins(repetition(0, 1.0))
    del tree[field]

    assert repetition(0, 1.0) == msgspec.convert(tree, Repetition)


def test_an_unknown_field_is_refused():
    """Rather than lost when the run is saved again."""
    tree = msgspec.to_builtins(repetition(0, 1.0)) | {"extra": 1}

    with pytest.raises(msgspec.ValidationError, match="extra"):
        msgspec.convert(tree, Repetition)


def test_reading_a_run_loads_no_client():
    """Judging a stored run needs neither an event loop nor an HTTP parser."""
    code = (
        "import sys, perfgate.load.repetition\n"
        "print(sorted({'uvloop', 'httptools', 'numpy'} & sys.modules.keys()))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert "[]" == found.stdout.strip()


HOT = GpuSummary(index=1, looks=50, throttle={"hw_thermal_slowdown": 0.5})


@pytest.mark.parametrize(
    ("reasons", "is_spoilt"),
    [
        ((), False),
        (("all 8 streams fell silent at once for 900 ms",), False),
        (("the client fell behind: p99 lateness 9 ms",), True),
        (("the client did not run for a total of 270 ms",), True),
        (("the client was too busy: 90 % of a core",), True),
        (
            ("whether the engine compiled is not known: no such file: a.log",),
            True,
        ),
        (("the engine compiled during the measurement: GPU 0",), False),
        (throttled([HOT])[0], True),
        (("64 streams: the client was too busy: 90 % of a core",), True),
        (
            (f"12 of 12 requests failed: {STARVED}out of file descriptors",),
            True,
        ),
        (("12 of 12 requests failed: HTTP 500: the client is gone",), False),
        (("64 streams: all 64 streams fell silent at once for 90 ms",), False),
    ],
)
def test_a_reason_of_the_client_spoils_a_repetition(reasons, is_spoilt):
    """A stall of all streams is the server's; heat and a log that is gone are not."""
    row = repetition(0, 1.0, reasons)

    assert is_spoilt == row.is_spoilt_by_client


@pytest.mark.parametrize(
    ("client_values", "is_beside"),
    [
        ({}, False),
        ({OTHERS_SHARE: 0.5}, False),
        ({OTHERS_SHARE: 0.5, IDLE_SHARE: 0.2}, False),
        ({OTHERS_SHARE: 0.1, IDLE_SHARE: 0.05}, False),
        ({IDLE_SHARE: 0.0}, False),
        ({OTHERS_SHARE: 0.2, IDLE_SHARE: 0.05}, True),
    ],
)
def test_others_who_leave_too_few_cores_spoil_what_is_invalid(
    client_values, is_beside
):
    """What is unknown is none of theirs; a repetition that counts is not spoilt."""
    stall = ("all 8 streams fell silent at once for 900 ms",)
    valid = repetition(0, 1.0, client_values=client_values)
    invalid = repetition(0, 1.0, stall, client_values=client_values)

    assert is_beside == valid.is_beside_others == invalid.is_spoilt_by_client
    assert not valid.is_spoilt_by_client
