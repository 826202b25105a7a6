"""Table of the metrics: formulas with their declarations, and what may be declared."""

from __future__ import annotations

import math

import msgspec
import pytest

from perfgate.load import metrics
from perfgate.load.metrics import (
    BUILT_IN,
    METRICS,
    BadMetric,
    CustomMetric,
    Metric,
    compute,
    register,
)
from tests.support.builders import MS, transcript

LONGEST = Metric(
    name="longest_gap_ms",
    unit="ms",
    better="lower",
    definition="d",
    family="itl",
)


@pytest.fixture(autouse=True)
def undeclared(monkeypatch):
    """What a test declares is gone after it."""
    monkeypatch.setattr(metrics, "METRICS", dict(METRICS))
    monkeypatch.setattr(metrics, "CUSTOM", {})


def test_names_are_unique():
    """One row for each metric."""
    names = [row.metric.name for row in BUILT_IN]

    assert len(set(names)) == len(names)
    assert "custom" not in {row.metric.family for row in BUILT_IN}


def test_what_is_computed_has_a_formula_in_the_table():
    """700 requests with limits and a window have every metric of the client."""
    rows = []
    for k in range(700):
        rows.append(
            transcript(sent_ms=10 * k, chunks_ms=[10 * k + 5, 10 * k + 9])
        )
    values = compute(rows, 0, 10_000 * MS, (("ttft", 9.0),), (0, 5000 * MS))

    assert {row.metric.name for row in BUILT_IN if row.formula} == values.keys()


def test_a_stored_metric_without_family_reads():
    """results.json of before families: it is custom."""
    stored = msgspec.to_builtins(LONGEST)
    del stored["family"]

    assert "custom" == msgspec.convert(stored, Metric).family


def test_a_family_that_does_not_exist_is_refused():
    """The message suggests the near one and lists them all."""
    with pytest.raises(BadMetric) as caught:
        register([msgspec.structs.replace(LONGEST, family="trougput")])

    message = str(caught.value)
    assert "declaring the metric longest_gap_ms" in message
    assert "there is no family 'trougput'" in message
    assert "did you mean throughput?" in message
    assert "start_up" in message


@pytest.mark.parametrize("order", [1, -1])
def test_a_declared_family_counts_over_none(order):
    """A run that was stored without families and a hook that has one agree, in either order."""
    stored = msgspec.structs.replace(LONGEST, family="custom")
    for metric in [stored, LONGEST][::order]:
        register([metric])

    assert LONGEST == metrics.METRICS["longest_gap_ms"]


@pytest.mark.parametrize("change", [{"family": "tail"}, {"unit": "s"}])
def test_two_declarations_must_agree(change):
    """The message has the declaration that was first, family included."""
    register([LONGEST])
    with pytest.raises(
        BadMetric, match="declared already: ms, better lower, family itl"
    ):
        register([msgspec.structs.replace(LONGEST, **change)])


def test_a_custom_metric_keeps_its_function():
    """A later declaration without one does not remove it."""
    register(
        [CustomMetric(LONGEST, lambda _rows, duration_s: duration_s), LONGEST]
    )

    assert {"longest_gap_ms": 2.0} == metrics.computed([], 2.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_is_no_number_is_no_value(value):
    """JSON has none for it, and a run that had it could not be read again."""
    register([CustomMetric(LONGEST, lambda _rows, _duration_s: value)])

    assert {} == metrics.computed([], 2.0)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (msgspec.structs.replace(LONGEST, better="smaller"), "at `better`"),
        (msgspec.structs.replace(LONGEST, unit=None), "at `unit`"),
        ("longest_gap_ms", "it is a str"),
        (CustomMetric("longest_gap_ms"), "it is a str"),
    ],
)
def test_a_declaration_that_no_run_could_hold_is_refused(declared, said):
    """Its run could not be read again, and another word than higher was lower."""
    with pytest.raises(BadMetric, match=said):
        register([declared])


@pytest.mark.parametrize("given", ["fast", [1.0], object()])
def test_what_is_no_number_names_the_function(given):
    """The metric, and the file and line of the function."""
    register([CustomMetric(LONGEST, lambda _rows, _duration_s: given)])

    with pytest.raises(BadMetric) as caught:
        metrics.computed([], 1.0)

    assert "computing the metric longest_gap_ms" in str(caught.value)
    assert "test_metrics_table.py:" in str(caught.value)


def test_a_function_that_fails_is_named():
    """Its own exception is what was seen."""

    def worst(rows, duration_s):
        return max(row.ttft_ms for row in rows)

    register([CustomMetric(LONGEST, worst)])

    with pytest.raises(BadMetric, match="worst") as caught:
        metrics.computed([], 1.0)

    assert "max()" in str(caught.value)
