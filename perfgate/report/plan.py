"""Plan: the servers to launch, the time they took before, and the losses that are detected.

Nothing is started. The time of a server is what an earlier run on the same kind of
machine took for it. The loss that is detected follows from the recorded launches, as in
the judgement itself.
"""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich import box
from rich.table import Table

from perfgate import formatting
from perfgate.cases import Case
from perfgate.config.config import Config
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.duel import first_launches
from perfgate.judge.gate import gate_mode
from perfgate.judge.machine_scope import (
    detectable,
    for_any,
    narrow_to,
    target_effect_of,
)
from perfgate.judge.noise import (
    DECISION_LAUNCHES,
    launches_to_exclude,
    log_loss,
)
from perfgate.judge.observation import hardware_label
from perfgate.judge.paired import PAIRS
from perfgate.judge.policy import Policy, policy_of
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Hardware
from perfgate.report import terminal
from perfgate.results.head import RunHead
from perfgate.results.schema import Launch, Mode, RunResults, stored
from perfgate.study import servers_of
from perfgate.wrapping import wrapped

State = Literal["established", "provisional", "no baseline", "report-only"]
# With a loss that is detected, and without one.
WITH_LOSS: tuple[State, ...] = ("established", "provisional")
WITHOUT_LOSS: tuple[State, ...] = ("no baseline", "report-only")
DetectableLosses = Mapping[str, Mapping[State, Sequence[float]]]
LINE_WIDTH = 140  # of a log, which has no width
NARROWEST = 80
COMMAND_INDENT = "    "
COMMAND = f"{COMMAND_INDENT}pytest "
RECORD = "--baseline-record"
# What the command that measures does without, or gets anew.
OF_A_PLAN = ("--plan", RECORD)
# That are looked through for the time of a server, which the newest of them often tells.
MOST_EARLIER_RUNS = 20


@dataclass(frozen=True)
class ServerRow:
    """One server of the session.

    Attributes:
        launches: how often it is launched before anything is decided.
        launch_s: time of one launch with these workloads in an earlier run, in s; None
            where no run measured all of them.
        run: id of that run.
    """

    key: str
    launches: int
    workloads: tuple[Workload, ...]
    launch_s: float | None
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
    def by_baseline(self) -> list[Case]:
        """The cases that a baseline decides: all but those of duels."""
        return [case for case in self.cases if not case.is_duel]

    @property
    def kind(self) -> str:
        """The kind of the baselines: this machine's, if a selected platform runs here.

        If none does, that of the first platform.
        """
        kinds = [gpu or platform for platform, gpu in self.gpus.items()]
        for platform, gpu in self.gpus.items():
            is_here = self.hardware.is_product(gpu)
            if is_here and (gpu is not None or platform == "gpu"):
                return self.hardware.kind
        return kinds[0]

    @property
    def mode(self) -> Mode:
        """Whether servers are judged against baselines, or in turn with a base build."""
        if self.config.is_screened:
            return "screened"
        if self.config.is_paired:
            return "paired"
        return "sequential"


def text(planned: PlannedSession, width: int) -> str:
    """The servers to launch, their time in earlier runs, and the losses that are detected."""
    config, hardware = planned.config, planned.hardware
    earlier = earlier_runs(config.runs, hardware)
    rows = servers(
        planned.cases, config.launches, planned.mode, earlier, config.pair_count
    )
    lines = format_servers(rows, planned.mode, width)
    if not config.external_urls:
        most = most_launches(planned)
        lines.append(f"At most {most} launches, if no server dies.")
    if not config.is_paired:
        losses = detectable_losses(
            planned.by_baseline, config.store, hardware, planned.kind
        )
        lines += ["", *format_losses(losses, planned.kind, width)]
        lines += format_exclusions(exclusions(planned), config.launches)
        lines += format_beginning(planned, losses)
    for reason in planned.skip_reasons:
        lines.append(f"not on this machine: {reason}")
    for note in hardware.gpu_notes:
        lines.append(f"GPUs: {note}")
    return "\n".join(fitted(line, width) for line in lines)


def fitted(text: str, width: int) -> str:
    """Text as wide as a narrow terminal; an indented command can still be copied."""
    if width >= LINE_WIDTH:
        return text
    lines = []
    for line in text.split("\n"):
        if not line.startswith(COMMAND):
            lines.append(wrapped(line, width))
            continue
        command = f"{COMMAND_INDENT}`{line.strip()}`"
        lines.append(wrapped(command, width).replace("`", ""))
    return "\n".join(lines)


def most_launches(planned: PlannedSession) -> int:
    """Launches of the session if every case needs all that it may get.

    In a screened session a suspect ratio may need pairs that its servers have not had.
    """
    config = planned.config
    pairs = 2 * PAIRS
    total = 0
    for server, _ in servers_of(planned.cases).values():
        if server.held:
            total += _held_launches(planned.cases, server.key, config.launches)
        elif config.is_paired:
            total += 2 * config.pair_count
            if config.pairs != "one":  # a single one decides nothing
                total += pairs
        elif server.engine in config.base_builds:
            ratios = _partners(planned.cases, server.key)
            total += config.launches + 2 * pairs * (1 + ratios)
        else:
            total += config.launches + DECISION_LAUNCHES - 1
    return total


def _held_launches(cases: Iterable[Case], key: str, launches: int) -> int:
    """Launches of a held engine: of both builds, and of the one whose work is counted."""
    is_duel = set()
    for case in cases:
        if case.numerator.server.key == key:
            is_duel.add(case.is_duel)
    total = 0
    if True in is_duel:
        total += 2 * first_launches(launches)
    if False in is_duel:
        total += launches
    return total


def _partners(cases: Iterable[Case], key: str) -> int:
    """How many other servers a server is compared with in ratios."""
    partners = set()
    for case in cases:
        keys = {load.server.key for load in case.loads}
        if key in keys:
            partners |= keys - {key}
    return len(partners)


def format_beginning(
    planned: PlannedSession, losses: DetectableLosses
) -> list[str]:
    """Lines: how to begin where cases have no baseline; none where all have one."""
    missing = judged = 0
    for by_state in losses.values():
        missing += len(by_state.get("no baseline", ()))
        for state in (*WITH_LOSS, "no baseline"):
            judged += len(by_state.get(state, ()))
    config = planned.config
    # With an injection nothing is recorded.
    if not missing or config.external_urls or config.injections:
        return []
    cases = formatting.count(judged, "judged case")
    start = f"No baseline here for {missing} of {cases}"
    if config.is_screened:
        return [
            "",
            f"{start}: pairs decide them. Record meanwhile: --baseline-record, then "
            f"`perfgate accept RUN{config.store.in_commands}`.",
        ]
    return [
        "",
        f"{start}. Begin with pairs, and record meanwhile (PYTHON: of the last good "
        "build):",
        f"    {_first_command(planned)}",
    ]


def _first_command(planned: PlannedSession) -> str:
    """The command that begins with pairs: `pytest -m h200 --against-engine ...`.

    It is the one that planned, so that it measures the same tests and servers.
    """
    words = ["pytest"]
    for argument in planned.config.arguments:
        if argument not in OF_A_PLAN:
            words.append(argument)
    engines: dict[str, None] = {}
    for server, _ in servers_of(planned.cases).values():
        engines[server.engine] = None
    for engine in engines:
        words += ["--against-engine", f"{engine}=PYTHON"]
    words += ["--pairs", "suspect", RECORD]
    return shlex.join(words)


def servers(
    cases: Iterable[Case],
    launches: int,
    mode: Mode,
    earlier: Iterable[RunResults],
    pairs: int = PAIRS,
) -> list[ServerRow]:
    """Each server that the cases need.

    Args:
        launches: of each server.
        mode: "paired" launches a base build in turn with each server.
        earlier: runs to take the times from, the newest first; read as far as they are
            needed.
        pairs: launches of each build, where they are paired.
    """
    rows = {}
    for key, (server, workloads) in servers_of(cases).items():
        count = launches
        if server.held:
            count = _held_launches(cases, key, launches)
        elif mode == "paired":
            count = 2 * pairs
        rows[key] = ServerRow(key, count, workloads, launch_s=None)
    for run in earlier:
        for row in _untimed(rows):
            launch_s = _launch_s(run, row.key, row.workloads)
            if launch_s is not None:
                rows[row.key] = dataclasses.replace(
                    row, launch_s=launch_s, run=run.run_id
                )
        if not _untimed(rows):
            break
    return list(rows.values())


def _untimed(rows: Mapping[str, ServerRow]) -> list[ServerRow]:
    return [row for row in rows.values() if row.launch_s is None]


def _launch_s(
    run: RunResults, key: str, workloads: Sequence[Workload]
) -> float | None:
    """Start, warm-up and these workloads on the first launch that has all of them."""
    names = [workload.name for workload in workloads]
    for launch in run.launches:
        if launch.server != key or not launch.measured:
            continue
        loads_s = _loads_s(run, launch)
        if loads_s.keys() >= set(names):
            start_s = launch.start.ready_s or 0.0
            warm_up_s = launch.values.get("warm_up_s", 0.0)
            measuring_s = sum(loads_s[name] for name in names)
            return start_s + warm_up_s + measuring_s
    return None


def _loads_s(run: RunResults, launch: Launch) -> dict[str, float]:
    """Workload -> seconds that its repetitions took on a launch."""
    loads_s = {}
    for row in run.measurements:
        if (row.server, row.launch) == (launch.server, launch.index):
            durations = [item.duration_s for item in row.repetitions]
            loads_s[row.workload] = sum(durations)
    return loads_s


def earlier_runs(folder: Path, hardware: Hardware) -> Iterator[RunResults]:
    """Runs of a store, but those in pairs alone, on hardware of this kind, the newest first."""

    def is_alike(run: RunHead | RunResults) -> bool:
        machine = run.hardware
        return (machine.kind, machine.name) == (hardware.kind, hardware.name)

    alike = stored(folder, newest_first=True, is_wanted=is_alike)
    for run in itertools.islice(alike, MOST_EARLIER_RUNS):
        if is_alike(run) and not run.is_paired:
            yield run


def detectable_losses(
    cases: Iterable[Case], store: Store, hardware: Hardware, platform: str
) -> DetectableLosses:
    """Metric -> state of its baseline -> the smallest loss detected in each case, as a fraction.

    In cases without a baseline, or that are report-only, it is 0.

    Args:
        platform: that was selected. Where this machine is of another kind, the
            baselines are those of any such machine.
    """
    losses: dict[str, dict[State, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for case in cases:
        name = case.metric
        if case.is_ratio:
            name += ", ratios"
        state, loss = _detectable_loss(case, store, hardware, platform)
        losses[name][state].append(loss)
    return losses


def _detectable_loss(
    case: Case, store: Store, hardware: Hardware, platform: str
) -> tuple[State, float]:
    """State of the case's baseline, and the smallest loss that the gate detects."""
    label = _label(case, hardware, platform)
    policy = policy_of(case, label)
    baseline = store.find(case, label)
    if not isinstance(baseline, Recorded):
        if gate_mode(case, policy) == "hard":
            return "no baseline", 0.0
        return "report-only", 0.0
    if gate_mode(case, policy, baseline.metric.gate) != "hard":
        return "report-only", 0.0
    narrowed = _narrowed(case, baseline, hardware, platform, policy)
    return _smallest_loss(narrowed, policy)


def _is_here(case: Case, hardware: Hardware, platform: str) -> bool:
    """Whether the case can be measured on this machine."""
    gpus = max(load.server.gpu_count for load in case.loads)
    return hardware.kind == platform or not gpus


def _label(case: Case, hardware: Hardware, platform: str) -> str:
    """The kind of hardware whose baselines count."""
    gpus = max(load.server.gpu_count for load in case.loads)
    if _is_here(case, hardware, platform):
        return hardware_label(hardware, case)
    return f"{platform}x{gpus}"


def _narrowed(
    case: Case,
    baseline: Recorded,
    hardware: Hardware,
    platform: str,
    policy: Policy,
) -> Recorded:
    """The baseline for this machine; for any of its kind where this is another kind."""
    if _is_here(case, hardware, platform):
        return narrow_to(baseline, _machine(case, hardware), policy)
    return for_any(baseline, policy)


def _machine(case: Case, hardware: Hardware) -> str | None:
    """By the GPUs that the case's servers get where no other session has them."""
    gpus = max(load.server.gpu_count for load in case.loads)
    if not gpus:
        return hardware.machine_id
    return hardware.machine_of(gpu.index for gpu in hardware.gpus[:gpus])


@dataclass(frozen=True)
class Exclusion:
    """A row that is recorded and judged.

    Attributes:
        ceiling: the largest loss, as a fraction, that may pass.
        launches: as many exclude a larger loss, of code that is no slower; None where
            more launches have to be recorded.
    """

    ceiling: float
    launches: int | None


def exclusions(planned: PlannedSession) -> list[Exclusion]:
    """How many launches exclude a loss above the ceiling, of each recorded row."""
    hardware, platform = planned.hardware, planned.kind
    rows = []
    for case in planned.cases:
        label = _label(case, hardware, platform)
        policy = policy_of(case, label, planned.config.fail_over)
        baseline = planned.config.store.find(case, label)
        if not isinstance(baseline, Recorded):
            continue
        if gate_mode(case, policy, baseline.metric.gate) != "hard":
            continue
        narrowed = _narrowed(case, baseline, hardware, platform, policy)
        rows.append(_exclusion(narrowed, policy))
    return rows


def _exclusion(narrowed: Recorded, policy: Policy) -> Exclusion:
    ceiling = max(policy.fail_over, target_effect_of(narrowed, policy))
    higher = narrowed.metric.better == "higher"
    noise = narrowed.noise(policy)
    needed = launches_to_exclude(
        noise, log_loss(ceiling, higher), max_launches=noise.launches
    )
    if needed is None:
        return Exclusion(ceiling, None)
    _, launches = needed
    return Exclusion(ceiling, launches)


def format_exclusions(rows: Sequence[Exclusion], launches: int) -> list[str]:
    """Lines: how many rows can exclude their ceiling by what is recorded.

    Args:
        launches: of each server.
    """
    by_ceiling = defaultdict(list)
    for row in rows:
        by_ceiling[row.ceiling].append(row)
    lines = []
    for ceiling, alike in sorted(by_ceiling.items()):
        lines.append(_exclusion_line(ceiling, alike, launches))
    return lines


def _exclusion_line(
    ceiling: float, rows: Sequence[Exclusion], launches: int
) -> str:
    now = more = 0
    for row in rows:
        if row.launches is None:
            continue
        if row.launches <= launches:
            now += 1
        else:
            more += 1
    line = f"{now} of {len(rows)} recorded rows exclude {_lost(ceiling)}"
    if more:
        line += f", {more} more with --launches {DECISION_LAUNCHES}"
    hidden = len(rows) - now - more
    if hidden:
        line += f"; {hidden} more after further recorded launches"
    return f"{line}."


def _lost(ceiling: float) -> str:
    """A loss; one of a start is several times what was recorded."""
    if ceiling < 1:
        return f"a loss of {formatting.percent(ceiling)}"
    return f"{1 + ceiling:.1f} times the recorded time"


def _smallest_loss(narrowed: Recorded, policy: Policy) -> tuple[State, float]:
    """Whether the baseline is established, and the loss that is detected."""
    loss = detectable(narrowed, policy)
    if narrowed.noise(policy).established:
        return "established", loss
    return "provisional", loss


def format_servers(
    rows: Sequence[ServerRow], mode: Mode, width: int
) -> list[str]:
    """Lines: a table of the servers, the total time, and what may be launched on top."""
    grid = _table("server", "launches", "loads", "time of one launch")
    for row in rows:
        loads = ", ".join(workload.name for workload in row.workloads)
        duration = "unknown"
        if row.launch_s is not None:
            duration = f"{row.launch_s / 60:.1f} min (run {row.run})"
        grid.add_row(row.key, str(row.launches), loads or "none", duration)
    lines = [_rendered(grid, width), _total_time(rows, mode)]
    if mode == "paired":
        lines += [
            "Base build and candidate are launched in turn, and judged in pairs.",
            f"A case that they leave undecided launches {PAIRS} more pairs, once, for "
            "its load alone.",
        ]
    elif mode == "screened":
        lines += [
            "A suspect row launches base build and candidate of its server in turn, "
            "for its load alone:",
            f"{PAIRS} pairs, and {PAIRS} more where they leave it undecided.",
        ]
    else:
        lines.append(
            "A case near or beyond its threshold launches its server twice more, for "
            "its load alone."
        )
    return lines


def _total_time(rows: Sequence[ServerRow], mode: Mode) -> str:
    known_s = []
    for row in rows:
        if row.launch_s is not None:
            known_s.append(row.launches * row.launch_s)
    if not known_s:
        return (
            "Total time unknown: no earlier run measured all of these servers."
        )
    total = f"Total time: {sum(known_s) / 60:.0f} min"
    unknown = len(rows) - len(known_s)
    if unknown:
        count = formatting.count(unknown, "server")
        total += f", without {count} that no earlier run measured"
    if mode == "screened":
        total += ", and without pairs" if unknown else ", without pairs"
    return f"{total}."


def format_losses(losses: DetectableLosses, kind: str, width: int) -> list[str]:
    """Lines: a table of the smallest loss that is detected in each metric."""
    grid = _table("metric", *WITH_LOSS, *WITHOUT_LOSS)
    for metric, by_state in sorted(losses.items()):
        cells = []
        for state in WITH_LOSS:
            cell = _loss_cell(by_state.get(state, ()))
            if width < LINE_WIDTH:
                # A number stays with its unit.
                cell = cell.replace(": ", ":\n").replace(" to ", "\nto ")
            cells.append(cell)
        for state in WITHOUT_LOSS:
            count = len(by_state.get(state, ()))
            cells.append(_count_cell(count))
        grid.add_row(metric, *cells)
    return [
        f"Losses that {DECISION_LAUNCHES} launches on {kind} detect, by the state of "
        "the baseline:",
        _rendered(grid, width),
    ]


def _loss_cell(losses: Sequence[float]) -> str:
    """The cases and their losses: "3 cases: 2.0 % or more"."""
    if not losses:
        return "-"
    low = formatting.percent(min(losses))
    high = formatting.percent(max(losses))
    count = _count_cell(len(losses))
    if low == high:
        return f"{count}: {low} or more"
    return f"{count}: {low} to {high}"


def _count_cell(count: int) -> str:
    if not count:
        return "-"
    return formatting.count(count, "case")


def _table(*names: str) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        grid.add_column(name, overflow="fold")
    return grid


def _rendered(grid: Table, width: int) -> str:
    return terminal.printed(grid, max(width, NARROWEST))
