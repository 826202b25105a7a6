"""Stored launches: each launch of a baseline judged by others of it, as it is or worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from perfgate.cases import RATIO_SEPARATOR, Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.judge.baseline_schema import BaselineFile
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.gate import judge
from perfgate.judge.observation import Observation
from perfgate.judge.verdict import Decision
from perfgate.load.metrics import family_of
from perfgate.load.workload import Workload
from perfgate.results.samples import Sample

NUMERATOR, DENOMINATOR = "numerator.", "denominator."


@dataclass(frozen=True)
class StoredMetric:
    """The stored launches of one metric of a CPU."""

    store: Store
    path: Path
    file: BaselineFile
    name: str

    @property
    def launches(self) -> tuple[Sample, ...]:
        """Those that say enough to be judged: later ones are stored without facts."""
        launches = self.file.metrics[self.name].launches
        if family_of(self.name) == "facts":
            return tuple(sample for sample in launches if sample.facts)
        if family_of(self.name) == "answers":
            return tuple(sample for sample in launches if sample.answers)
        return tuple(sample for sample in launches if sample.value is not None)

    @property
    def is_ratio(self) -> bool:
        """Whether it is one load over another."""
        return f"{NUMERATOR}engine" in self.file.identity

    def decision(
        self, sample: Sample, others: Sequence[Sample], factor: float = 1.0
    ) -> Decision:
        """What these launches say of one that is so many times worse."""
        label = self.path.parent.parent.name
        case = self._case()
        baseline = Recorded(
            path=self.path,
            identity=self.file.identity,
            context=self.file.context,
            metric=self.file.metrics[self.name],
            group=self.store.group(case, label),
            chosen=self.file.chosen,
        ).with_launches(others)
        assert sample.value is not None
        worse = factor * sample.value
        if baseline.metric.better == "higher":
            worse = sample.value / factor
        observation = Observation(
            run=sample.run,
            hardware_label=label,
            identity=self.file.identity,
            context=self.file.context,
            samples=(msgspec.structs.replace(sample, value=worse),),
        )
        return judge(case, observation, baseline)

    def _case(self) -> Case:
        """A case of this metric, of servers as far as they decide something."""
        fields = self.file.identity
        numerator, _, denominator = self.path.stem.partition(RATIO_SEPARATOR)
        if not self.is_ratio:
            return Case(
                experiment="",
                metric=self.name,
                numerator=_load(fields, "", numerator),
                two_sided=self.name.startswith("weights"),
            )
        return Case(
            experiment="",
            metric=self.name,
            numerator=_load(fields, NUMERATOR, numerator),
            denominator=_load(fields, DENOMINATOR, denominator or numerator),
            two_sided=True,
        )


def _load(fields: Mapping[str, str], side: str, workload: str) -> Load:
    server = ServerConfig(
        engine=fields[f"{side}engine"],
        model=fields[f"{side}model"],
        device="cpu",
        tensor_parallel_size=int(fields[f"{side}tensor_parallel_size"]),
    )
    sent = Workload(name=workload, num_prompts=1, max_concurrency=1)
    return Load(server=server, workload=sent)
