"""In which forms does a team's own dashboard read the history?"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from perfgate.history.series import Entry
from perfgate.judge.verdict import GREEN
from perfgate.load.metrics import METRICS

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


def comma_separated(entries: Iterable[Entry]) -> str:
    """CSV with a line for each run and case; launches are separated by spaces."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in entries:
        metric, unit = _metric(entry)
        launches = " ".join(f"{value:.6g}" for value in entry.launches)
        value = f"{entry.value:.6g}"
        row = (
            entry.run,
            entry.started,
            entry.hardware,
            entry.case,
            metric,
            unit,
            value,
            launches,
            entry.outcome or "",
        )
        writer.writerow(row)
    return out.getvalue()


def openmetrics(entries: Sequence[Entry]) -> str:
    """OpenMetrics text: the newest value of each case on each hardware, with its time, and whether it passed."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.openmetrics.exposition import generate_latest

    newest = {(entry.case, entry.hardware): entry for entry in entries}

    class Newest:
        def collect(self) -> Iterator[Metric]:
            names = ("case", "hardware", "metric", "unit", "run")
            value = GaugeMetricFamily(
                "perfgate_value", "Newest value of a case, in its unit.", labels=names
            )
            good = GaugeMetricFamily(
                "perfgate_passed",
                "1 if the case PASSED or IMPROVED, else 0.",
                labels=names,
            )
            for (case, hardware), entry in newest.items():
                labels, at = (
                    (case, hardware, *_metric(entry), entry.run),
                    _unix_s(entry.started),
                )
                value.add_metric(labels, entry.value, timestamp=at)
                good.add_metric(labels, float(entry.outcome in GREEN), timestamp=at)
            yield value
            yield good

    registry = CollectorRegistry()
    registry.register(Newest())
    return bytes(generate_latest(registry)).decode()  # type: ignore[no-untyped-call]


def _metric(entry: Entry) -> tuple[str, str]:
    """(metric, unit); a ratio has none."""
    name = entry.case.rsplit("/", 1)[-1]
    known = METRICS.get(name)
    return name, "" if known is None or "--over--" in entry.case else known.unit


def _unix_s(started: str) -> float:
    moment = datetime.datetime.fromisoformat(started)
    return (
        moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    ).timestamp()
