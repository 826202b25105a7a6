"""Questions: at most twenty rows, each with the range of its cases and the worst of them."""

import re
from pathlib import Path

import pytest

from perfgate.report.questions import (
    ASKS,
    MOST_ROWS,
    SUBJECTS,
    answers,
    metric_name,
)
from perfgate.results.verdict import Outcome, Verdict

TESTS = Path(__file__).resolve().parents[2] / "perf"


def verdict(case, experiment="E2", outcome="PASSED", **fields):
    """A case of 5 ms that was 5 ms before."""
    values = {
        "value": 5.0,
        "baseline": 5.0,
        "change": 0.0,
        "worse_by": 0.0,
        "threshold": 0.02,
        "unit": "ms",
    }
    return Verdict(
        case=case,
        experiment=experiment,
        metric=case.rpartition("/")[2],
        outcome=Outcome(outcome),
        summary="",
        gate="hard",
        **(values | fields),
    )


def cases(servers, loads, metric="itl_median_ms", experiment="E2"):
    """Each server under each load."""
    rows = []
    for server in range(servers):
        for load in range(loads):
            case = f"vllm-m{server}-tp1/w{load}/{metric}"
            rows.append(verdict(case, experiment))
    return rows


def test_few_cases_have_a_row_each():
    """Nothing is summed up that fits."""
    rows = answers(cases(servers=2, loads=10))

    assert 20 == len(rows)
    assert "vllm m0-tp1, w0" == rows[0].loads


def test_more_are_summed_up_by_server():
    """Then loads are counted, and the server is named."""
    rows = answers(cases(servers=2, loads=11))

    assert ["vllm m0-tp1, 11 loads", "vllm m1-tp1, 11 loads"] == [
        row.loads for row in rows
    ]


def test_then_by_metric():
    """Ratios stay apart from values."""
    found = cases(servers=21, loads=2)
    found.append(verdict("vllm-m0--over--vllm-m1/w0/itl_median_ms"))
    rows = answers(found)

    assert ["21 servers, 42 loads", "vllm m0 / m1, w0"] == [
        row.loads for row in rows
    ]


def test_then_by_question():
    """What has no common unit shows no range, and no metric."""
    found = []
    for number in range(MOST_ROWS + 1):
        found += cases(1, 1, metric=f"m{number}_ms")
    found += cases(1, 1, metric="tokens", experiment="E10")
    (row, other) = answers(found)

    assert ("E2 one stream", "") == (row.question, row.metric)
    assert "E10 experts spread over split" == other.question


def test_a_row_shows_the_case_that_is_worst_off():
    """By its outcome first, then by its loss in units of the threshold."""
    rows = cases(servers=1, loads=21)
    near = verdict("vllm-m0-tp1/x/itl_median_ms", value=5.09, worse_by=0.018)
    red = verdict("vllm-m0-tp1/y/itl_median_ms", outcome="REGRESSED", value=6.0)
    (passed,) = answers([*rows, near])
    (failed,) = answers([*rows, near, red])

    assert (near, "22 PASSED") == (passed.worst, passed.outcomes)
    assert (red, "1 REGRESSED, 22 PASSED") == (failed.worst, failed.outcomes)
    assert ("5 to 6 ms", "5 ms") == (failed.value, failed.baseline)


def test_values_that_are_missing_have_no_range():
    """A dash, as in a row of one case."""
    (row,) = answers([verdict("vllm-m/w/itl_median_ms", baseline=None)])

    assert ("5 ms", "-") == (row.value, row.baseline)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("itl_median_ms", "ITL median"),
        ("output_throughput", "output throughput"),
        ("kv_cache_tokens", "KV cache"),
        ("decode_bandwidth_gb_s", "decode bandwidth"),
        ("ready_s", "ready"),
    ],
)
def test_metrics_are_told_in_words(name, words):
    """Without their unit, which the value has."""
    assert words == metric_name(name)


def test_every_experiment_of_the_study_has_a_subject():
    """A new question needs a word or two for its rows."""
    asked = set()
    for path in TESTS.glob("test_*.py"):
        asked |= set(re.findall(r'"(E\d+)"', path.read_text()))

    assert asked
    assert asked <= set(SUBJECTS)


def test_each_question_is_that_of_its_tests():
    """What a page says of E4 is the first sentence of the file that asks it."""
    told = set(ASKS.values())
    asked = []
    for path in sorted(TESTS.glob("test_*.py")):
        line = path.read_text(encoding="utf-8").partition("\n")[0]
        asked.append(line.strip('"').partition(": ")[2])

    missing = [text for text in told if not any(text in line for line in asked)]
    assert [] == missing
