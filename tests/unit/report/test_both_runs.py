"""Two runs compared: whether the later one is slower, and by how much."""

import re

import msgspec
import pytest

from perfgate.report import both_runs
from tests.support import builders as m
from tests.support.judged_runs import judged


def runs(*changes):
    """A run, and a later one whose values are changed by these fractions."""
    first = judged(*["PASSED"] * len(changes))
    rows = []
    for row, change in zip(first.verdicts, changes, strict=True):
        value = row.value * (1 + change)
        rows.append(msgspec.structs.replace(row, value=value, allowed=0.02))
    last = msgspec.structs.replace(
        first, run_id="20260602-120000-1", verdicts=tuple(rows)
    )
    return first, last


def told(first, last, width=80, is_terminal=True):
    """The lines, without colours."""
    text = "\n".join(both_runs.lines(first, last, width, is_terminal))
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_the_largest_loss_comes_first():
    """Of a rate a fall is one."""
    found = both_runs.pairs(*runs(0.10, -0.05, -0.30))

    assert [0.30, 0.05, -0.10] == pytest.approx([row.loss for row in found])
    assert [True, True, False] == [row.is_lost for row in found]


def test_the_first_line_is_the_answer():
    """How many are worse, and which most."""
    first, last = runs(0.0, -0.30)
    text = " ".join(told(first, last).split())

    assert text.startswith(
        f"{last.run_id} against {first.run_id}: 2 values in both, 1 worse by "
        "more than the gate allows; most: vllm mixtral-8x7b-tp2"
    )
    assert "output_throughput -30.0 %" in text


def test_nothing_is_worse():
    """A gain, and a loss that is allowed."""
    assert "none worse by more than the gate allows" in told(
        *runs(0.3, -0.01), is_terminal=False
    )


def test_other_machines_are_named():
    """Their change may be that of the hardware."""
    first, last = runs(0.0)
    last = msgspec.structs.replace(last, hardware=m.hardware(count=1))

    assert told(first, last).startswith("Different machines: ")


def test_nothing_in_common():
    """It says so, and shows no table."""
    first, last = runs(0.0)
    last = msgspec.structs.replace(last, verdicts=())

    assert told(first, last).endswith("0 values in both")


@pytest.mark.parametrize("width", [80, 120, 200])
def test_it_fits_the_terminal(width):
    """At every width no line is wider, and rows beyond twelve are counted."""
    lines = told(*runs(*[-0.1] * 9), width=width).splitlines()

    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(
    ("metric", "change", "is_lost"),
    [
        ("itl_median_ms", -0.17, True),
        ("itl_median_ms", -0.16, False),
        ("itl_median_ms", 0.19, False),
        ("output_throughput", 0.24, False),
        ("output_throughput", 0.26, True),
        ("output_throughput", -0.19, False),
    ],
)
def test_a_ratio_is_lost_beyond_what_is_shown_as_allowed(
    metric, change, is_lost
):
    """20 % of a latency are -16.7 % / +20 %, and of a rate -20 % / +25 %."""
    (before,) = judged("PASSED").verdicts
    row = msgspec.structs.replace(
        before,
        case=f"vllm-a-tp1--over--vllm-b-tp1/batch-1/{metric}",
        metric=metric,
        unit="x",
        allowed=0.2,
        change=change,
        value=before.value * (1 + change),
    )
    (pair,) = both_runs.pairs(
        *[
            msgspec.structs.replace(judged("PASSED"), verdicts=(one,))
            for one in (msgspec.structs.replace(row, value=1000.0), row)
        ]
    )

    assert is_lost == pair.is_lost
