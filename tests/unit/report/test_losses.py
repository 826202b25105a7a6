"""Losses: one line for each server and direction."""

import msgspec

from perfgate.machine.hardware import attached
from perfgate.report import losses
from perfgate.results.schema import RunResults
from perfgate.results.verdict import Outcome, Verdict

DENSE, SPARSE = "vllm-llama-3.1-8b-tp1", "vllm-mixtral-8x7b-tp1"


def row(server, load, metric, change=0.0, outcome="PASSED", gate="hard"):
    """A verdict of one case."""
    return Verdict(
        case=f"{server}/{load}/{metric}",
        experiment="E1",
        metric=metric,
        outcome=Outcome(outcome),
        summary="",
        gate=gate,
        change=change,
    )


def results_of(*rows):
    """A run with these verdicts."""
    return RunResults(
        run_id="r",
        suite_version="0",
        command=(),
        started="now",
        hardware=attached("cpu"),
        verdicts=rows,
    )


def lines(*rows):
    """What is said of a run with these verdicts."""
    return losses.lines(results_of(*rows))


def test_a_server_is_one_line():
    """Each family with its least and largest change, the loads, and what did not move."""
    (line,) = lines(
        row(DENSE, "single-stream", "itl_median_ms", 4.131, "REGRESSED"),
        row(DENSE, "batch-32", "itl_median_ms", 2.998, "REGRESSED"),
        row(DENSE, "batch-32", "output_throughput", -0.697, "REGRESSED"),
        row(DENSE, "launch", "memory_peak_bytes"),
        row(SPARSE, "single-stream", "itl_median_ms"),
    )

    assert (
        "REGRESSED: vllm llama-3.1-8b-tp1: ITL +299.8 to +413.1 %, "
        "throughput -69.7 % (2 loads); unchanged: memory" == line
    )


def test_gains_have_a_line_of_their_own():
    """What got better on the same server is no part of its loss."""
    red, better = lines(
        row(DENSE, "batch-32", "itl_median_ms", 0.1, "REGRESSED"),
        row(DENSE, "batch-64", "output_throughput", 0.2, "IMPROVED"),
    )

    assert "REGRESSED: vllm llama-3.1-8b-tp1: ITL +10.0 % (batch-32)" in red
    assert "IMPROVED: vllm llama-3.1-8b-tp1: throughput +20.0 %" in better


def test_what_keeps_a_gain_is_said_once():
    """The run's own folder stands in the command."""
    gain = msgspec.structs.replace(
        row(DENSE, "batch-64", "output_throughput", 0.2, "IMPROVED"),
        advice="`perfgate accept <run>` keeps it.",
    )

    *_, advice = losses.lines(results_of(gain, gain), "runs/a")

    assert "  do:   `perfgate accept runs/a` keeps it." == advice


def test_a_family_that_is_undecided_is_not_called_unchanged():
    """Only what passed is."""
    (line,) = lines(
        row(DENSE, "batch-32", "itl_median_ms", 0.1, "REGRESSED"),
        row(DENSE, "batch-32", "ttft_median_ms", 0.0, "NOT_EXCLUDED"),
    )

    assert "unchanged" not in line


def test_a_ratio_is_told_by_both_servers():
    """It has no server of its own."""
    (line,) = lines(
        row(f"{DENSE}--over--{SPARSE}", "w", "itl_median_ms", 0.1, "REGRESSED")
    )

    assert line.startswith(
        "REGRESSED: vllm llama-3.1-8b-tp1 / mixtral-8x7b-tp1:"
    )


def test_report_only_rows_and_passed_runs_say_nothing():
    """They fail nothing."""
    assert [] == lines(
        row(DENSE, "batch-32", "itl_median_ms", 0.1, "REGRESSED", "report"),
        row(DENSE, "batch-8", "itl_median_ms"),
    )
