"""Verdicts of schema 1, whose text was one message, are read as fields."""

import msgspec
import pytest

from perfgate.results.verdict import Verdict
from perfgate.results.verdict_upgrade import upgrade_verdicts

CASE = "vllm-moe-tp2/closed-c32/itl_median_ms"
SERVERS = "vllm-a--over--vllm-b/closed-c32/output_throughput"
WORKLOADS = "vllm-a/c32--over--c1/output_throughput"
MESSAGE = """\
REGRESSED: itl_median_ms of vllm-moe-tp2: 9.1 ms
  seen: 8 ms before, higher by 13.8 %
  6 launches of 6 runs
  planted: 2 ms a token; such a run becomes no baseline
  reported only: too noisy
  do:   look at the launches"""


def row(message=MESSAGE, case=CASE, **changed):
    """A verdict of schema 1."""
    fields = {
        "case": case,
        "metric": case.rpartition("/")[2],
        "outcome": "REGRESSED",
        "gate": "hard",
        "message": message,
        "baseline": 8.0,
    }
    return fields | changed


def upgraded(*arguments, **fields):
    """It as a verdict of this version."""
    (tree,) = upgrade_verdicts([row(*arguments, **fields)])
    return msgspec.convert(tree, Verdict)


def test_lines_of_the_message_become_fields():
    """Summary, details, advice and what was injected."""
    verdict = upgraded()

    assert "8 ms before, higher by 13.8 %" == verdict.summary
    assert (
        "itl_median_ms of vllm-moe-tp2: 9.1 ms",
        "6 launches of 6 runs",
    ) == (verdict.details)
    assert "look at the launches" == verdict.advice
    assert "2 ms a token" == verdict.injected


def test_old_names_of_fields_are_replaced():
    """Numbers and reasons that had a name of their own."""
    verdict = upgraded(
        alarm_line=0.02, delta=0.05, detectable=0.01, demoted="noisy"
    )

    assert (0.02, 0.05, 0.01, "noisy") == (
        verdict.threshold,
        verdict.target_effect,
        verdict.mde,
        verdict.report_only_reason,
    )


@pytest.mark.parametrize(
    ("case", "unit"),
    [(CASE, "ms"), (SERVERS, "x"), ("vllm-a/launch/own_number", "")],
)
def test_the_unit_is_that_of_the_metric(case, unit):
    """Of a ratio it is x; a project's own metric has none here."""
    assert unit == upgraded(case=case).unit


@pytest.mark.parametrize(
    ("message", "baseline", "reference"),
    [
        ("x: candidate against base\n  seen: y", 8.0, "paired"),
        ("x\n  seen: beside the published 9", 8.0, "published"),
        ("x\n  seen: y", 8.0, "recorded"),
        ("x\n  seen: y", None, "none"),
    ],
)
def test_the_reference_is_what_was_compared_with(message, baseline, reference):
    """A base build, a published or a recorded baseline; nothing without one."""
    assert reference == upgraded(message, baseline=baseline).reference


@pytest.mark.parametrize(
    ("case", "line", "side"),
    [
        (SERVERS, "so it is vllm-a under closed-c32 that moved", "numerator"),
        (SERVERS, "so it is vllm-b under closed-c32 that moved", "denominator"),
        (WORKLOADS, "so it is vllm-a under c1 that moved", "denominator"),
        (SERVERS, "so both moved", "both"),
        (SERVERS, "neither is known", None),
    ],
)
def test_the_side_that_moved_is_a_field(case, line, side):
    """It was a sentence."""
    assert side == upgraded(f"x\n  seen: y\n  {line}", case=case).moved


def test_nothing_to_do_is_no_advice():
    """The word stood where there was nothing to do."""
    assert "" == upgraded("x\n  seen: y\n  do:   nothing").advice


@pytest.mark.parametrize(
    "rows",
    [
        3,
        None,
        [3],
        [{"case": CASE}],
        [{"message": MESSAGE}],
        [{"message": MESSAGE, "case": CASE}],
        [row(message="")],
        [row(message=None)],
    ],
)
def test_what_cannot_be_read_is_left(rows):
    """The reader names the field; a verdict without a message is a current one."""
    assert rows == upgrade_verdicts(rows)
