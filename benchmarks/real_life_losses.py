"""Real-life losses: what the gate says of losses that users met, on one stored session.

    python -m benchmarks.real_life_losses
    python -m benchmarks.real_life_losses --leave-out-own   # nothing recorded of these runs
    python -m benchmarks.real_life_losses --json losses.json

A whole vLLM session of one H200 (both models, every load) is altered by arithmetic
(`benchmarks.altered_runs`) and judged by `perfgate.judge.gate.judge_run` against the
store. Where the gate asks for launches, three equal ones decide. Every metric that the
store has recorded of a load is judged, whether or not the stored run asked for it.

Three more tables: a CPU run of recorded values that is ten times slower; a planted
loss and unchanged launches of two H200 against one recorded launch; and what altering
nothing changes in the stored values.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import numpy as np

from benchmarks.altered_runs import (
    Change,
    Gaps,
    Pause,
    RequestTimes,
    alter_requests,
)
from perfgate.accept import accept as recording
from perfgate.accept.choice import Choice
from perfgate.cases import Case, Load, is_ratio, parse_id
from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure
from perfgate.judge import noise_learning, noise_table
from perfgate.judge.baseline_schema import BaselineFile
from perfgate.judge.baseline_store import PUBLISHED, Recorded, Store
from perfgate.judge.gate import judge, judge_run
from perfgate.judge.groups import judge_groups
from perfgate.judge.observation import Observation
from perfgate.judge.portable import ANY_CPU
from perfgate.judge.verdict import Decision, Outcome, is_red
from perfgate.load.metrics import METRICS
from perfgate.load.workload import Workload
from perfgate.results import merge
from perfgate.results import schema as rundata
from perfgate.results.group_verdict import GroupVerdict
from perfgate.results.samples import RunIndex, Sample
from perfgate.results.schema import Launch, RunResults

RUNS, BASELINES = Path("docs/runs"), Path("baselines")
# Both vLLM models with every load, one after the other on one H200.
SESSION = ("h200x1-planted/unchanged/12", "h200x1-planted/unchanged/13")
DENSE, SPARSE = "llama-3.1-8b", "mixtral-8x7b"
PAIR, PAIR_PLANTED = "h200x2-20261128a", "h200x2-planted/no-custom-all-reduce"
SEED = 20261128
DECISION_LAUNCHES = 3
NOT_JUDGED = frozenset(
    {Outcome.NO_BASELINE, Outcome.INCOMPARABLE, Outcome.INCONCLUSIVE}
)
DAY = "2026-11-28"
MOST_NAMED = 4
TWO_GPUS = "two H200 against one recorded launch"


@dataclass(frozen=True)
class Loss:
    """A loss, and how it changes a run."""

    name: str
    alter: Callable[[RunResults], RunResults]


class Tally(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The verdicts on one altered run; numbers of hard rows.

    Attributes:
        red: cases that fail the run, after more launches where the gate asks for them.
        first_red: how many are red on the first launch.
        invalid: of the red ones, those that no valid repetition measured.
        reported: report-only cases that regressed.
        groups: checks over several rows that fail the run, and how often.
    """

    name: str
    red: tuple[str, ...]
    first_red: int
    invalid: int
    not_excluded: int
    passed: int
    improved: int
    not_judged: int
    reported: int
    groups: tuple[str, ...] = ()


# --- What is altered ------------------------------------------------------------------


def of_requests(
    alter: Callable[[RequestTimes], tuple[float, Gaps]],
    is_altered: Callable[[Load], bool],
) -> Callable[[RunResults], RunResults]:
    """Alters the requests of some loads."""

    def change_of(load: Load) -> Change | None:
        if not is_altered(load):
            return None
        return Change(alter)

    return lambda results: alter_requests(results, change_of)


def every_load(_load: Load) -> bool:
    """All of them."""
    return True


def at_a_rate(load: Load) -> bool:
    """Whether requests arrive at a rate."""
    return load.workload is not None and load.workload.request_rate is not None


def of_model(model: str) -> Callable[[Load], bool]:
    """Whether the server serves that model."""
    return lambda load: load.server.model == model


def batch_64(models: Collection[str]) -> Callable[[Load], bool]:
    """Whether it is the largest batch of one of these models."""
    return lambda load: (
        load.workload_name == "batch-64" and load.server.model in models
    )


def later(factor: float) -> Callable[[RequestTimes], tuple[float, Gaps]]:
    """First tokens come later by a factor."""
    return lambda times: (times.ttft_ms * factor, times.gaps_ms)


def slower_decode(
    factor: float,
) -> Callable[[RequestTimes], tuple[float, Gaps]]:
    """All gaps are longer by a factor."""
    return lambda times: (times.ttft_ms, times.gaps_ms * factor)


def slower(factor: float) -> Callable[[RequestTimes], tuple[float, Gaps]]:
    """First tokens and gaps take longer by a factor."""
    return lambda times: (times.ttft_ms * factor, times.gaps_ms * factor)


def longer_gaps(
    share: float, factor: float
) -> Callable[[RequestTimes], tuple[float, Gaps]]:
    """A share of the gaps, drawn by chance, is longer by a factor."""

    def alter(times: RequestTimes) -> tuple[float, Gaps]:
        rng = np.random.default_rng((SEED, times.attempt, times.index))
        is_long = rng.random(len(times.gaps_ms)) < share
        gaps_ms = np.where(is_long, times.gaps_ms * factor, times.gaps_ms)
        return times.ttft_ms, gaps_ms

    return alter


def late_requests(times: RequestTimes) -> tuple[float, Gaps]:
    """One request in 50 waits 2 s more for its first token."""
    wait_ms = 0.0
    if random.Random(f"{SEED} {times.attempt} {times.index}").random() < 0.02:
        wait_ms = 2000.0
    return times.ttft_ms + wait_ms, times.gaps_ms


def last_repetition(times: RequestTimes) -> tuple[float, Gaps]:
    """The third repetition is three times slower."""
    if times.attempt % 3 != 2:
        return times.ttft_ms, times.gaps_ms
    return slower(3)(times)


def in_bursts(times: RequestTimes) -> tuple[float, Gaps]:
    """Eight tokens at once: seven gaps of 0.05 ms, then one as long as eight steps."""
    gaps_ms = np.full_like(times.gaps_ms, 0.05)
    for first in range(0, len(gaps_ms), 8):
        part = times.gaps_ms[first : first + 8]
        gaps_ms[first] = part.sum() - 0.05 * (len(part) - 1)
    return times.ttft_ms, gaps_ms


def stalls(results: RunResults) -> RunResults:
    """All streams stop for 1.4 s in every second repetition of every load."""

    def pause(attempt: int, duration_ms: float) -> Pause | None:
        if attempt % 2:
            return None
        return Pause(start_ms=duration_ms / 2, length_ms=1400.0)

    return alter_requests(results, lambda _load: Change(pause=pause))


def of_launches(
    names: Collection[str], factor: float
) -> Callable[[RunResults], RunResults]:
    """Figures of the servers themselves are multiplied by a factor."""

    def alter(results: RunResults) -> RunResults:
        launches = []
        for launch in results.launches:
            values = dict(launch.values)
            for name in names & values.keys():
                values[name] *= factor
            launches.append(msgspec.structs.replace(launch, values=values))
        return msgspec.structs.replace(results, launches=tuple(launches))

    return alter


def more_energy(results: RunResults) -> RunResults:
    """Each token takes 40 % more energy."""
    name = "energy_per_output_token_j"
    measurements = []
    for measurement in results.measurements:
        repetitions = []
        for row in measurement.repetitions:
            values = dict(row.values)
            if name in values:
                values[name] *= 1.4
            repetitions.append(msgspec.structs.replace(row, values=values))
        measurements.append(
            msgspec.structs.replace(measurement, repetitions=tuple(repetitions))
        )
    return msgspec.structs.replace(results, measurements=tuple(measurements))


def other_version(results: RunResults) -> RunResults:
    """Another version of the engine, as fast as this one."""
    servers = {}
    for key, server in results.servers.items():
        versions = server.versions | {server.config.engine: "99.0"}
        servers[key] = msgspec.structs.replace(server, versions=versions)
    return msgspec.structs.replace(results, servers=servers)


def shifted(results: RunResults) -> RunResults:
    """The dense model decodes 4 % faster, the sparse one 4 % slower."""
    faster = of_requests(slower_decode(0.96), of_model(DENSE))
    return of_requests(slower_decode(1.04), of_model(SPARSE))(faster(results))


def losses() -> list[Loss]:
    """The table's rows; the first one alters nothing."""
    both = (DENSE, SPARSE)
    everywhere, kv_cache = every_load, {"kv_cache_tokens", "kv_cache_bytes"}
    rows: list[tuple[str, Callable[[RunResults], RunResults]]] = [
        ("nothing", of_requests(slower(1), everywhere)),
        ("TTFT +30 % everywhere", of_requests(later(1.3), everywhere)),
        ("TTFT x2.5 at the rates", of_requests(later(2.5), at_a_rate)),
        (
            "2 % of gaps doubled everywhere (p99 ITL)",
            of_requests(longer_gaps(0.02, 2), everywhere),
        ),
        (
            "2 % of gaps x8 at the rates (p99 ITL)",
            of_requests(longer_gaps(0.02, 8), at_a_rate),
        ),
        (
            "15 % of gaps doubled at the rates",
            of_requests(longer_gaps(0.15, 2), at_a_rate),
        ),
        (
            "45 % of gaps doubled at the rates",
            of_requests(longer_gaps(0.45, 2), at_a_rate),
        ),
        (
            "1 request in 50 waits 2 s more at the rates",
            of_requests(late_requests, at_a_rate),
        ),
        (
            "batch-64 half as fast, dense",
            of_requests(slower(2), batch_64([DENSE])),
        ),
        (
            "batch-64 half as fast, both models",
            of_requests(slower(2), batch_64(both)),
        ),
        ("everything 5 % slower", of_requests(slower(1.05), everywhere)),
        (
            "Mixtral decode 3 % slower",
            of_requests(slower_decode(1.03), of_model(SPARSE)),
        ),
        (
            "Mixtral decode 5 % slower",
            of_requests(slower_decode(1.05), of_model(SPARSE)),
        ),
        ("Llama 4 % faster, Mixtral 4 % slower", shifted),
        ("KV cache -4 %", of_launches(kv_cache, 0.96)),
        ("KV cache -1.2 %", of_launches(kv_cache, 0.988)),
        ("start-up 5x", of_launches({"ready_s"}, 5)),
        (
            "memory after load +20 %",
            of_launches({"memory_bytes", "memory_rest_bytes"}, 1.2),
        ),
        ("energy +40 %", more_energy),
        ("last repetition 3x slower", of_requests(last_repetition, everywhere)),
        ("1.4 s stall in every second repetition", stalls),
        ("tokens in bursts of 8", of_requests(in_bursts, everywhere)),
        (
            "wrong tokens, served 10 % faster",
            of_requests(slower(1 / 1.1), everywhere),
        ),
        ("engine version changed", other_version),
    ]
    return [Loss(name, alter) for name, alter in rows]


# --- Runs and stores ------------------------------------------------------------------


def session(folder: Path = RUNS) -> RunResults:
    """The stored session of both models as one run."""
    parts = [rundata.load(folder / name) for name in SESSION]
    return merge.combine(parts, "20261125-whole-session")


def temporary_store(
    source: Path, folder: Path, left_out: Collection[str] = ()
) -> Store:
    """A copy of a store without the launches of some runs.

    The noise is learned from what remains, where the store has no table of it.

    Args:
        folder: must not exist.
        left_out: ids of runs.
    """
    shutil.copytree(source, folder)
    store = Store(folder)
    if left_out:
        for path in sorted(folder.glob("*/*/*.json")):
            if path.parent.parent.name != PUBLISHED:
                _leave_out(store, path, left_out)
        (folder / noise_table.FILE).unlink(missing_ok=True)
    if not (folder / noise_table.FILE).exists():
        table = noise_learning.learn(Store(folder).series(), DAY)
        noise_table.write(folder / noise_table.FILE, table)
    return Store(folder)


def _leave_out(store: Store, path: Path, left_out: Collection[str]) -> None:
    """Rewrite a file without the launches of those runs; delete it where none remain."""
    file = store.file(path)
    assert file is not None
    metrics = {}
    for name, metric in file.metrics.items():
        launches = []
        for sample in metric.launches:
            if sample.run not in left_out:
                launches.append(sample)
        if launches:
            metrics[name] = msgspec.structs.replace(
                metric, launches=tuple(launches)
            )
    if metrics:
        store.write(path, msgspec.structs.replace(file, metrics=metrics))
    else:
        path.unlink()


def recorded_cases(results: RunResults, store: Store) -> tuple[Case, ...]:
    """The run's cases, and one for every metric of it that the store has."""
    index = RunIndex(results)
    cases = {case.id: case for case in results.cases}
    counts = {server.config.gpu_count for server in results.servers.values()}
    for count in sorted(counts):
        label = results.hardware.label(count)
        for case_id in sorted(store.recorded_ids(label)):
            case = _case(results, case_id)
            if case is not None and index.samples(case):
                cases.setdefault(case_id, case)
    return tuple(cases.values())


def _case(results: RunResults, case_id: str) -> Case | None:
    """The case of that id; None where the run lacks a server or a workload of it."""
    servers, workloads, metric = parse_id(case_id)
    loads = []
    count = max(len(servers), len(workloads))
    for index in range(count):
        server = results.servers.get(servers[min(index, len(servers) - 1)])
        name = workloads[min(index, len(workloads) - 1)]
        if server is None:
            return None
        workload = results.workloads.get(name)
        if workload is None and name != "launch":
            return None
        loads.append(Load(server=server.config, workload=workload))
    denominator = None
    if count == 2:
        denominator = loads[1]
    return Case(
        experiment="-",
        metric=metric,
        numerator=loads[0],
        denominator=denominator,
    )


def three_launches(results: RunResults) -> RunResults:
    """The run with three equal launches of each server."""
    launches: list[Launch] = []
    measurements = []
    for index in range(DECISION_LAUNCHES):
        for launch in results.launches:
            launches.append(msgspec.structs.replace(launch, index=index))
        for row in results.measurements:
            measurements.append(msgspec.structs.replace(row, launch=index))
    return msgspec.structs.replace(
        results, launches=tuple(launches), measurements=tuple(measurements)
    )


# --- Judgement ------------------------------------------------------------------------


def tally(name: str, results: RunResults, store: Store) -> Tally:
    """Judge a run, and three launches of it where the gate asks for more."""
    cases = recorded_cases(results, store)
    results = msgspec.structs.replace(results, cases=cases)
    first = judge_run(results, store)
    decided = list(first)
    if any(decision.needs_launches for decision in first):
        decided = _after_more_launches(first, results, store)
    groups = judge_groups(results, store, decided)
    return count(name, first, decided, groups)


def _after_more_launches(
    first: Iterable[Decision], results: RunResults, store: Store
) -> list[Decision]:
    """The decisions by three launches where the first asks for more."""
    third = {row.case: row for row in judge_run(three_launches(results), store)}
    decided = []
    for decision in first:
        if decision.needs_launches:
            decision = third[decision.case]
        decided.append(decision)
    return decided


def count(
    name: str,
    first: Iterable[Decision],
    decided: Sequence[Decision],
    groups: Iterable[GroupVerdict] = (),
) -> Tally:
    """Count the verdicts, and name those of a group that fail the run."""
    hard = [row for row in decided if row.gate == "hard"]
    red = [
        row.case for row in hard if is_red(row.outcome, row.gate, "advisory")
    ]
    outcomes = Counter(row.outcome for row in hard)
    reported = 0
    for row in decided:
        if row.gate != "hard" and row.outcome is Outcome.REGRESSED:
            reported += 1
    first_red = sum(is_red(row.outcome, row.gate, "advisory") for row in first)
    return Tally(
        name=name,
        red=tuple(red),
        first_red=first_red,
        invalid=outcomes[Outcome.INVALID],
        not_excluded=outcomes[Outcome.NOT_EXCLUDED],
        passed=outcomes[Outcome.PASSED],
        improved=outcomes[Outcome.IMPROVED],
        not_judged=sum(outcomes[outcome] for outcome in NOT_JUDGED),
        reported=reported,
        groups=_failing(groups),
    )


def _failing(groups: Iterable[GroupVerdict]) -> tuple[str, ...]:
    """How many group verdicts of each check fail the run."""
    checks = Counter(row.check for row in groups if row.gate == "hard")
    return tuple(f"{check} ({number})" for check, number in checks.items())


def tallies(
    results: RunResults, store: Store, rows: Iterable[Loss]
) -> Iterator[Tally]:
    """The verdicts on each loss."""
    for loss in rows:
        yield tally(loss.name, loss.alter(results), store)


# --- The CPU by its recorded values ---------------------------------------------------


def slower_cpu(store: Store, label: str, factor: float) -> list[Decision]:
    """Verdicts on the newest recorded launch with every load slower by a factor.

    Case by case, out of the values of the store: no run on a CPU is kept whole. Both
    engines and all servers are slower alike, so that ratios stay.
    """
    decisions = []
    for path in sorted((store.root / label).glob("*/*.json")):
        file = store.file(path)
        assert file is not None
        for metric in sorted(file.metrics):
            # Where tokens go is no matter of speed.
            if METRICS[metric].family == "routing":
                continue
            case_id = f"{path.parent.name}/{path.stem}/{metric}"
            decisions.append(_slower(store, label, case_id, file, factor))
    return decisions


def _slower(
    store: Store, label: str, case_id: str, file: BaselineFile, factor: float
) -> Decision:
    case = _cpu_case(case_id)
    newest = file.metrics[case.metric].launches[-1]
    sample = _slower_sample(newest, case, factor)
    observation = Observation(
        run="slower",
        hardware_label=label,
        identity=file.identity,
        context=file.context,
        samples=(sample,),
    )
    baseline = store.find(case, label)
    assert isinstance(baseline, Recorded)
    decision = judge(case, observation, baseline)
    if not decision.needs_launches:
        return decision
    three = (sample,) * DECISION_LAUNCHES
    observation = Observation(
        run="slower",
        hardware_label=label,
        identity=file.identity,
        context=file.context,
        samples=three,
    )
    return judge(case, observation, baseline)


def _cpu_case(case_id: str) -> Case:
    servers, workloads, metric = parse_id(case_id)
    loads = []
    for index in range(2):
        server = servers[min(index, len(servers) - 1)]
        name = workloads[min(index, len(workloads) - 1)]
        workload = None
        if name != "launch":
            workload = Workload(name=name, num_prompts=1)
        config = _cpu_server(server)
        loads.append(Load(server=config, workload=workload))
    if not is_ratio(case_id):
        return Case(experiment="-", metric=metric, numerator=loads[0])
    return Case(
        experiment="-",
        metric=metric,
        numerator=loads[0],
        denominator=loads[1],
        two_sided=True,
    )


def _cpu_server(key: str) -> ServerConfig:
    """A server with that key: "vllm-llama-small-tp2", or "...-tp2-routing"."""
    engine, _, rest = key.partition("-")
    model, _, options = rest.rpartition("-tp")
    size, _, _ = options.partition("-")
    return ServerConfig(
        engine=engine, model=model, tensor_parallel_size=int(size)
    )


def _slower_sample(sample: Sample, case: Case, factor: float) -> Sample:
    family = METRICS[case.metric].family
    is_time = family in ("itl", "tpot", "ttft", "e2el", "tail", "start_up")
    is_rate = family in ("throughput", "bandwidth")
    if METRICS[case.metric].better == "higher":
        factor = 1 / factor
    if case.is_ratio or not (is_time or is_rate):
        return sample
    assert sample.value is not None
    return msgspec.structs.replace(sample, value=sample.value * factor)


# --- Two H200 against one recorded launch ---------------------------------------------


def against_one_launch(
    runs: Path, baselines: Path, folder: Path
) -> list[Tally]:
    """A planted loss and unchanged runs on two H200 against the launch of one run.

    That run has launched each server once for each load.
    """
    root = folder / "store"
    recording.accept([runs / PAIR], Store(root), Choice(), env={})
    table = temporary_store(baselines, folder / "shipped").noise_table
    if table is not None:
        noise_table.write(root / noise_table.FILE, table)
    judged = {}
    for path in sorted(runs.glob("h200x2-*")):
        is_run = any(path.glob(f"{rundata.RESULTS_FILE}*"))
        if is_run and path.name != PAIR:
            judged[f"unchanged, {path.name}"] = rundata.load(path)
    judged["without custom all-reduce"] = rundata.load(runs / PAIR_PLANTED)
    rows = []
    for name, results in judged.items():
        rows.append(tally(name, results, Store(root)))
    return rows


# --- Tables ---------------------------------------------------------------------------


def largest_difference(results: RunResults, altered: RunResults) -> float:
    """Largest relative difference of a metric in a valid repetition.

    Args:
        altered: of the same run.
    """
    largest = 0.0
    for before, after in zip(
        results.measurements, altered.measurements, strict=True
    ):
        valid = [row for row in before.repetitions if not row.invalid]
        for old, new in zip(valid, after.repetitions, strict=True):
            for name, value in old.values.items():
                largest = max(largest, abs(new.values[name] / value - 1))
    return largest


def markdown(
    rows: Sequence[Tally], head: str = "loss", most: int = MOST_NAMED
) -> str:
    """A row for each loss: how many cases are red, not excluded, passed, and which are red.

    Args:
        most: red cases that are named in a row; 0 leaves their column out.
    """
    lines = [
        f"| {head} | red | on the first launch | invalid | not excluded | improved "
        "| passed | not judged | reported | groups |",
        "|---|" + "--:|" * 8 + "---|",
    ]
    if most:
        lines = [f"{lines[0]} red cases |", f"{lines[1]}---|"]
    for row in rows:
        counts = (
            len(row.red),
            row.first_red,
            row.invalid,
            row.not_excluded,
            row.improved,
            row.passed,
            row.not_judged,
            row.reported,
        )
        cells = [row.name, *map(str, counts)]
        cells.append(", ".join(row.groups))
        if most:
            cells.append(named(row.red, most))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def named(cases: Sequence[str], most: int) -> str:
    """The first few cases, and how many more there are."""
    shown = ", ".join(f"`{case}`" for case in cases[:most])
    if len(cases) > most:
        shown += f" and {len(cases) - most} more"
    return shown


def report(
    runs: Path, baselines: Path, leave_out_own: bool, folder: Path
) -> dict[str, list[Tally]]:
    """Every table by its title."""
    results = session(runs)
    left_out: list[str] = []
    if leave_out_own:
        left_out = [rundata.load(runs / name).run_id for name in SESSION]
    store = temporary_store(baselines, folder / "baselines", left_out)
    tables = {"loss": list(tallies(results, store, losses()))}
    labels = {path.name for path in baselines.glob("cpu-*")} - {ANY_CPU}
    for label in sorted(labels):
        for factor in (1.0, 2.0, 3.0, 10.0):
            decisions = slower_cpu(store, label, factor)
            name = f"{label}: everything {factor:g}x slower"
            row = count(name, decisions, decisions)
            tables.setdefault("CPU", []).append(row)
    if (runs / PAIR).exists():
        tables[TWO_GPUS] = against_one_launch(runs, baselines, folder)
    return tables


@click.command()
@click.option("--runs", type=click.Path(path_type=Path), default=RUNS)
@click.option("--baselines", type=click.Path(path_type=Path), default=BASELINES)
@click.option(
    "--leave-out-own",
    is_flag=True,
    help="Take the session's own launches out of the store first.",
)
@click.option(
    "--named",
    "most_named",
    default=MOST_NAMED,
    show_default=True,
    help="Red cases that are named in a row; 0 leaves their column out.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    help="Write the counts here as well.",
)
def main(
    runs: Path,
    baselines: Path,
    leave_out_own: bool,
    most_named: int,
    json_path: Path | None,
) -> None:
    """Show what the gate says of real-life losses."""
    try:
        results = session(runs)
        unaltered = losses()[0].alter(results)
        difference = largest_difference(results, unaltered)
        with tempfile.TemporaryDirectory() as folder:
            tables = report(runs, baselines, leave_out_own, Path(folder))
    except Failure as failure:
        raise click.ClickException(str(failure)) from failure
    click.echo(
        f"Altering nothing gives the stored values back within {difference:.3%}.\n"
    )
    for head, rows in tables.items():
        most = most_named
        if most and head == TWO_GPUS:
            most = len(rows[-1].red)
        click.echo(markdown(rows, head, most))
    if json_path is not None:
        json_path.write_text(rundata.to_json(tables), encoding="utf-8")


if __name__ == "__main__":
    main()
