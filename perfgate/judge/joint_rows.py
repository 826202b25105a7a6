"""Joint rows: the comparable rows of a server, and what they lost together with its error.

A run's rows are compared with recorded launches that have all of them, of its own
machine where there are any. Where no recorded launch has most of them, or the store
does not know how their mean varies, the rows' own errors are averaged: as if all of
them erred alike, which is never too small.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perfgate.cases import Case
from perfgate.judge import neighbours
from perfgate.judge.baseline_schema import MetricBaseline
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.contrast import (
    FEWEST_LOADS,
    FEWEST_OTHER_LOADS,
    Contrast,
    Kind,
    Row,
    Selection,
    clearest,
    kind_of,
    mean,
    recorded_row,
    select,
    turned,
)
from perfgate.judge.machine_scope import narrow_to
from perfgate.judge.noise import Noise, loss_of, t_quantile
from perfgate.judge.noise_table import GroupNoise
from perfgate.judge.observation import RunReader
from perfgate.judge.policy import Policy, policy_for
from perfgate.judge.shared_cores import others_share
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.load.metrics import METRICS

# Of a server's loads, the share that must have been recorded together.
FEWEST_TOGETHER = 0.5
COMPARED = frozenset(
    {Outcome.PASSED, Outcome.NOT_EXCLUDED, Outcome.IMPROVED, Outcome.REGRESSED}
)


@dataclass(frozen=True)
class JointRow:
    """A metric of a load, as recorded and as measured now.

    Attributes:
        current: log loss of this run's launches, their mean.
        loss: beside the row's own baseline (log).
        launches: of this run.
        baseline: its own, of every machine.
    """

    case: str
    metric: str
    recorded: Row
    current: float
    loss: float
    launches: int
    baseline: Recorded
    is_red: bool = False
    cause: str = ""

    @property
    def load(self) -> str:
        """Name of its workload."""
        return self.recorded.load


@dataclass(frozen=True)
class Effect:
    """A loss (log) of several rows together, and its error.

    Attributes:
        rows: that it speaks of.
        error: its standard error.
        noise: variation from launch to launch, or the rows' mean error.
        shared: of the variance, what launches of one session share.
        sessions: recorded ones that it is compared with; 0 where it has the rows' own
            errors.
    """

    rows: tuple[JointRow, ...]
    loss: float
    error: float
    degrees_of_freedom: float
    noise: float
    shared: float
    sessions: int

    @property
    def loads(self) -> int:
        """How many loads it speaks of."""
        return len({row.load for row in self.rows})

    def threshold(self, false_alarms: float, smallest: float) -> float:
        """The loss (log) that unchanged code exceeds with that probability.

        Args:
            smallest: the smallest loss (log) that counts.
        """
        quantile = t_quantile(self.degrees_of_freedom, 1 - false_alarms)
        return max(smallest, quantile * self.error)

    def without_worst_load(self) -> float:
        """The mean loss (log) of the rows of all loads but the worst."""
        losses: dict[str, list[float]] = defaultdict(list)
        for row in self.rows:
            losses[row.load].append(row.loss)
        means = {}
        for load, members in losses.items():
            means[load] = math.fsum(members) / len(members)
        worst = max(means, key=means.__getitem__)
        del means[worst]
        return math.fsum(means.values()) / len(means)


@dataclass(frozen=True)
class JointServer:
    """The comparable rows of one server and kind.

    Attributes:
        machine: which one of its kind the run was on; None where that is unknown.
        machines: recorded run -> machine, as far as it is known.
    """

    server: str
    kind: Kind
    hardware_label: str
    machine: str | None
    store: Store
    rows: list[JointRow] = field(default_factory=list)
    machines: dict[str, str] = field(default_factory=dict)

    @property
    def loads(self) -> set[str]:
        """Names of its loads."""
        return {row.load for row in self.rows}

    def shift(self) -> Effect | None:
        """The mean loss of the loads; None where there are fewer than two."""
        if len(self.loads) < FEWEST_LOADS:
            return None
        group = self.store.contrast_group(
            self.hardware_label, "shift", self.kind
        )
        selection = self._selection(FEWEST_LOADS)
        if group is None or selection is None:
            return self._by_rows()
        rows = self._rows_of(selection)
        contrast = Contrast(tuple(row.load for row in rows))
        return self._effect(contrast, rows, group)

    def outliers(self, smallest: float) -> Iterator[tuple[JointRow, Effect]]:
        """Rows that lost more than the other loads, each with its distance from them.

        Only where rows of three loads were recorded together, and the store knows how
        much the distance varies.

        Args:
            smallest: rows with a smaller loss, or distance (log), are left out.
        """
        if self._largest_loss() < smallest:
            return
        selection = self._selection(FEWEST_OTHER_LOADS + 1)
        if selection is None:
            return
        rows = self._rows_of(selection)
        loads = tuple(row.load for row in rows)
        losses = [row.loss for row in rows]
        for position, row in enumerate(rows):
            contrast = Contrast(loads, position)
            if min(row.loss, contrast.value(losses)) < smallest:
                continue
            effect = self._outlier(contrast, row, rows)
            if effect is not None:
                yield row, effect

    def _outlier(
        self, contrast: Contrast, row: JointRow, rows: tuple[JointRow, ...]
    ) -> Effect | None:
        """The row's distance from the other loads; None where its noise is unknown.

        That of a steady load is known from steady loads alone: its throughput varied by
        8 % on a host whose cores were shared, that of a closed one by 2 %.
        """
        arrivals = row.recorded.arrivals
        group = self.store.contrast_group(
            self.hardware_label, "outlier", row.metric, arrivals
        )
        of_family = self.store.contrast_group(
            self.hardware_label, "outlier", row.metric
        )
        if group is None or (arrivals == "steady" and group == of_family):
            return None
        return self._effect(contrast, rows, group)

    def _largest_loss(self) -> float:
        return max((row.loss for row in self.rows), default=0.0)

    def _selection(self, fewest_loads: int) -> Selection | None:
        """Rows of most loads that were recorded together; None where there are none."""
        rows = [row.recorded for row in self.rows]
        sessions: set[str] = set()
        for row in rows:
            sessions.update(row.sessions)
        own = set()
        for session in sessions:
            if self.machines.get(session, "") == self.machine:
                own.add(session)
        fewest = max(fewest_loads, FEWEST_TOGETHER * len(self.loads))
        for candidates in (own, sessions):
            selection = select(rows, candidates, clearest, fewest)
            if selection is not None:
                return selection
        return None

    def _rows_of(self, selection: Selection) -> tuple[JointRow, ...]:
        return tuple(self.rows[position] for position in selection.positions)

    def _effect(
        self, contrast: Contrast, rows: tuple[JointRow, ...], group: GroupNoise
    ) -> Effect:
        """The contrast of this run against that of the recorded launches."""
        policy = self._policy(rows[0])
        recorded = self._recorded(contrast, rows, group)
        narrowed = narrow_to(recorded, self.machine, policy)
        noise = narrowed.noise(policy)
        current = contrast.value([row.current for row in rows])
        launches = min(row.launches for row in rows)
        return Effect(
            rows=rows,
            loss=current - noise.center,
            error=noise.error(launches),
            degrees_of_freedom=noise.degrees_of_freedom,
            noise=noise.sigma,
            shared=noise.shared,
            sessions=noise.runs,
        )

    def _recorded(
        self, contrast: Contrast, rows: Sequence[JointRow], group: GroupNoise
    ) -> Recorded:
        """The contrast of the recorded launches of every machine, as a baseline."""
        recorded_rows = [row.recorded for row in rows]
        sessions = set(recorded_rows[0].sessions)
        for row in recorded_rows:
            sessions.intersection_update(row.sessions)
        metric = MetricBaseline(
            unit="x",
            better="lower",
            definition="mean log loss",
            gate="hard",
            floor=0.0,
            launches=tuple(contrast.samples(recorded_rows, sessions)),
        )
        return Recorded(
            path=Path(self.server),
            identity={},
            context={},
            metric=metric,
            machines=self.machines,
            group=group,
        )

    def _by_rows(self) -> Effect:
        """The mean loss with the mean of the rows' errors, as if all erred alike."""
        rows = tuple(self.rows)
        loads = [row.load for row in rows]
        errors, sigmas, freedoms = [], [], []
        for row in rows:
            noise = self._noise_of_row(row)
            errors.append(noise.error(row.launches))
            sigmas.append(noise.sigma)
            freedoms.append(noise.degrees_of_freedom)
        return Effect(
            rows=rows,
            loss=mean([row.loss for row in rows], loads),
            error=mean(errors, loads),
            degrees_of_freedom=min(freedoms),
            noise=mean(sigmas, loads),
            shared=1.0,
            sessions=0,
        )

    def _noise_of_row(self, row: JointRow) -> Noise:
        policy = self._policy(row)
        return narrow_to(row.baseline, self.machine, policy).noise(policy)

    def _policy(self, row: JointRow) -> Policy:
        return policy_for(self.hardware_label, row.metric, ratio=False)


def servers_of(
    reader: RunReader, verdicts: Sequence[Verdict], store: Store
) -> list[JointServer]:
    """The comparable rows of a run by server and kind.

    Hard, absolute rows with a recorded baseline, without an accepted loss, and whose
    cores nobody else used.
    """
    cases = {case.id: case for case in reader.results.cases}
    servers: dict[tuple[str, Kind], JointServer] = {}
    for verdict in verdicts:
        case = cases.get(verdict.case)
        if case is None or case.is_ratio or not _is_compared(verdict):
            continue
        kind = _kind_of(case)
        if kind is None or _is_beside_others(case, reader):
            continue
        key = case.numerator.server.key, kind
        if key not in servers:
            servers[key] = _server(reader, case, kind, store)
        _add(servers[key], case, verdict)
    return list(servers.values())


def _is_beside_others(case: Case, reader: RunReader) -> bool:
    """Whether what a case measured may be slower for what others did meanwhile."""
    if others_share(case, reader) is not None:
        return True
    return neighbours.share_of(case, reader) is not None


def _is_compared(verdict: Verdict) -> bool:
    """Whether a hard verdict compares a value with recorded launches."""
    if verdict.gate != "hard" or verdict.reference != "recorded":
        return False
    has_loss = verdict.value is not None and verdict.baseline is not None
    return has_loss and verdict.outcome in COMPARED


def _kind_of(case: Case) -> Kind | None:
    workload = case.numerator.workload
    if workload is None or case.metric not in METRICS:
        return None
    return kind_of(case.metric, workload.arrivals)


def _server(
    reader: RunReader, case: Case, kind: Kind, store: Store
) -> JointServer:
    observation = reader.observe(case)
    return JointServer(
        server=case.numerator.server.key,
        kind=kind,
        hardware_label=observation.hardware_label,
        machine=observation.machine,
        store=store,
    )


def _add(server: JointServer, case: Case, verdict: Verdict) -> None:
    """Add a row to those of its server, unless a loss of it is accepted."""
    baseline = server.store.find(case, server.hardware_label)
    if not isinstance(baseline, Recorded) or baseline.metric.known is not None:
        return
    workload = case.numerator.workload
    # `_is_compared` and `_kind_of` have seen to it.
    assert workload is not None
    assert verdict.value is not None
    assert verdict.baseline is not None
    higher = baseline.metric.better == "higher"
    recorded = recorded_row(
        workload.name,
        case.metric,
        workload.arrivals,
        baseline.metric.launches,
        higher,
    )
    server.machines.update(baseline.machines)
    row = JointRow(
        case=case.id,
        metric=case.metric,
        recorded=recorded,
        current=turned(verdict.value, higher),
        loss=loss_of(verdict.value, verdict.baseline, higher),
        launches=max(1, verdict.launches),
        baseline=baseline,
        is_red=verdict.outcome is Outcome.REGRESSED,
        cause=verdict.cause,
    )
    server.rows.append(row)


def by_kind(servers: Sequence[JointServer]) -> Mapping[Kind, list[JointServer]]:
    """Kind -> its servers."""
    kinds: dict[Kind, list[JointServer]] = defaultdict(list)
    for server in servers:
        kinds[server.kind].append(server)
    return dict(kinds)
