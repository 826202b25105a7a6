"""What was it before?

One file for each hardware, server and workload:
``<root>/<hardware>/<subject>/<workload>.json``, so that two people who record different
things never touch the same file. Figures that others published lie in
``<root>/published/`` under the same names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from perfgate.cases import Case
from perfgate.files import write_atomically
from perfgate.judge.baseline_schema import (
    BaselineFile,
    LaunchPoint,
    MetricBaseline,
    PublishedFigure,
    PublishedFile,
    read_published,
    read_recorded,
    to_text,
)
from perfgate.judge.policy import Noise, Policy, Scatter, noise_of_baseline

PUBLISHED = "published"


@dataclass(frozen=True)
class Recorded:
    """A recorded metric and the file that it lies in.

    Attributes:
        machines: run -> which one of its kind it was on, as far as it is known.
        only_machine: the one machine that the metric's launches are narrowed to; None
            where all of them count.
        counted_machines: how many machines the metric's launches stand for, one each; 0
            where they are launches.
        elsewhere: how much launches of other machines scatter, where the metric's are
            narrowed to one.
    """

    path: Path
    identity: Mapping[str, str]
    context: Mapping[str, str]
    metric: MetricBaseline
    machines: Mapping[str, str] = field(default_factory=dict)
    only_machine: str | None = None
    counted_machines: int = 0
    elsewhere: Scatter | None = None

    def noise(self, policy: Policy) -> Noise:
        """How much its launches scatter, with what other machines tell of that where it is narrowed to one."""
        return noise_of_baseline(self.metric, policy, self.elsewhere)

    def with_launches(self, launches: Iterable[LaunchPoint]) -> Recorded:
        """The same with these launches in place of its own."""
        return dataclasses.replace(
            self, metric=msgspec.structs.replace(self.metric, launches=tuple(launches))
        )


@dataclass(frozen=True)
class Published:
    """A published metric and the file that it lies in."""

    path: Path
    identity: Mapping[str, str]
    figure: PublishedFigure


Baseline = Recorded | Published


class Store:
    """The baselines under one folder; each file is read once.

    Args:
        root: the folder; what is accepted is written here.
        behind: another store that is asked for what this one does not have; never
            written to.
    """

    def __init__(self, root: Path, behind: Path | None = None) -> None:
        self.root = root
        self.behind = None if behind is None else Store(behind)
        self._read: dict[Path, BaselineFile | PublishedFile | None] = {}

    def path(self, case: Case, hardware_label: str) -> Path:
        """Where the case's recorded baseline lies, or would lie."""
        return self.root / hardware_label / case.subject / f"{case.workload}.json"

    def published_path(self, case: Case, hardware_label: str) -> Path:
        """Where the case's published figure lies, or would lie."""
        return (
            self.root
            / PUBLISHED
            / hardware_label
            / case.subject
            / f"{case.workload}.json"
        )

    def find(self, case: Case, hardware_label: str) -> Baseline | None:
        """The recorded baseline if there is one, else the published figure, else that of the store behind, or None.

        Raises:
            BaselineError: a file is there and cannot be read.

        """
        recorded = self.file(self.path(case, hardware_label))
        if recorded is not None and case.metric in recorded.metrics:
            path = self.path(case, hardware_label)
            metric = recorded.metrics[case.metric]
            return Recorded(
                path, recorded.identity, recorded.context, metric, recorded.machines
            )
        published = self.published(case, hardware_label)
        if published is None and self.behind is not None:
            return self.behind.find(case, hardware_label)
        return published

    def published(self, case: Case, hardware_label: str) -> Published | None:
        """The published figure, whether or not something was recorded."""
        path = self.published_path(case, hardware_label)
        if path not in self._read:
            self._read[path] = read_published(path) if path.exists() else None
        file = self._read[path]
        if not isinstance(file, PublishedFile) or case.metric not in file.metrics:
            return None
        return Published(path, file.identity, file.metrics[case.metric])

    def file(self, path: Path) -> BaselineFile | None:
        """A recorded file, or None where none was recorded."""
        if path not in self._read:
            self._read[path] = read_recorded(path) if path.exists() else None
        file = self._read[path]
        return file if isinstance(file, BaselineFile) else None

    def write(self, path: Path, file: BaselineFile) -> None:
        """Replace a recorded file whole."""
        write_atomically(path, to_text(file))
        self._read[path] = file

    def count(self, hardware_label: str) -> int:
        """Files recorded for this hardware; those of the store behind are not counted."""
        return len(list((self.root / hardware_label).glob("*/*.json")))

    def recorded_ids(self, hardware_label: str) -> set[str]:
        """Ids ("subject/workload/metric") of everything recorded for this hardware, to find what no case asks for."""
        found = set()
        for path in sorted((self.root / hardware_label).glob("*/*.json")):
            file = self.file(path)
            found |= {
                f"{path.parent.name}/{path.stem}/{name}"
                for name in (file.metrics if file else ())
            }
        return found
