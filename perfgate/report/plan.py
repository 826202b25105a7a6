"""Plan: the servers that a session would launch, and how long that takes.

Nothing is started. The time of a server is what an earlier run on the same kind of
machine took for it. `perfgate.report.plan_losses` has the losses that would be detected.
"""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate import formatting
from perfgate.cases import Case
from perfgate.config.config import Config
from perfgate.judge.duel import first_launches
from perfgate.judge.noise import DECISION_LAUNCHES
from perfgate.judge.paired import PAIRS
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Hardware
from perfgate.report import plan_table
from perfgate.report.plan_losses import (
    WITH_LOSS,
    DetectableLosses,
    detectable_losses,
    exclusions,
    format_exclusions,
    format_losses,
)
from perfgate.results.head import RunHead
from perfgate.results.schema import Launch, Mode, RunResults, stored
from perfgate.study import servers_of
from perfgate.wrapping import wrapped

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
        excluding = exclusions(
            planned.cases,
            config.store,
            hardware,
            planned.kind,
            config.fail_over,
        )
        lines += format_exclusions(excluding, config.launches)
        lines += format_beginning(planned, losses)
    for reason in planned.skip_reasons:
        lines.append(f"not on this machine: {reason}")
    for note in hardware.gpu_notes:
        lines.append(f"GPUs: {note}")
    return "\n".join(fitted(line, width) for line in lines)


def fitted(text: str, width: int) -> str:
    """Text as wide as a narrow terminal; an indented command can still be copied."""
    if width >= plan_table.LINE_WIDTH:
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


def format_servers(
    rows: Sequence[ServerRow], mode: Mode, width: int
) -> list[str]:
    """Lines: a table of the servers, the total time, and what may be launched on top."""
    grid = plan_table.table("server", "launches", "loads", "time of one launch")
    for row in rows:
        loads = ", ".join(workload.name for workload in row.workloads)
        duration = "unknown"
        if row.launch_s is not None:
            duration = f"{row.launch_s / 60:.1f} min (run {row.run})"
        grid.add_row(row.key, str(row.launches), loads or "none", duration)
    lines = [plan_table.rendered(grid, width), _total_time(rows, mode)]
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
        joined = ","
        if unknown:
            joined = ", and"
        total += f"{joined} without pairs"
    return f"{total}."
