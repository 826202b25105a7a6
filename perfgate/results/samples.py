"""What does each launch say about a metric of a load?"""

from __future__ import annotations

import statistics

import msgspec

from perfgate.cases import Load
from perfgate.models.routing import LayerShares
from perfgate.results.schema import Measurement, RunResults


class LaunchValue(msgspec.Struct, frozen=True, kw_only=True):
    """What one launch says about one metric of one load.

    Attributes:
        value: median over the valid repetitions; None if there is none, or the server
            died or failed requests.
        invalid: why repetitions do not count; all of them are named.
        shares: where the tokens went, of a launch that was asked for it.

    """

    launch: int
    value: float | None
    repetition_values: tuple[float, ...]
    invalid: tuple[str, ...] = ()
    shares: LayerShares | None = None


def launch_values(
    results: RunResults, load: Load, metric: str
) -> tuple[LaunchValue, ...]:
    """The metric of the load on each launch of this run, in order of launch."""
    key = load.server.key
    if load.workload is None:
        rows = [
            launch
            for launch in results.launches
            if launch.server == key and metric in launch.values
        ]
        return tuple(
            LaunchValue(
                launch=row.index,
                value=row.values[metric],
                repetition_values=(row.values[metric],),
            )
            for row in rows
        )
    name = load.workload.name
    return tuple(
        _median_of(measurement, metric)
        for measurement in sorted(results.measurements, key=lambda m: m.launch)
        if measurement.server == key and measurement.workload == name
    )


def _median_of(measurement: Measurement, metric: str) -> LaunchValue:
    valid = [r for r in measurement.repetitions if not r.invalid]
    values = tuple(r.values[metric] for r in valid if metric in r.values)
    reasons = [reason for r in measurement.repetitions for reason in r.invalid]
    if measurement.error:
        reasons.append(measurement.error)
    if valid and not values:
        reasons.append(f"{metric} could not be computed from this workload")
    shares = None
    if measurement.routing is not None:
        from perfgate.models.routing_stats import summary  # here: it loads numpy

        shares = summary(measurement.routing)
    return LaunchValue(
        launch=measurement.launch,
        # A server that died, or failed requests, was not itself before, either.
        value=statistics.median(values) if values and measurement.is_sound else None,
        repetition_values=values,
        invalid=tuple(reasons),
        shares=shares,
    )
