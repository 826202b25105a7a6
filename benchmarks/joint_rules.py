"""Rows together: false alarms and power of the joint verdicts, on recorded launches and simulated.

    python -m benchmarks.joint_rules                   # the tables of docs/error-rates.md
    python -m benchmarks.joint_rules --simulated 10000 # runs of each kind

Every session of the baseline store is left out of it, with the noise learned without
it, and judged against the rest; so is every unchanged stored run, by the whole gate.
Power: the values of a stored run are made worse by arithmetic, and it is judged against
one other session of the same machine. Simulated: noise that follows the stated model.
"""

from __future__ import annotations

import functools
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from benchmarks.recorded_launches import RUNS
from perfgate.cases import is_ratio
from perfgate.judge import joint, noise_learning, noise_table
from perfgate.judge.baseline_schema import BaselineFile
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.contrast import Kind, kind_of, recorded_row
from perfgate.judge.gate import judge_run
from perfgate.judge.joint_rows import (
    Effect,
    JointRow,
    JointServer,
    by_kind,
    servers_of,
)
from perfgate.judge.noise import noise_of
from perfgate.judge.noise_table import NoiseTable, Spread
from perfgate.judge.observation import RunReader
from perfgate.judge.policy import GPU_RATE
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.load.metrics import METRICS
from perfgate.results import schema as rundata
from perfgate.results.group_verdict import GroupVerdict
from perfgate.results.schema import RunResults

BASELINES = Path("baselines")
SEED = 20261128
SIMULATED = 200_000
LOSSES = (0.0, 0.03, 0.05)
# Of recorded shifts on GPUs (`perfgate noise`).
SIMULATED_SPREAD = Spread(cv=0.005, degrees_of_freedom=13.0)


class PartialStore(Store):
    """A store without some sessions, or with some alone; its noise is learned anew.

    Args:
        without: runs that are left out, also of what the noise is learned from.
        only: runs that are judged against; None takes all others.
    """

    def __init__(
        self,
        root: Path,
        without: frozenset[str],
        only: frozenset[str] | None = None,
        learned: NoiseTable | None = None,
    ) -> None:
        super().__init__(root)
        self.without = without
        self.only = only
        self.learned = learned

    def file(self, path: Path) -> BaselineFile | None:
        """A recorded file without the launches that are left out."""
        file = super().file(path)
        if file is None:
            return None
        metrics = {}
        for name, metric in file.metrics.items():
            launches = []
            for sample in metric.launches:
                if self._counts(sample.run):
                    launches.append(sample)
            if launches:
                metrics[name] = msgspec.structs.replace(
                    metric, launches=tuple(launches), known=None
                )
        return msgspec.structs.replace(file, metrics=metrics)

    def _counts(self, run: str) -> bool:
        if self.only is not None:
            return run in self.only
        return run not in self.without

    @functools.cached_property
    def noise_table(self) -> NoiseTable | None:
        """The noise without the runs that are left out."""
        if self.learned is not None:
            return self.learned
        return noise_learning.learn(self.series(), "2026-01-01")


# --- Sessions of the store ------------------------------------------------------------


class ContrastStore(PartialStore):
    """The same, whose noise table knows the contrasts alone: sooner learned."""

    @functools.cached_property
    def noise_table(self) -> NoiseTable | None:
        """The noise of the contrasts without the runs that are left out."""
        contrasts = [row for row in self.series() if row.contrast is not None]
        return noise_learning.learn(contrasts, "2026-01-01")


def sessions_of(store: Store) -> dict[str, set[Path]]:
    """Run -> folders of the servers that it recorded."""
    sessions: dict[str, set[Path]] = defaultdict(set)
    for path in _paths(store):
        file = store.file(path)
        assert file is not None
        for metric in file.metrics.values():
            for sample in metric.launches:
                sessions[sample.run].add(path.parent)
    return dict(sessions)


def _paths(store: Store) -> list[Path]:
    """Files of absolute values; published figures lie one folder deeper."""
    paths = []
    for path in sorted(store.root.glob("*/*/*.json")):
        if not is_ratio(str(path.relative_to(store.root))):
            paths.append(path)
    return paths


def session_servers(
    whole: Store, store: Store, run: str, folders: set[Path]
) -> list[JointServer]:
    """A recorded session as if it were measured now.

    Args:
        store: without that session.
    """
    servers: dict[tuple[str, str], JointServer] = {}
    for path in _paths(whole):
        if path.parent not in folders:
            continue
        current, recorded = whole.file(path), store.file(path)
        assert current is not None
        assert recorded is not None
        machine = current.machines.get(run)
        for name in recorded.metrics:
            kind = kind_of(name, current.arrivals)
            row = session_row(path, current, recorded, name, run, store)
            if kind is None or row is None:
                continue
            key = str(path.parent), kind
            label = path.parent.parent.name
            if key not in servers:
                servers[key] = JointServer(
                    path.parent.name, kind, label, machine, store
                )
            servers[key].rows.append(row)
            servers[key].machines.update(recorded.machines)
    return list(servers.values())


def session_row(
    path: Path,
    current: BaselineFile,
    recorded: BaselineFile,
    name: str,
    run: str,
    store: Store,
) -> JointRow | None:
    """A metric of one session beside those of the others; None where it has none."""
    metric = current.metrics[name]
    if metric.gate != "hard":
        return None
    higher = metric.better == "higher"
    whole = recorded_row(
        path.stem, name, current.arrivals, metric.launches, higher
    )
    if run not in whole.sessions:
        return None
    launches = whole.sessions[run]
    baseline = recorded.metrics[name]
    row = recorded_row(
        path.stem, name, current.arrivals, baseline.launches, higher
    )
    mean = math.fsum(launches) / len(launches)
    others = []
    for values in row.sessions.values():
        others += values
    loss = mean - math.fsum(others) / len(others)
    return JointRow(
        case=f"{path.parent.name}/{path.stem}/{name}",
        metric=name,
        recorded=row,
        current=mean,
        loss=loss,
        launches=len(launches),
        baseline=Recorded(path, {}, {}, baseline, recorded.machines),
    )


@dataclass
class Count:
    """Recorded sessions that were judged, and the verdicts on them.

    Attributes:
        largest: the largest shift as a share of its threshold.
    """

    judged: int = 0
    red: int = 0
    largest: float = -math.inf

    def add(self, effect: Effect, smallest: float, rate: float) -> None:
        """Count one judgement."""
        threshold = effect.threshold(rate, smallest)
        self.judged += 1
        self.red += effect.loss > threshold
        self.largest = max(self.largest, effect.loss / threshold)


def recorded_sessions(baselines: Path) -> dict[tuple[str, str], Count]:
    """(platform, check) -> judgements of every session left out of the store."""
    whole = Store(baselines)
    counts: dict[tuple[str, str], Count] = defaultdict(Count)
    for run, folders in sorted(sessions_of(whole).items()):
        store = ContrastStore(baselines, frozenset([run]))
        servers = session_servers(whole, store, run, folders)
        for kind, members in by_kind(servers).items():
            _count(kind, members, counts)
    return dict(counts)


def _count(
    kind: str,
    servers: Sequence[JointServer],
    counts: dict[tuple[str, str], Count],
) -> None:
    shifts = []
    platform = noise_table.platform_of(servers[0].hardware_label)
    if platform != "cpu":
        platform = "gpu"
    for server in servers:
        effect = server.shift()
        if effect is not None:
            shifts.append(effect)
            counts[platform, f"{kind}, server"].add(
                effect, joint.SMALLEST_SHIFT, joint.FALSE_ALARMS
            )
        rate = joint.FALSE_ALARMS / len(server.rows)
        for _, distance in server.outliers(-math.inf):
            counts[platform, f"{kind}, outlier"].add(
                distance, joint.SMALLEST_OUTLIER, rate
            )
    if len(shifts) > 1:
        counts[platform, f"{kind}, session"].add(
            joint.combined(shifts), joint.SMALLEST_SHIFT, joint.FALSE_ALARMS
        )


# --- Stored runs ----------------------------------------------------------------------


def unchanged_runs(folder: Path) -> dict[str, RunResults]:
    """Name -> every stored run in which nothing was injected, and no pairs."""
    runs = {}
    files = folder.rglob(f"{rundata.RESULTS_FILE}*")
    for run_dir in sorted({file.parent for file in files}):
        results = rundata.load(run_dir)
        injected = [launch for launch in results.launches if launch.injected]
        if not injected and results.mode != "paired":
            runs[str(run_dir.relative_to(folder))] = results
    return runs


def worsened(results: RunResults, loss: float) -> RunResults:
    """The run with a loss, as a fraction, in every rate and latency."""
    measurements = []
    for measurement in results.measurements:
        repetitions = []
        for repetition in measurement.repetitions:
            values = dict(repetition.values)
            for name in values.keys() & METRICS.keys():
                if METRICS[name].better == "higher":
                    values[name] *= 1 - loss
                else:
                    values[name] *= 1 + loss
            repetitions.append(
                msgspec.structs.replace(repetition, values=values)
            )
        measurements.append(
            msgspec.structs.replace(measurement, repetitions=tuple(repetitions))
        )
    return msgspec.structs.replace(results, measurements=tuple(measurements))


@dataclass(frozen=True)
class Judged:
    """A run as rows and as joint verdicts.

    Attributes:
        rows: comparable hard rows of decode speed and throughput.
        servers: with a shift, of either kind.
    """

    rows: list[Verdict]
    servers: int
    verdicts: list[GroupVerdict]

    @property
    def red_rows(self) -> int:
        """How many rows fail by themselves."""
        red = [row for row in self.rows if row.outcome is Outcome.REGRESSED]
        return len(red)


def judged(results: RunResults, store: Store) -> Judged:
    """Judge a run, its rows and these together."""
    verdicts = judge_run(results, store)
    reader = RunReader(results)
    cases: set[str] = set()
    servers = 0
    for server in servers_of(reader, verdicts, store):
        servers += server.shift() is not None
        cases.update(row.case for row in server.rows)
    rows = [verdict for verdict in verdicts if verdict.case in cases]
    found = list(joint.check(reader, verdicts, store))
    return Judged(rows, servers, found)


def same_machine(results: RunResults, baselines: Path) -> list[str]:
    """Other recorded sessions of the machines that a run was on."""
    whole = Store(baselines)
    reader = RunReader(results)
    sessions: set[str] = set()
    machines = {reader.observe(case).machine for case in results.cases}
    for path in _paths(whole):
        file = whole.file(path)
        assert file is not None
        for run, machine in file.machines.items():
            if machine in machines and run != results.run_id:
                sessions.add(run)
    return sorted(sessions)


@dataclass(frozen=True)
class PowerCell:
    """The rows of one server and kind in a stored run, with a loss.

    Attributes:
        machine: hardware and machine.
        recorded: what it was judged against, of the same machine.
        rows: comparable ones, and how many of them fail by themselves.
        is_red: whether they fail together.
    """

    machine: str
    recorded: str
    kind: Kind
    loss: float
    rows: int
    red_rows: int
    is_red: bool


def power(runs: Path, baselines: Path) -> Iterator[PowerCell]:
    """Every unchanged stored run against other sessions of its machine: each, and all."""
    for results in unchanged_runs(runs).values():
        others = same_machine(results, baselines)
        if not others:
            continue
        without = frozenset([results.run_id])
        learned = PartialStore(baselines, without).noise_table
        stores = {"all others": [frozenset(others)]}
        stores["one session"] = [frozenset([other]) for other in others]
        for name, sessions in stores.items():
            for only in sessions:
                store = PartialStore(baselines, without, only, learned)
                yield from _power_cells(results, store, name)


def _power_cells(
    results: RunResults, store: Store, recorded: str
) -> Iterator[PowerCell]:
    hardware = results.hardware
    label = hardware.label(hardware.count)
    for loss in LOSSES:
        changed = worsened(results, loss)
        verdicts = judge_run(changed, store)
        for server in servers_of(RunReader(changed), verdicts, store):
            effect = server.shift()
            if effect is None:
                continue
            yield PowerCell(
                machine=f"{label} {hardware.machine_id}",
                recorded=recorded,
                kind=server.kind,
                loss=loss,
                rows=len(server.rows),
                red_rows=sum(row.is_red for row in server.rows),
                is_red=joint.is_shift(effect),
            )


def stored_runs(runs: Path, baselines: Path) -> Iterator[tuple[str, Judged]]:
    """Every unchanged stored run, left out of the baselines and of their noise."""
    for name, results in unchanged_runs(runs).items():
        store = PartialStore(baselines, frozenset([results.run_id]))
        yield name, judged(results, store)


# --- Simulated runs -------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """Simulated false alarms.

    Attributes:
        stated: what was asked for. measured: what came out.
    """

    situation: str
    stated: float
    measured: float
    runs: int


def simulated(runs: int, seed: int = SEED) -> list[Rate]:
    """False alarms of one server and of two, by recorded sessions.

    Each server has a variance of its own, as the noise table has it (scaled inverse chi
    square). Of it, launches of one session share a half; of the worst case, all of it.
    """
    rates = []
    for sessions in (1, 3, 10):
        for shared in (0.5, 1.0):
            rng = random.Random(f"{seed} {sessions} {shared}")
            singles, pairs = [], []
            for _ in range(runs):
                effects = _simulated_servers(rng, 2, sessions, shared)
                singles.append(_tail(effects[0]))
                pairs.append(_tail(joint.combined(effects)))
            name = f"{sessions} recorded, {shared:.0%} shared"
            name = name.replace("%", " %")
            for what, tails in (("server", singles), ("two servers", pairs)):
                for stated in (1e-2, 1e-3, joint.FALSE_ALARMS):
                    below = [tail for tail in tails if tail < stated]
                    share = len(below) / runs
                    rates.append(Rate(f"{what}, {name}", stated, share, runs))
    return rates


def _simulated_servers(
    rng: random.Random, servers: int, sessions: int, shared: float
) -> list[Effect]:
    """Shifts of unchanged servers; what sessions share is the same for all of them."""
    spread = SIMULATED_SPREAD
    common = [rng.gauss(0, math.sqrt(shared)) for _ in range(sessions + 1)]
    effects = []
    for _ in range(servers):
        freedom = spread.degrees_of_freedom
        chi_square = rng.gammavariate(freedom / 2, 2)
        sigma = spread.cv * math.sqrt(freedom / chi_square)
        logs = []
        for part in common:
            own = rng.gauss(0, math.sqrt(1 - shared))
            logs.append(sigma * (part + own))
        *recorded, current = logs
        points = [math.exp(value) for value in recorded]
        names = [str(session) for session in range(sessions)]
        noise = noise_of(points, names, GPU_RATE, prior=spread)
        effects.append(
            Effect(
                rows=(),
                loss=current - noise.center,
                error=noise.error(1),
                degrees_of_freedom=noise.degrees_of_freedom,
                noise=noise.sigma,
                shared=noise.shared,
                sessions=sessions,
            )
        )
    return effects


def _tail(effect: Effect) -> float:
    """With which probability unchanged code loses more."""
    # Imported here: most callers of this module need the recorded sessions alone.
    from scipy.special import stdtr

    statistic = effect.loss / effect.error
    return float(stdtr(effect.degrees_of_freedom, -statistic))


# --- Tables ---------------------------------------------------------------------------


def sessions_table(counts: dict[tuple[str, str], Count]) -> str:
    """A row for each platform and check."""
    lines = [
        "| | check | judged | red | largest, of its threshold |",
        "|---|---|--:|--:|--:|",
    ]
    for (platform, check), count in sorted(counts.items()):
        lines.append(
            f"| {platform} | {check.replace('_', ' ')} | {count.judged} "
            f"| {count.red} | {count.largest:.2f} |"
        )
    return "\n".join(lines)


def runs_table(rows: Sequence[tuple[str, Judged]]) -> str:
    """A row for each run that has comparable rows."""
    lines = [
        "| unchanged run | rows | red rows | servers and kinds | red together |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, found in rows:
        if not found.rows:
            continue
        lines.append(
            f"| {name} | {len(found.rows)} | {found.red_rows} "
            f"| {found.servers} | {len(found.verdicts)} |"
        )
    return "\n".join(lines)


def power_table(cells: Sequence[PowerCell]) -> str:
    """Red rows, and red servers, by machine, kind and loss, in %."""
    heads = [f"{100 * loss:.0f} %" for loss in LOSSES]
    columns = [f"rows red: {heads[0]} lost", *heads[1:]]
    columns += [f"together: {heads[0]} lost", *heads[1:]]
    lines = [
        "| recorded | kind | machine | judged | " + " | ".join(columns) + " |",
        "|---|---|---|" + "--:|" * (1 + len(columns)),
    ]
    groups: dict[tuple[str, str, str], list[PowerCell]] = defaultdict(list)
    for cell in cells:
        kind = cell.kind.replace("_", " ")
        groups[cell.recorded, kind, cell.machine].append(cell)
        groups[cell.recorded, kind, "all"].append(cell)
    for key, members in sorted(groups.items()):
        rows, together = [], []
        for loss in LOSSES:
            chosen = [cell for cell in members if cell.loss == loss]
            red = sum(cell.red_rows for cell in chosen)
            rows.append(_share(red, sum(cell.rows for cell in chosen)))
            red = sum(cell.is_red for cell in chosen)
            together.append(_share(red, len(chosen)))
        judgements = str(len(members) // len(LOSSES))
        fields = [*key, judgements, *rows, *together]
        lines.append("| " + " | ".join(fields) + " |")
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}"


def rates_table(rates: Sequence[Rate]) -> str:
    """A row for each situation, a column for each stated rate."""
    stated = list(dict.fromkeys(rate.stated for rate in rates))
    heads = " | ".join(f"stated {100 * rate:g} %" for rate in stated)
    lines = [f"| simulated | {heads} |", "|---|" + "--:|" * len(stated)]
    situations: dict[str, list[str]] = defaultdict(list)
    for rate in rates:
        situations[rate.situation].append(f"{100 * rate.measured:.2g} %")
    for situation, cells in situations.items():
        lines.append(f"| {situation} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@click.command()
@click.option(
    "--runs",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=RUNS,
)
@click.option(
    "--baselines",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=BASELINES,
)
@click.option("--simulated", "simulations", default=SIMULATED)
@click.option("--seed", default=SEED, show_default=True)
def main(runs: Path, baselines: Path, simulations: int, seed: int) -> None:
    """Print the tables as Markdown."""
    click.echo(sessions_table(recorded_sessions(baselines)) + "\n")
    click.echo(runs_table(list(stored_runs(runs, baselines))) + "\n")
    click.echo(power_table(list(power(runs, baselines))) + "\n")
    click.echo(rates_table(simulated(simulations, seed)))


if __name__ == "__main__":
    main()
