"""Plan: what a session would launch, how long that took before, and which losses it would catch.

Nothing is started. How long a server takes is what an earlier run of the same machine
kind took for it; which loss is caught follows from the recorded launches, as in the
judgement itself.
"""

from __future__ import annotations

import dataclasses
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from perfgate import formatting as wording
from perfgate.cases import Case
from perfgate.config.config import Config
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.gate import gate_mode
from perfgate.judge.machine_scope import for_any, narrow_to
from perfgate.judge.paired import PAIRS
from perfgate.judge.policy import policy_for
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Hardware
from perfgate.results.schema import RunResults, stored
from perfgate.study import servers_of

NOTHING, REPORTED = "nothing recorded", "only reported"
LINE_WIDTH = 140


@dataclass(frozen=True)
class ServerRow:
    """One server of the session.

    Attributes:
        launches: how often it is launched before anything is decided.
        seconds: that one launch took in an earlier run, with what it is sent here; None
            where none had it all.
        run: that run.
    """

    key: str
    launches: int
    workloads: tuple[Workload, ...]
    seconds: float | None
    run: str = ""


@dataclass(frozen=True)
class PlannedSession:
    """What a session would do.

    Attributes:
        config: with the number of launches, the base builds and the baselines.
        cases: those that can run here; if none can, all that were selected.
        gpus: selected platform -> its GPU product; None for any GPU, and for the CPU.
        skip_reasons: why some cases cannot run on this machine.
    """

    config: Config
    cases: Sequence[Case]
    hardware: Hardware
    gpus: Mapping[str, str | None]
    skip_reasons: Sequence[str]

    @property
    def kind(self) -> str:
        """The kind of the baselines: this machine's, if a selected platform runs here.

        If none does, that of the first platform.
        """
        kinds = [gpu or platform for platform, gpu in self.gpus.items()]
        if self.hardware.kind in kinds:
            return self.hardware.kind
        if self.hardware.gpus and "gpu" in kinds:
            return self.hardware.kind
        return kinds[0]


def text(planned: PlannedSession, width: int) -> str:
    """The servers to launch, their time in earlier runs, and the losses that would be caught."""
    config = planned.config
    is_pair = bool(config.base_builds)
    earlier = earlier_runs(config.runs, planned.hardware)
    rows = servers(planned.cases, config.launches, is_pair, earlier)
    caught: dict[str, dict[str, list[float]]] = {}
    if not is_pair:
        caught = promises(
            planned.cases, config.store, planned.hardware, planned.kind
        )
    missing = [
        f"not on this machine: {reason}" for reason in planned.skip_reasons
    ]
    return "\n".join([told(rows, caught, width), *missing])


def servers(
    cases: Iterable[Case],
    launches: int,
    is_pair: bool,
    earlier: Iterable[RunResults],
) -> list[ServerRow]:
    """Each server that the cases need.

    Args:
        launches: asked for, of each server or of each build.
        is_pair: whether a base build is launched in turn with each.
        earlier: runs that may tell how long it takes, the newest first; read as far as
            they are needed.
    """
    count = 2 * max(PAIRS, launches) if is_pair else launches
    rows = {
        key: ServerRow(key, count, workloads, None)
        for key, (_, workloads) in servers_of(cases).items()
    }
    for run in earlier:
        for row in [row for row in rows.values() if row.seconds is None]:
            seconds = _seconds(run, row.key, row.workloads)
            rows[row.key] = dataclasses.replace(
                row,
                seconds=seconds,
                run=run.run_id if seconds is not None else "",
            )
        if all(row.seconds is not None for row in rows.values()):
            break
    return list(rows.values())


def _seconds(
    run: RunResults, key: str, workloads: Sequence[Workload]
) -> float | None:
    """Start, warm-up and these loads on one launch of the run; None if it has none that was sent all of them."""
    for launch in run.launches:
        if launch.server != key or not launch.measured:
            continue
        took = {
            row.workload: sum(
                repetition.duration_s for repetition in row.repetitions
            )
            for row in run.measurements
            if (row.server, row.launch) == (key, launch.index)
        }
        if all(workload.name in took for workload in workloads):
            start_s = (launch.start.ready_s or 0.0) + launch.values.get(
                "warm_up_s", 0.0
            )
            return start_s + sum(took[workload.name] for workload in workloads)
    return None


def earlier_runs(folder: Path, hardware: Hardware) -> Iterator[RunResults]:
    """The runs of a store that were made on hardware of this kind, the newest first."""
    for run in stored(folder, newest_first=True):
        if (run.hardware.kind, run.hardware.name) == (
            hardware.kind,
            hardware.name,
        ) and not run.base_builds:
            yield run


def promises(
    cases: Iterable[Case], store: Store, hardware: Hardware, platform: str
) -> dict[str, dict[str, list[float]]]:
    """Metric -> state of its baselines -> the loss, as a fraction, that three launches would catch of each case.

    Args:
        platform: that was selected; where this machine is another one, its baselines
            are those of any such machine.
    """
    found: dict[str, dict[str, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for case in cases:
        gpus = max(load.server.gpu_count for load in case.loads)
        here = hardware.kind == platform or not gpus
        label = hardware.label(gpus) if here else f"{platform}x{gpus}"
        policy = policy_for(label, case.metric, case.denominator is not None)
        name = (
            f"{case.metric}{', ratios' if case.denominator is not None else ''}"
        )
        baseline = store.find(case, label)
        recorded = baseline if isinstance(baseline, Recorded) else None
        if (
            gate_mode(
                case, policy, recorded.metric.gate if recorded else "hard"
            )
            != "hard"
        ):
            found[name][REPORTED].append(0.0)
        elif recorded is None:
            found[name][NOTHING].append(0.0)
        else:
            mine = (
                narrow_to(recorded, hardware.machine_id, policy)
                if here
                else for_any(recorded, policy)
            )
            noise = mine.noise(policy)
            loss = max(
                mine.metric.target_effect,
                noise.mde(mine.metric.better == "higher"),
            )
            found[name][
                "established" if noise.established else "provisional"
            ].append(loss)
    return found


def told(
    rows: Sequence[ServerRow],
    caught: dict[str, dict[str, list[float]]],
    width: int,
) -> str:
    """Both, as tables, and what they come to."""
    grid = _table("server", "launches", "loads", "one launch took")
    for row in rows:
        loads = ", ".join(workload.name for workload in row.workloads) or "none"
        took = (
            "not known yet"
            if row.seconds is None
            else f"{row.seconds / 60:.1f} min ({row.run})"
        )
        grid.add_row(row.key, str(row.launches), loads, took)
    known = [
        row.launches * row.seconds for row in rows if row.seconds is not None
    ]
    total = (
        f"{sum(known) / 60:.0f} min"
        if known
        else "not known: no earlier run had all of it"
    )
    if known and len(known) < len(rows):
        total += f", and {wording.count(len(rows) - len(known), 'server')} of which it is not known"
    states = ("established", "provisional", NOTHING, REPORTED)
    losses = _table("metric", *states)
    for metric, found in sorted(caught.items()):
        losses.add_row(
            metric,
            *(
                _cell(found.get(state, []), state in states[:2])
                for state in states
            ),
        )
    if not caught:
        return "\n".join(
            [
                _text(grid, width),
                f"in all: {total}; judged in pairs, by what --target-effect asks for",
                (
                    "a loss that they leave in doubt launches three more pairs, "
                    "once, for that load alone"
                ),
            ]
        )
    return "\n".join(
        [
            _text(grid, width),
            (
                f"in all: {total}; a case that is not clearly fine launches its "
                "server twice more, for that load alone"
            ),
            "",
            (
                "cases by the state of their baselines, and the smallest losses that "
                "three launches would catch:"
            ),
            _text(losses, width),
        ]
    )


def _cell(losses: Sequence[float], caught: bool) -> str:
    if not losses:
        return "-"
    if not caught:
        return str(len(losses))
    low, high = (wording.percent(loss) for loss in (min(losses), max(losses)))
    return f"{len(losses)}: {low if low == high else f'{low} to {high}'}"


def _table(*names: str) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        grid.add_column(name, overflow="fold")
    return grid


def _text(grid: Table, width: int) -> str:
    out = io.StringIO()
    Console(
        file=out, width=max(width, LINE_WIDTH), no_color=True, highlight=False
    ).print(grid)
    return out.getvalue().rstrip("\n")
