"""Exports of the history: CSV and OpenMetrics."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from perfgate.cases import is_ratio
from perfgate.history.series import Entry
from perfgate.judge.verdict import GREEN

if TYPE_CHECKING:
    from prometheus_client import Metric

COLUMNS = (
    "run",
    "started",
    "hardware",
    "case",
    "metric",
    "unit",
    "value",
    "launches",
    "outcome",
)
LABELS = ("case", "hardware", "metric", "unit", "run")


def to_csv(entries: Iterable[Entry]) -> str:
    """CSV with a line for each run and case; launches are separated by spaces."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in entries:
        metric, unit = _metric_and_unit(entry)
        row = (
            entry.run,
            entry.started,
            entry.hardware,
            entry.case,
            metric,
            unit,
            f"{entry.value:.6g}",
            " ".join(f"{value:.6g}" for value in entry.launches),
            entry.outcome or "",
        )
        writer.writerow(row)
    return output.getvalue()


class _Newest:
    """A collector of the newest entry of each case on each hardware."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = {
            (entry.case, entry.hardware): entry for entry in entries
        }

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        value = GaugeMetricFamily(
            "perfgate_value",
            "Newest value of a case, in its unit.",
            labels=LABELS,
        )
        passed = GaugeMetricFamily(
            "perfgate_passed",
            "1 if the case PASSED or IMPROVED, else 0.",
            labels=LABELS,
        )
        for (case, hardware), entry in self._entries.items():
            labels = (case, hardware, *_metric_and_unit(entry), entry.run)
            is_green = float(entry.outcome in GREEN)
            at_s = _unix_s(entry.started)
            value.add_metric(labels, entry.value, timestamp=at_s)
            passed.add_metric(labels, is_green, timestamp=at_s)
        yield value
        yield passed


def openmetrics(entries: Sequence[Entry]) -> str:
    """OpenMetrics text: newest value, its time and whether it passed.

    One of each for every case on each hardware.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.openmetrics.exposition import generate_latest

    registry = CollectorRegistry()
    registry.register(_Newest(entries))
    return bytes(generate_latest(registry)).decode()  # type: ignore[no-untyped-call]


def _metric_and_unit(entry: Entry) -> tuple[str, str]:
    """(metric, unit); a ratio has no unit."""
    if is_ratio(entry.case):
        return entry.metric, ""
    return entry.metric, entry.unit


def _unix_s(started: str) -> float | None:
    """The time of a run; None where it is none, as in a run that was edited."""
    try:
        moment = datetime.datetime.fromisoformat(started)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()
