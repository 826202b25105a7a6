"""Observation: what one run measured of a case, with identity, choices and context of its servers.

The samples come from the index of the run (`perfgate.results.samples`), one for each
launch, or for each pair of launches of a ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perfgate.cases import Case, Load
from perfgate.engines import injection
from perfgate.judge import portable, wording
from perfgate.judge.identity import chosen, context, identity, ratio_fields
from perfgate.judge.noise_learning import LEARNED_FAMILIES
from perfgate.judge.repetition_scatter import launch_variance
from perfgate.load.metrics import family_of
from perfgate.machine.hardware import Hardware
from perfgate.models.routing import LayerShares
from perfgate.results.samples import (
    CUT_OFF,
    RunIndex,
    Sample,
    Side,
    mean_of,
    sides_of,
    values_of,
)
from perfgate.results.schema import RunResults

VISIBLE = "CUDA_VISIBLE_DEVICES"
Fields = dict[str, str]
NOT_MEASURED = (
    "this run did not measure it",
    "See the run's skipped tests and logs, then measure again.",
)
NOT_REACHED = ("the run ended before it was measured", wording.RESUME)


@dataclass(frozen=True)
class Decoding:
    """What tells whether a load's decode speed is possible.

    Attributes:
        itl_over_tpot: median of the inter-token latency over that of the time per
            output token; None where one is unknown.
        bandwidth_utilisation: of the GPUs' data sheet; None where it is unknown.
        short_gap_share: of the gaps between chunks; None of an older run.
        tokens_per_chunk: None of an older run.
    """

    itl_over_tpot: float | None = None
    bandwidth_utilisation: float | None = None
    short_gap_share: float | None = None
    tokens_per_chunk: float | None = None


@dataclass(frozen=True)
class Observation:
    """What a judgement needs to know about a case of this run.

    Attributes:
        identity: fields that must equal the baseline's; for a ratio each prefixed
            "numerator." or "denominator.".
        context: fields that may differ and are printed when they do; prefixed alike.
        chosen: what the engine chose by itself; prefixed alike.
        samples: one for each launch; those that do not count as well.
        machine: which one of its kind it ran on, by the GPUs of its servers; None where
            that is unknown.
        unmeasured: where there is no sample, why and what to do about it.
        injected: what was changed on purpose in its servers, as text.
        judged_rows: cases of the run that noise may fail; they share its false alarms.
        fail_over: ceilings that the run asks for, as in `RunResults.fail_over`.
        decoding: of each load, the numerator first.
        repetition_variance: of the value of a launch (log), at least, as its repetitions
            tell; of a ratio the sum of both sides.
        cut_short: launches whose server died, or that were cut off: others took their
            place.

    """

    run: str
    hardware_label: str
    identity: Mapping[str, str]
    context: Mapping[str, str]
    samples: tuple[Sample, ...]
    machine: str | None = None
    unmeasured: tuple[str, str] = NOT_MEASURED
    injected: str = ""
    judged_rows: int = 1
    fail_over: Mapping[str, float] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)
    decoding: tuple[Decoding, ...] = ()
    repetition_variance: float = 0.0
    cut_short: frozenset[int] = frozenset()

    @property
    def values(self) -> list[float]:
        """Values of the launches that count."""
        return values_of(self.samples)

    @property
    def value(self) -> float:
        """Geometric mean of the launches that count."""
        return mean_of(self.values)

    @property
    def shares(self) -> list[LayerShares]:
        """Where the tokens went, of the launches that count."""
        shares = []
        for sample in self.samples:
            if sample.value is not None and sample.shares is not None:
                shares.append(sample.shares)
        return shares

    @property
    def sides(self) -> list[Side]:
        """(numerator, denominator) of the launches that count."""
        return sides_of(self.samples)

    @property
    def invalid(self) -> list[str]:
        """Why repetitions or launches do not count."""
        reasons = []
        for sample in self.samples:
            for reason in sample.invalid:
                reasons.append(f"launch {sample.launch}: {reason}")
        return reasons

    @property
    def was_cut_off(self) -> bool:
        """Whether the end of the run alone is why launches do not count."""
        lacking = [row for row in self.samples if row.value is None]
        return bool(lacking) and all(map(_is_cut_off, lacking))


def _is_cut_off(sample: Sample) -> bool:
    return any(reason.endswith(CUT_OFF.seen) for reason in sample.invalid)


def hardware_label(hardware: Hardware, case: Case) -> str:
    """The folder of the case's baselines; of two servers the one on more GPUs counts.

    What is the same on every processor has one folder for all of them.
    """
    gpu_count = max(load.server.gpu_count for load in case.loads)
    return portable.label(case.metric, hardware.label(gpu_count))


class RunReader:
    """Observes the cases of one run; indexes the run once.

    Attributes:
        index: the samples of the run, which reports show with the verdicts.
    """

    def __init__(self, results: RunResults) -> None:
        self.results = results
        self.index = RunIndex(results)
        self._judged_rows = noisy_rows(results.cases)
        self._fields: dict[Load, tuple[Fields, Fields, Fields]] = {}

    def observe(self, case: Case) -> Observation:
        """What the run measured of the case."""
        label = hardware_label(self.results.hardware, case)
        identities = []
        choices = []
        contexts = []
        for load in case.loads:
            load_identity, load_choices, load_context = self._fields_of(load)
            identities.append(portable.identity(label, load_identity))
            choices.append(load_choices)
            contexts.append(load_context)
        return Observation(
            run=self.results.run_id,
            hardware_label=label,
            identity=ratio_fields(identities),
            context=ratio_fields(contexts),
            samples=self.index.samples(case),
            machine=self._machine(case),
            unmeasured=self._unmeasured(case),
            injected=injection.format_injection(self.injected(case)),
            judged_rows=self._judged_rows,
            fail_over=self.results.fail_over,
            chosen=ratio_fields(choices),
            decoding=tuple(map(self._decoding, case.loads)),
            repetition_variance=self._repetition_variance(case),
            cut_short=self._cut_short(case),
        )

    def _cut_short(self, case: Case) -> frozenset[int]:
        """Launches of the case's loads that did not live through them."""
        numbers = set()
        for load in case.loads:
            if load.workload is None:
                continue
            for row in self.index.measurements(
                load.server.key, load.workload.name
            ):
                if row.failure is not None:
                    numbers.add(row.launch)
        return frozenset(numbers)

    def _repetition_variance(self, case: Case) -> float:
        """Of the value of a launch; 0 for a metric of the server itself."""
        variance = 0.0
        for load in case.loads:
            if load.workload is None:
                continue
            launches = self.index.repetition_values(
                load.server.key, load.workload.name, case.metric
            )
            variance += launch_variance(launches.values())
        return variance

    def _decoding(self, load: Load) -> Decoding:
        """Decode figures of a load, by the launches that count."""
        itl_ms = self._mean(load, "itl_median_ms")
        tpot_ms = self._mean(load, "tpot_median_ms")
        itl_over_tpot = None
        if itl_ms is None and self._has_no_gaps(load):
            itl_ms = 0.0
        if itl_ms is not None and tpot_ms is not None:
            itl_over_tpot = itl_ms / tpot_ms
        utilisation = self._mean(load, "bandwidth_utilisation")
        return Decoding(
            itl_over_tpot,
            utilisation,
            self._pieces(load, "short_gap_share"),
            self._pieces(load, "tokens_per_chunk"),
        )

    def _has_no_gaps(self, load: Load) -> bool:
        """Whether the median gap is nothing: no sample, for it has no logarithm."""
        if load.workload is None:
            return False
        server, workload = load.server.key, load.workload.name
        for row in self.index.valid_measurements(server, workload):
            for repetition in row.repetitions:
                if repetition.values.get("itl_median_ms") == 0:
                    return True
        return False

    def _pieces(self, load: Load, name: str) -> float | None:
        """In what pieces tokens came, by the launches that count; None if unknown."""
        if load.workload is None:
            return None
        values = []
        server, workload = load.server.key, load.workload.name
        for row in self.index.valid_measurements(server, workload):
            for repetition in row.repetitions:
                if name in repetition.client_values:
                    values.append(repetition.client_values[name])
        if not values:
            return None
        return sum(values) / len(values)

    def _mean(self, load: Load, metric: str) -> float | None:
        """A metric of a load; None where no launch has it."""
        if load.workload is None:
            return None
        samples = self.index.samples_of(
            load.server.key, load.workload.name, metric
        )
        values = values_of(samples)
        if not values:
            return None
        return mean_of(values)

    def _machine(self, case: Case) -> str | None:
        """By the GPUs that the case's servers were launched on."""
        hardware = self.results.hardware
        by_uuid = {gpu.uuid: gpu.index for gpu in hardware.gpus}
        gpus: set[int] = set()
        for load in case.loads:
            for launch in self.index.launches(load.server.key):
                visible = launch.start.env.get(VISIBLE, "")
                for name in visible.split(","):
                    if name.isdigit():
                        gpus.add(int(name))
                    elif name in by_uuid:
                        gpus.add(by_uuid[name])
        if not gpus:
            return hardware.machine_id
        return hardware.machine_of(gpus)

    def injected(self, case: Case) -> dict[str, float | str]:
        """What was changed on purpose in the servers of the case."""
        changes: dict[str, float | str] = {}
        for key in {load.server.key for load in case.loads}:
            for launch in self.index.launches(key):
                changes |= launch.injected
        return changes

    def cut_off(self, case: Case) -> list[str]:
        """Servers of the case with a launch that was cut off when the run was."""
        cut_off = {launch.server for launch in self.results.cut_off}
        servers = dict.fromkeys(load.server.key for load in case.loads)
        return [key for key in servers if key in cut_off]

    def _unmeasured(self, case: Case) -> tuple[str, str]:
        """Why there may be no sample: a server failed, or the run ended before."""
        failures = self.results.failures
        for load in case.loads:
            key = load.server.key
            if key in failures:
                failure = failures[key]
                remedy = failure.remedy
                if failure.log:
                    remedy += f" (log: {failure.log})"
                return f"{key} failed: {failure.seen}", remedy
        if not self.results.complete and self._lacks_server(case):
            return NOT_REACHED
        return NOT_MEASURED

    def _lacks_server(self, case: Case) -> bool:
        """Whether a server of the case was never launched, or cut off each time."""
        for load in case.loads:
            launches = self.index.launches(load.server.key)
            if not any(launch.measured for launch in launches):
                return True
        return False

    def _fields_of(self, load: Load) -> tuple[Fields, Fields, Fields]:
        """Identity, choices and context."""
        if load not in self._fields:
            self._fields[load] = (
                identity(self.results, load),
                chosen(self.results, load),
                context(self.results, load),
            )
        return self._fields[load]


def noisy_rows(cases: Sequence[Case]) -> int:
    """How many of the cases are judged and vary from launch to launch: they share false alarms."""
    return sum(is_noisy(case) for case in cases)


def is_noisy(case: Case) -> bool:
    """Whether the case is judged and varies from launch to launch."""
    return case.gate == "hard" and family_of(case.metric) in LEARNED_FAMILIES
