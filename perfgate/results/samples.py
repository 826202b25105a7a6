"""Samples: what each launch says about a case, and the index of a run that they come from.

A launch counts with the median of its valid repetitions. A launch whose server died or
failed requests has no value, however well it did before and after. The gate, the
figures and the history read the same index, so none of them shows a launch that another
one leaves out.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from perfgate.cases import Case
from perfgate.errors import FailureRow
from perfgate.load.metrics import family_of
from perfgate.load.repetition import Repetition
from perfgate.models.routing import LayerShares
from perfgate.results.answer import Answer
from perfgate.results.facts import OF_LAUNCHES, OF_LOADS
from perfgate.results.schema import Launch, Measurement, RunResults

LoadKey = tuple[str, str]  # server, workload
Side = tuple[float, float]  # numerator, denominator
SampleKey = tuple[str, str | None, str]  # server, workload, metric
# What a launch says of the engine's compile cache -> the kind of its start.
STARTS: Mapping[str, str] = {"cold": "cold", "hit": "warm"}
CUT_OFF = FailureRow(
    tried="measuring a launch",
    seen="cut off: the session ended while this launch was measured",
    remedy="resume the run: pytest --run-dir=RUN --resume",
)


class Sample(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """What one launch of one run says about a metric; baseline files store these.

    Attributes:
        run: id of the run.
        launch: 0 for the first launch of the server in the run. For a ratio the launch
            of the numerator.
        value: in the metric's unit, positive and finite; None where the launch does not
            count.
        numerator: value of the first load of a ratio.
        denominator: value of the second load of a ratio.
        invalid: why repetitions, or the whole launch, do not count.
        shares: which share of the tokens each expert got, where the launch was asked.
        answers: to the fixed prompts, of the metric that they are judged by.
        start: of a metric of the start, "cold" or "warm" by the engine's compile cache;
            "" where that is unknown.
        facts: what the launch says of itself, of metrics that have facts
            (`perfgate.results.facts`).
    """

    run: str
    launch: int
    value: float | None
    numerator: float | None = None
    denominator: float | None = None
    invalid: tuple[str, ...] = ()
    shares: LayerShares | None = None
    answers: tuple[Answer, ...] = ()
    start: str = ""
    facts: dict[str, str] = {}


def valid_repetitions(measurement: Measurement) -> list[Repetition]:
    """The repetitions that count; none where the server died or failed a request."""
    if not measurement.is_sound:
        return []
    return [row for row in measurement.repetitions if not row.invalid]


def counted(samples: Iterable[Sample]) -> list[Sample]:
    """Those with a value: the others do not count."""
    return [sample for sample in samples if sample.value is not None]


def values_of(samples: Sequence[Sample]) -> list[float]:
    """Values of the launches that count."""
    return [sample.value for sample in samples if sample.value is not None]


def in_time_order(samples: Iterable[Sample]) -> list[Sample]:
    """The samples in the order of their launches: ids of runs begin with their time."""
    return sorted(samples, key=lambda sample: (sample.run, sample.launch))


def launches_by_machine(
    launches: Iterable[Sample], machines: Mapping[str, str]
) -> dict[str | None, list[Sample]]:
    """Machine -> its launches; None for those whose machine is unknown.

    Args:
        machines: run -> machine.
    """
    by_machine: dict[str | None, list[Sample]] = defaultdict(list)
    for sample in launches:
        by_machine[machines.get(sample.run)].append(sample)
    return dict(by_machine)


def sides_of(samples: Iterable[Sample]) -> list[Side]:
    """(numerator, denominator) of the launches of a ratio that have both."""
    sides = []
    for sample in samples:
        if sample.numerator is not None and sample.denominator is not None:
            sides.append((sample.numerator, sample.denominator))
    return sides


def mean_of(values: Iterable[float]) -> float:
    """The value of several launches, as the gate judges it: their geometric mean.

    Args:
        values: at least one, each positive.
    """
    return statistics.geometric_mean(values)


class RunIndex:
    """Index of one run by server and workload; built once, read by all who judge or show it."""

    def __init__(self, results: RunResults) -> None:
        self.results = results
        self._launches: dict[str, list[Launch]] = defaultdict(list)
        self._measurements: dict[LoadKey, list[Measurement]] = defaultdict(list)
        self._samples: dict[SampleKey, tuple[Sample, ...]] = {}
        self._shares: dict[tuple[str, str, int], LayerShares] = {}
        for launch in results.launches:
            self._launches[launch.server].append(launch)
        self._cut_off = {(row.server, row.index) for row in results.cut_off}
        for measurement in results.measurements:
            load = measurement.server, measurement.workload
            if (measurement.server, measurement.launch) in self._cut_off:
                measurement = _not_whole(measurement)
            self._measurements[load].append(measurement)
        for measurements in self._measurements.values():
            measurements.sort(key=lambda row: row.launch)

    @property
    def loads(self) -> list[tuple[str, str]]:
        """(server, workload) of every load that was measured, in order of first mention."""
        return list(self._measurements)

    def launches(self, server: str) -> Sequence[Launch]:
        """Starts of a server."""
        return self._launches.get(server, ())

    def measurements(self, server: str, workload: str) -> Sequence[Measurement]:
        """Measurements of a load, one for each launch; those that do not count as well."""
        return self._measurements.get((server, workload), ())

    def valid_measurements(
        self, server: str, workload: str
    ) -> list[Measurement]:
        """Measurements of a load with at least one repetition that counts."""
        rows = self.measurements(server, workload)
        return [row for row in rows if valid_repetitions(row)]

    def repetitions(self, server: str, workload: str) -> list[Repetition]:
        """Repetitions of a load that count, of the launches that count."""
        repetitions: list[Repetition] = []
        for measurement in self.measurements(server, workload):
            repetitions += valid_repetitions(measurement)
        return repetitions

    def repetition_values(
        self, server: str, workload: str, metric: str
    ) -> dict[int, list[float]]:
        """Launch -> the metric of each of its repetitions, for the launches that count."""
        counted = set()
        for sample in self.samples_of(server, workload, metric):
            if sample.value is not None:
                counted.add(sample.launch)
        values = {}
        for measurement in self.measurements(server, workload):
            if measurement.launch in counted:
                values[measurement.launch] = _values(measurement, metric)
        return values

    def samples(self, case: Case) -> tuple[Sample, ...]:
        """What each launch says about the case; launches that do not count as well.

        A ratio is taken launch by launch within the run, the first launch of one server
        over the first of the other: what the machine does that day falls on both.
        """
        sides = []
        for load in case.loads:
            workload = None
            if load.workload is not None:
                workload = load.workload.name
            key = load.server.key
            sides.append(self.samples_of(key, workload, case.metric))
        if len(sides) == 1:
            return sides[0]
        return _ratios(*sides)

    def samples_of(
        self, server: str, workload: str | None, metric: str
    ) -> tuple[Sample, ...]:
        """What each launch of one load says about a metric.

        Args:
            workload: None for a metric of the server itself; a launch that lacks the
                metric has no sample then.
        """
        key = server, workload, metric
        if key not in self._samples:
            if workload is None:
                samples = self._server_samples(server, metric)
            else:
                rows = self.measurements(server, workload)
                samples = [self._sample(row, metric) for row in rows]
            self._samples[key] = tuple(samples)
        return self._samples[key]

    def _server_samples(self, server: str, metric: str) -> list[Sample]:
        samples = []
        for launch in self.launches(server):
            sample = self._server_sample(launch, metric)
            if sample is None:
                continue
            match family_of(metric):
                case "answers":
                    sample = msgspec.structs.replace(
                        sample, answers=launch.answer_tokens
                    )
                case "start_up":
                    state = launch.facts.get("compile_cache", "")
                    start = STARTS.get(state, "")
                    sample = msgspec.structs.replace(sample, start=start)
            if (server, launch.index) in self._cut_off:
                sample = msgspec.structs.replace(
                    sample, value=None, invalid=(CUT_OFF.seen,)
                )
            samples.append(_positive(sample))
        return samples

    def _server_sample(self, launch: Launch, metric: str) -> Sample | None:
        """What a launch itself says; None where it lacks the metric."""
        run, index = self.results.run_id, launch.index
        if metric in OF_LAUNCHES:
            facts = OF_LAUNCHES[metric](launch)
            if not facts:
                return None
            value = float(len(facts))
            return Sample(run=run, launch=index, value=value, facts=facts)
        if metric not in launch.values:
            return None
        return Sample(run=run, launch=index, value=launch.values[metric])

    def _sample(self, measurement: Measurement, metric: str) -> Sample:
        values = _values(measurement, metric)
        value = None
        if values:
            value = statistics.median(values)
        facts = {}
        if metric in OF_LOADS:
            facts = OF_LOADS[metric](measurement)
        sample = Sample(
            run=self.results.run_id,
            launch=measurement.launch,
            value=value,
            invalid=_reasons(measurement, metric),
            shares=self._shares_of(measurement),
            facts=facts,
        )
        return _positive(sample)

    def _shares_of(self, measurement: Measurement) -> LayerShares | None:
        if measurement.routing is None:
            return None
        key = measurement.server, measurement.workload, measurement.launch
        if key not in self._shares:
            # Imported here: it loads numpy.
            from perfgate.models.routing_stats import summary

            self._shares[key] = summary(measurement.routing)
        return self._shares[key]


def _not_whole(measurement: Measurement) -> Measurement:
    """A measurement of a launch that was cut off: fewer repetitions are another statistic."""
    if measurement.failure is not None:
        return measurement
    return msgspec.structs.replace(measurement, failure=CUT_OFF)


def _values(measurement: Measurement, metric: str) -> list[float]:
    """The metric of each repetition that counts."""
    values = []
    for repetition in valid_repetitions(measurement):
        if metric in repetition.values:
            values.append(repetition.values[metric])
    return values


def _reasons(measurement: Measurement, metric: str) -> tuple[str, ...]:
    """Why repetitions of a launch, or all of it, do not count."""
    reasons: list[str] = []
    has_valid = False
    has_metric = False
    for repetition in measurement.repetitions:
        reasons += repetition.invalid
        if not repetition.invalid:
            has_valid = True
            has_metric = has_metric or metric in repetition.values
    if measurement.failure is not None:
        reasons.append(_death(measurement.failure))
    if has_valid and not has_metric:
        reasons.append(f"{metric} could not be computed from this workload")
    return tuple(reasons)


def _death(failure: FailureRow) -> str:
    """How the server died, and the log that has more."""
    if failure.log is None:
        return failure.seen
    return f"{failure.seen} (log: {failure.log})"


def _ratios(
    numerators: Sequence[Sample], denominators: Sequence[Sample]
) -> tuple[Sample, ...]:
    """Ratios of launches of the same number, then of those left over in order.

    A launch that died is replaced by one of another number.
    """
    above = _by_launch(numerators)
    below = _by_launch(denominators)
    common = above.keys() & below.keys()
    pairs = [(launch, launch) for launch in common]
    rest_above = sorted(above.keys() - common)
    rest_below = sorted(below.keys() - common)
    pairs += zip(rest_above, rest_below, strict=False)
    ratios = []
    for first, second in pairs:
        ratios.append(_ratio(above[first], below[second]))
    ratios += _without_value(numerators, "numerator")
    ratios += _without_value(denominators, "denominator")
    return tuple(sorted(ratios, key=lambda sample: sample.launch))


def _by_launch(samples: Sequence[Sample]) -> dict[int, Sample]:
    """Launch -> its sample, for the launches that count."""
    launches = {}
    for sample in samples:
        if sample.value is not None:
            launches[sample.launch] = sample
    return launches


def _ratio(numerator: Sample, denominator: Sample) -> Sample:
    above, below = numerator.value, denominator.value
    assert above is not None
    assert below is not None
    above_reasons = _on_side(numerator, "numerator")
    below_reasons = _on_side(denominator, "denominator")
    sample = Sample(
        run=numerator.run,
        launch=numerator.launch,
        value=above / below,
        numerator=above,
        denominator=below,
        invalid=above_reasons + below_reasons,
    )
    return _positive(sample)


def _without_value(samples: Sequence[Sample], side: str) -> list[Sample]:
    """One side's launches that do not count, each with its reasons."""
    invalid = []
    for sample in samples:
        if sample.value is None:
            reasons = _on_side(sample, side)
            row = Sample(
                run=sample.run,
                launch=sample.launch,
                value=None,
                invalid=reasons,
            )
            invalid.append(row)
    return invalid


def _on_side(sample: Sample, side: str) -> tuple[str, ...]:
    return tuple(f"{side}: {reason}" for reason in sample.invalid)


def _positive(sample: Sample) -> Sample:
    """The sample without a value that has no logarithm: it cannot be judged."""
    value = sample.value
    if value is None or (math.isfinite(value) and value > 0):
        return sample
    reason = f"the value {value!r} is not a positive number"
    return Sample(
        run=sample.run,
        launch=sample.launch,
        value=None,
        invalid=(*sample.invalid, reason),
    )
