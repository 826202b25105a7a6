"""What did this run see of a case?

One reading for each launch. The ratio of two servers is taken launch by launch within
one session, the first launch of one over the first of the other: what the machine does
that day then falls on both sides.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from perfgate.cases import Case, Load
from perfgate.engines import injection
from perfgate.judge.identity import context, identity
from perfgate.machine.hardware import Hardware
from perfgate.models.routing import LayerShares
from perfgate.results.samples import LaunchValue, launch_values
from perfgate.results.schema import Launch, Measurement, RunResults

VISIBLE = "CUDA_VISIBLE_DEVICES"
NOT_MEASURED = (
    "this run did not measure it",
    "see the run's skipped tests and logs, then measure again",
)


@dataclass(frozen=True)
class Reading:
    """What one launch (or the pair of launches of a ratio) says.

    Attributes:
        value: None if no repetition was valid.
        of: the numerator of a ratio. over: its denominator.
        invalid: why repetitions do not count.
        shares: where the tokens went, of a launch that was asked for it.

    """

    launch: int
    value: float | None
    of: float | None = None
    over: float | None = None
    invalid: tuple[str, ...] = ()
    shares: LayerShares | None = None


@dataclass(frozen=True)
class Observation:
    """Everything that a judgement needs to know about this run.

    Attributes:
        identity: fields that must equal the baseline's; for a ratio each prefixed "of."
            or "over.".
        context: fields that may differ and are printed when they do.
        machine: which one of its kind it ran on, by the GPUs of its servers; None where
            nothing tells.
        unmeasured: where there is no reading, why and what to do about it.
        injected: what was injected on purpose in its servers, in words.

    """

    run: str
    hardware_label: str
    identity: Mapping[str, str]
    context: Mapping[str, str]
    readings: tuple[Reading, ...]
    machine: str | None = None
    unmeasured: tuple[str, str] = NOT_MEASURED
    injected: str = ""

    @property
    def values(self) -> list[float]:
        """Values of the launches that count."""
        return [reading.value for reading in self.readings if reading.value is not None]

    @property
    def value(self) -> float:
        """Geometric mean of the launches that count."""
        return statistics.geometric_mean(self.values)

    @property
    def shares(self) -> list[LayerShares]:
        """Where the tokens went, of the launches that count."""
        return [
            r.shares
            for r in self.readings
            if r.value is not None and r.shares is not None
        ]

    @property
    def sides(self) -> list[tuple[float, float]]:
        """(numerator, denominator) of the launches that count."""
        return [
            (r.of, r.over)
            for r in self.readings
            if r.value is not None and r.of and r.over
        ]

    @property
    def invalid(self) -> list[str]:
        """Why repetitions or launches do not count."""
        return [
            f"launch {reading.launch}: {reason}"
            for reading in self.readings
            for reason in reading.invalid
        ]


def hardware_label(hardware: Hardware, case: Case) -> str:
    """The folder of the baselines that the case is judged by; of two servers the one on more GPUs counts."""
    return hardware.label(max(load.server.gpu_count for load in case.loads))


class RunReader:
    """Reads cases out of one run; sorts the run once, so that a thousand cases do not search it a thousand times."""

    def __init__(self, results: RunResults) -> None:
        self.results = results
        self._measurements: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
        self._launches: dict[str, list[Launch]] = defaultdict(list)
        self._facts: dict[Load, tuple[dict[str, str], dict[str, str]]] = {}
        for measurement in results.measurements:
            self._measurements[measurement.server, measurement.workload].append(
                measurement
            )
        for launch in results.launches:
            self._launches[launch.server].append(launch)

    def observe(self, case: Case) -> Observation:
        """One reading for each launch of the case."""
        values = [
            launch_values(self._part(load), load, case.metric) for load in case.loads
        ]
        names = ("",) if case.over is None else ("of.", "over.")
        facts = [self._facts_of(load) for load in case.loads]
        return Observation(
            run=self.results.run_id,
            hardware_label=hardware_label(self.results.hardware, case),
            identity={
                prefix + key: text
                for prefix, fact in zip(names, facts, strict=True)
                for key, text in fact[0].items()
            },
            context={
                prefix + key: text
                for prefix, fact in zip(names, facts, strict=True)
                for key, text in fact[1].items()
            },
            readings=_single(values[0])
            if case.over is None
            else _ratios(values[0], values[1]),
            machine=self._machine(case),
            unmeasured=self._unmeasured(case),
            injected=injection.format_injection(self.injected(case)),
        )

    def _machine(self, case: Case) -> str | None:
        """By the GPUs that its servers were launched on."""
        starts = [
            launch.start.env
            for load in case.loads
            for launch in self._launches[load.server.key]
        ]
        used = {
            int(word)
            for env in starts
            for word in env.get(VISIBLE, "").split(",")
            if word.isdigit()
        }
        hardware = self.results.hardware
        return hardware.machine_of(used) if used else hardware.machine_id

    def injected(self, case: Case) -> dict[str, float | str]:
        """What was injected on purpose in the servers of the case."""
        servers = {load.server.key for load in case.loads}
        return {
            name: what
            for key in servers
            for row in self._launches[key]
            for name, what in row.injected.items()
        }

    def cut_off(self, case: Case) -> list[str]:
        """Servers of the case of which a launch was cut off when the run was."""
        cut_off = {launch.server for launch in self.results.cut_off}
        return [
            key
            for key in dict.fromkeys(load.server.key for load in case.loads)
            if key in cut_off
        ]

    def _unmeasured(self, case: Case) -> tuple[str, str]:
        """Why there may be nothing: a server of the case that could not be had."""
        failures = self.results.failures
        key = next(
            (load.server.key for load in case.loads if load.server.key in failures),
            None,
        )
        if key is None:
            return NOT_MEASURED
        log = f" (log: {failures[key].log})" if failures[key].log else ""
        return f"{key} could not be had: {failures[key].seen}", failures[
            key
        ].remedy + log

    def _part(self, load: Load) -> RunResults:
        """The run as if nothing but this load had been measured."""
        return msgspec.structs.replace(
            self.results,
            launches=tuple(self._launches[load.server.key]),
            measurements=tuple(self._measurements[load.server.key, load.workload_name]),
        )

    def _facts_of(self, load: Load) -> tuple[dict[str, str], dict[str, str]]:
        if load not in self._facts:
            part = self._part(load)
            self._facts[load] = identity(part, load), context(part, load)
        return self._facts[load]


def _single(values: tuple[LaunchValue, ...]) -> tuple[Reading, ...]:
    return tuple(
        _checked(Reading(v.launch, v.value, invalid=v.invalid, shares=v.shares))
        for v in values
    )


def _ratios(
    of: tuple[LaunchValue, ...], over: tuple[LaunchValue, ...]
) -> tuple[Reading, ...]:
    """Launches of the same number are paired, then what is left in order: a launch may have died and been replaced."""
    left = {value.launch: value for value in of if value.value is not None}
    right = {value.launch: value for value in over if value.value is not None}
    same = sorted(left.keys() & right.keys())
    rest = zip(
        sorted(left.keys() - right.keys()),
        sorted(right.keys() - left.keys()),
        strict=False,
    )
    pairs = [
        _ratio(left[a], right[b])
        for a, b in [*((launch, launch) for launch in same), *rest]
    ]
    lost = [
        Reading(
            value.launch,
            None,
            invalid=tuple(f"{side}: {reason}" for reason in value.invalid),
        )
        for side, values in (("of", of), ("over", over))
        for value in values
        if value.value is None
    ]
    return tuple(sorted([*pairs, *lost], key=lambda reading: reading.launch))


def _ratio(of: LaunchValue, over: LaunchValue) -> Reading:
    invalid = tuple(f"of: {reason}" for reason in of.invalid) + tuple(
        f"over: {reason}" for reason in over.invalid
    )
    a, b = of.value, over.value
    value = a / b if a is not None and b else math.nan
    return _checked(Reading(of.launch, value, a, b, invalid))


def _checked(reading: Reading) -> Reading:
    """A value that has no logarithm cannot be judged, and says so instead of raising later."""
    if reading.value is None or (math.isfinite(reading.value) and reading.value > 0):
        return reading
    reason = f"the value {reading.value!r} is not a positive number"
    return Reading(reading.launch, None, invalid=(*reading.invalid, reason))
