"""Baseline store: one file for each hardware, server and workload.

``<root>/<hardware>/<subject>/<workload>.json``, so that two people who record different
things never touch the same file. Figures that others published lie in
``<root>/published/`` under the same names.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from perfgate.cases import Case, is_ratio
from perfgate.files import is_named, write_atomically
from perfgate.judge import noise_learning, noise_table, portable
from perfgate.judge.baseline_schema import (
    BaselineFile,
    MetricBaseline,
    PublishedFigure,
    PublishedFile,
    read_published,
    read_recorded,
    to_text,
)
from perfgate.judge.contrast import ServerRows, recorded_row
from perfgate.judge.noise import (
    MachinesLaunches,
    Noise,
    PooledVariation,
    noise_of_baseline,
    noise_of_machines,
)
from perfgate.judge.noise_learning import Series
from perfgate.judge.noise_table import ContrastName, GroupNoise, NoiseTable
from perfgate.judge.policy import Policy
from perfgate.judge.portable import ANY_CPU, ONE_CPU
from perfgate.load.workload import Arrivals
from perfgate.results.samples import Sample

PUBLISHED = "published"


@dataclass(frozen=True)
class Recorded:
    """A recorded metric and its file.

    Attributes:
        machines: run -> which one of its kind it was on, as far as it is known.
        only_machine: the one machine that the metric's launches are narrowed to; None
            where all of them count.
        elsewhere: launch-to-launch variation of other machines, where the metric's
            launches are narrowed to one.
        machines_launches: how launches vary within the machines that the metric's
            launches stand for, one each; None where they are launches.
        group: what the whole store says of such a metric under such a load; None where
            it does not know it.
        chosen: what the engine chose by itself.
    """

    path: Path
    identity: Mapping[str, str]
    context: Mapping[str, str]
    metric: MetricBaseline
    machines: Mapping[str, str] = field(default_factory=dict)
    only_machine: str | None = None
    elsewhere: PooledVariation | None = None
    machines_launches: MachinesLaunches | None = None
    group: GroupNoise | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)

    @property
    def counted_machines(self) -> int:
        """How many machines the metric's launches stand for; 0 where they are launches."""
        if self.machines_launches is None:
            return 0
        return len(self.metric.launches)

    def noise(self, policy: Policy) -> Noise:
        """Its launch-to-launch variation; machine to machine where each counts once."""
        launches, machines = None, None
        if self.group is not None:
            launches, machines = self.group.launches, self.group.machines
        if self.machines_launches is not None:
            return noise_of_machines(
                self.metric, policy, self.machines_launches, machines, launches
            )
        return noise_of_baseline(self.metric, policy, self.elsewhere, launches)

    def with_launches(self, launches: Iterable[Sample]) -> Recorded:
        """The same with these launches in place of its own."""
        metric = msgspec.structs.replace(self.metric, launches=tuple(launches))
        return dataclasses.replace(self, metric=metric)


@dataclass(frozen=True)
class Published:
    """A published metric and its file."""

    path: Path
    identity: Mapping[str, str]
    figure: PublishedFigure


Baseline = Recorded | Published


class Store:
    """The baselines under one folder; each file is read once.

    Args:
        root: the folder; what is accepted is written here.
        behind: another store for what this one does not have; never written to.
        noise: folder whose noise table counts where those of the stores know nothing.
        in_commands: with which words commands name this store (" --baselines DIR"); ""
            where they take it by themselves.
    """

    def __init__(
        self,
        root: Path,
        behind: Path | None = None,
        noise: Path | None = None,
        in_commands: str = "",
    ) -> None:
        self.root = root
        self.in_commands = in_commands
        self.behind: Store | None = None
        if behind is not None:
            self.behind = Store(behind)
        self._recorded: dict[Path, BaselineFile | None] = {}
        self._left_out: str | None = None
        self._accepted: dict[Path, frozenset[str]] = {}
        self._published: dict[Path, PublishedFile | None] = {}
        self._noise_folders = [
            folder for folder in (root, behind, noise) if folder is not None
        ]

    def without_run(self, run: str) -> Store:
        """The same store as if a run had not been accepted: none is held against itself.

        What the noise table has learned from it stays.

        Args:
            run: its id.
        """
        other = copy.copy(self)
        other._recorded = {}
        other._accepted = {}
        other._left_out = run
        if self.behind is not None:
            other.behind = self.behind.without_run(run)
        return other

    def has_left_out(self, case: Case, hardware_label: str) -> bool:
        """Whether launches of the run that is left out were accepted for the case.

        Those of the store behind are none that `perfgate accept` would look for.
        """
        path = self.path(case, hardware_label)
        self.file(path)
        return case.metric in self._accepted.get(path, ())

    def path(self, case: Case, hardware_label: str) -> Path:
        """The file of the case's recorded baseline, whether or not it exists."""
        return self._path(self.root, case, hardware_label)

    def published_path(self, case: Case, hardware_label: str) -> Path:
        """The file of the case's published figure, whether or not it exists.

        Even routing stands for that of the model, with which figures were published.
        """
        if case.stated_routings == {"uniform"}:
            case = case.routed_by_model
        return self._path(self.root / PUBLISHED, case, hardware_label)

    @staticmethod
    def _path(root: Path, case: Case, hardware_label: str) -> Path:
        return root / hardware_label / case.subject / f"{case.workload}.json"

    def find(self, case: Case, hardware_label: str) -> Baseline | None:
        """The recorded baseline, else the published figure, else that of the store behind.

        Raises:
            BaselineError: a file is there and cannot be read.

        """
        path = self._recorded_path(case, hardware_label)
        file = self.file(path)
        if file is not None and case.metric in file.metrics:
            return Recorded(
                path=path,
                identity=portable.identity(hardware_label, file.identity),
                context=file.context,
                metric=file.metrics[case.metric],
                machines=file.machines,
                group=self.group(case, hardware_label),
                chosen=file.chosen,
            )
        published = self.published(case, hardware_label)
        if published is None and self.behind is not None:
            return self.behind.find(case, hardware_label)
        return published

    def other_processors(
        self, case: Case, hardware_label: str
    ) -> list[Recorded]:
        """The case's baselines on every kind of processor but this one."""
        recorded = []
        for folder in sorted(self.root.glob(f"{ONE_CPU}*")):
            if folder.name in (hardware_label, ANY_CPU):
                continue
            found = self.find(case, folder.name)
            if isinstance(found, Recorded):
                recorded.append(found)
        if not recorded and self.behind is not None:
            return self.behind.other_processors(case, hardware_label)
        return recorded

    def _recorded_path(self, case: Case, hardware_label: str) -> Path:
        """The file that has the case's baseline; that of its label where none has it.

        A store of an older version has what is portable under one processor, which is
        then as good as any other.
        """
        path = self.path(case, hardware_label)
        if hardware_label != ANY_CPU or self._has(path, case.metric):
            return path
        for folder in sorted(self.root.glob(f"{ONE_CPU}*")):
            older = self.path(case, folder.name)
            if self._has(older, case.metric):
                return older
        return path

    def _has(self, path: Path, metric: str) -> bool:
        file = self.file(path)
        return file is not None and metric in file.metrics

    @property
    def noise_table(self) -> NoiseTable | None:
        """The noise learned from this store, else from another one; None without any.

        Raises:
            BadNoiseTable: a file is there and cannot be read.
        """
        return next(iter(self._noise_tables), None)

    @functools.cached_property
    def _noise_tables(self) -> list[NoiseTable]:
        """That of this store, then those that know what it does not know."""
        tables = []
        for folder in dict.fromkeys(self._noise_folders):
            table = noise_table.read(folder / noise_table.FILE)
            if table is not None:
                tables.append(table)
        return tables

    def group(self, case: Case, hardware_label: str) -> GroupNoise | None:
        """What the store says of such a metric under such a load; None if it is unknown."""
        arrivals = case.numerator.arrivals
        platform = noise_table.platform_of(hardware_label)
        for table in self._noise_tables:
            if case.denominator is None:
                found = table.find(platform, case.metric, arrivals)
            else:
                below = case.denominator.arrivals
                found = table.find_ratio(platform, case.metric, arrivals, below)
            if found is not None:
                return found
        return None

    def contrast_group(
        self,
        hardware_label: str,
        contrast: ContrastName,
        metric: str,
        arrivals: Arrivals | None = None,
    ) -> GroupNoise | None:
        """What the store says of a contrast of several rows; None if it is unknown.

        Args:
            metric: of a shift the kind of its rows.
        """
        platform = noise_table.platform_of(hardware_label)
        for table in self._noise_tables:
            found = table.find_contrast(platform, contrast, metric, arrivals)
            if found is not None:
                return found
        return None

    def published(self, case: Case, hardware_label: str) -> Published | None:
        """The published figure, whether or not something was recorded."""
        path = self.published_path(case, hardware_label)
        file = self._published_file(path)
        if file is None or case.metric not in file.metrics:
            return None
        return Published(path, file.identity, file.metrics[case.metric])

    def _published_file(self, path: Path) -> PublishedFile | None:
        if path not in self._published:
            file = None
            if is_named(path):
                file = read_published(path)
            # Only now: a file that cannot be read fails every case that asks it.
            self._published[path] = file
        return self._published[path]

    def file(self, path: Path) -> BaselineFile | None:
        """A recorded file, or None where none was recorded."""
        if path not in self._recorded:
            file = None
            if is_named(path):
                file = read_recorded(path)
            if file is not None and self._left_out is not None:
                self._accepted[path] = _metrics_of(file, self._left_out)
                file = _without_run(file, self._left_out)
            self._recorded[path] = file
        return self._recorded[path]

    def write(self, path: Path, file: BaselineFile) -> None:
        """Replace a recorded file whole; a link stays one, for others read its target."""
        write_atomically(path.resolve(), to_text(file))
        self._recorded[path] = file

    def count(self, hardware_label: str) -> int:
        """Files recorded for this hardware, without those of the store behind."""
        return len(list((self.root / hardware_label).glob("*/*.json")))

    def recorded_ids(self, hardware_label: str) -> set[str]:
        """Ids ("subject/workload/metric") of everything recorded for this hardware."""
        ids = set()
        for path in sorted((self.root / hardware_label).glob("*/*.json")):
            file = self.file(path)
            if file is None:
                continue
            for name in file.metrics:
                ids.add(f"{path.parent.name}/{path.stem}/{name}")
        return ids

    def series(self) -> Iterator[Series]:
        """Every recorded metric, and contrast, as the noise table is learned from it.

        Raises:
            BaselineError: a file is there and cannot be read.
        """
        yield from self._metric_series()
        servers: dict[Path, ServerRows] = {}
        for path, file in self._files():
            if is_ratio(f"{path.parent.name}/{path.stem}/"):
                continue
            platform = noise_table.platform_of(path.parent.parent.name)
            server = servers.setdefault(path.parent, ServerRows(platform))
            server.machines |= file.machines
            for name, metric in file.metrics.items():
                if metric.gate == "hard":
                    higher = metric.better == "higher"
                    row = recorded_row(
                        path.stem, name, file.arrivals, metric.launches, higher
                    )
                    server.add(row)
        for server in servers.values():
            yield from server.series()

    def _files(self) -> Iterator[tuple[Path, BaselineFile]]:
        """Every recorded file, by its path."""
        # Published figures lie one folder deeper.
        for path in sorted(self.root.glob("*/*/*.json")):
            file = self.file(path)
            if file is not None:
                yield path, file

    def _metric_series(self) -> Iterator[Series]:
        for path, file in self._files():
            label, subject = path.parent.parent.name, path.parent.name
            is_ratio_case = is_ratio(f"{subject}/{path.stem}/")
            for name, metric in file.metrics.items():
                yield Series(
                    platform=noise_table.platform_of(label),
                    metric=name,
                    arrivals=file.arrivals,
                    is_ratio=is_ratio_case,
                    machines=noise_learning.machine_launches(
                        metric.launches, file.machines
                    ),
                )


def _metrics_of(file: BaselineFile, run: str) -> frozenset[str]:
    """The metrics of a file that have launches of a run."""
    names = set()
    for name, metric in file.metrics.items():
        if any(row.run == run for row in metric.launches):
            names.add(name)
    return frozenset(names)


def _without_run(file: BaselineFile, run: str) -> BaselineFile:
    """A file without the launches of a run, and without metrics that have no other ones."""
    metrics = {}
    for name, metric in file.metrics.items():
        launches = tuple(row for row in metric.launches if row.run != run)
        if launches:
            metrics[name] = msgspec.structs.replace(metric, launches=launches)
    return msgspec.structs.replace(file, metrics=metrics)
