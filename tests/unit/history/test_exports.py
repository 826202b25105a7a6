"""History exports: CSV and OpenMetrics that a dashboard reads."""

import msgspec
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from perfgate.history.exports import openmetrics, to_csv
from perfgate.history.series import Entry


def entry(
    number, value, outcome="PASSED", case="vllm-x-tp1/closed/itl_median_ms"
):
    """One case in the run of that day of June."""
    return Entry(
        run=f"run-{number}",
        started=f"2026-06-{number:02}T12:00:00",
        hardware="h200x1",
        case=case,
        value=value,
        launches=(value, value * 1.01),
        outcome=outcome,
        context={},
    )


def test_a_line_for_each_run_and_case():
    """With the unit of the metric; a ratio has none, a case without a verdict neither."""
    ratio = entry(2, 0.5, None, "a--over--b/closed/itl_median_ms")
    lines = to_csv([entry(1, 8.0), ratio]).splitlines()

    assert (
        "run,started,hardware,case,metric,unit,value,launches,outcome"
        == lines[0]
    )
    first = "run-1,2026-06-01T12:00:00,h200x1,vllm-x-tp1/closed/itl_median_ms"
    assert f"{first},itl_median_ms,ms,8,8 8.08,PASSED" == lines[1]
    assert lines[2].endswith(",itl_median_ms,,0.5,0.5 0.505,")


def test_the_newest_value_of_each_case():
    """With the time of its run, in UTC where it names no zone, and whether it passed."""
    text = openmetrics([entry(1, 8.0), entry(2, 9.0, "REGRESSED")])
    value, good = text_string_to_metric_families(text)

    assert [(9.0, "run-2", "ms")] == [
        (s.value, s.labels["run"], s.labels["unit"]) for s in value.samples
    ]
    # 2026-06-02T12:00:00Z
    assert [1_780_401_600] == [float(s.timestamp) for s in value.samples]
    assert [0.0] == [s.value for s in good.samples]


def test_a_run_without_a_time_has_a_value():
    """Its file was edited: other cases are exported all the same."""
    odd = msgspec.structs.replace(entry(1, 8.0), started="yesterday")

    text = openmetrics([odd])

    samples = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.append((sample.value, sample.timestamp))
    assert [(8.0, None), (1.0, None)] == samples
