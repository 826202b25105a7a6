"""Builders of baseline files, recorded and published."""

from __future__ import annotations

from typing import Any

from perfgate.judge.baseline_schema import (
    BaselineFile,
    MetricBaseline,
    Provenance,
    PublishedFigure,
    PublishedFile,
)
from tests.support import builders as m

STEADY = [1000.0 * factor for factor in m.QUIET]


def recorded_file(
    metrics: dict[str, MetricBaseline] | None = None,
    identity: dict[str, str] | None = None,
    context: dict[str, str] | None = None,
    chosen: dict[str, str] | None = None,
) -> BaselineFile:
    """A recorded file with these metrics, or the throughput."""
    kept = metrics or {
        "output_throughput": m.recorded(m.THROUGHPUT, STEADY).metric
    }
    entry = Provenance(
        run="run-00",
        accepted="2026-06-01",
        suite_version="0.1.0",
        metrics=tuple(kept),
    )
    return BaselineFile(
        identity=identity or {"weights": "auto"},
        chosen=chosen or {},
        context=context or {"driver": "580.1"},
        provenance=(entry,),
        metrics=kept,
    )


def figure(**changes: Any) -> PublishedFigure:
    """A published throughput of 3,000 tok/s."""
    fields: dict[str, Any] = {
        "value": 3000.0,
        "unit": "tok/s",
        "better": "higher",
        "tolerance": 0.25,
        "source": "the study",
        "date": None,
        "holds": True,
        "note": "n",
    }
    return PublishedFigure(**fields | changes)


def published_file(value: float = 3000.0) -> PublishedFile:
    """A published file with one figure."""
    return PublishedFile(
        identity={"weights": "auto"},
        metrics={"output_throughput": figure(value=value)},
    )
