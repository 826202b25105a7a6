"""Tables of stored GPU runs: speeds, rates, batches, ratios, noise, and injected changes.

    python -m benchmarks.gpu_tables docs/runs/h200x1-2*

A value is the median over the launches of all runs, each launch the median of its valid
repetitions. Launches with an injection are left out of every table but the last, which
judges each run by the recorded baselines, without launches of its own.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from benchmarks.run_folders import injected_servers
from perfgate import formatting
from perfgate.cases import Case, title
from perfgate.engines.injection import format_injection
from perfgate.judge.baseline_store import Store
from perfgate.judge.run_status import counts, judged_again
from perfgate.report import diagnosis_text, losses
from perfgate.results import schema
from perfgate.results.samples import RunIndex
from perfgate.results.schema import RunResults

BASELINES = Path(__file__).resolve().parent.parent / "baselines"
# Workload and metric of each column; None for a metric of the launch itself.
SPEEDS = (
    ("closed-c32", "output_throughput", "32 streams, tok/s"),
    ("closed-c32", "itl_median_ms", "32 streams, ITL ms"),
    ("single-stream", "itl_median_ms", "one stream, ITL ms"),
    ("single-stream", "ttft_median_ms", "one stream, TTFT ms"),
    ("burst-100", "output_throughput", "burst, tok/s"),
    ("closed-c32", "energy_per_output_token_j", "32 streams, J a token"),
    (None, "kv_cache_tokens", "KV cache, tokens"),
)
# Loads that came later, in a table of their own.
LATER_SPEEDS = (
    ("steady-c32", "steady_output_throughput", "steady, tok/s"),
    ("steady-c32", "itl_mean_ms", "steady, mean ITL ms"),
    ("long-answers-c32", "steady_output_throughput", "long answers, tok/s"),
    ("long-answers-c32", "itl_median_ms", "long answers, ITL ms"),
    ("mixed-c32", "steady_output_throughput", "mixed lengths, tok/s"),
    ("prefill-4k", "ttft_median_ms", "4,096 tokens, TTFT ms"),
    ("prefill-16k", "ttft_median_ms", "16,384 tokens, TTFT ms"),
)
RATES = (1, 2, 4, 8)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
OF_RATES = ("itl_median_ms", "ttft_median_ms", "output_throughput")
OF_BATCHES = ("itl_median_ms", "output_throughput", "bandwidth_utilisation")
OF_RATIOS = ("itl_median_ms", "output_throughput", "steady_output_throughput")
# The same load by another name, where a run has no batch of one.
BATCH_OF_ONE = {"batch-1": "single-stream"}
# Of which the noise is shown.
NOISY = (
    ("batch-32", "itl_median_ms"),
    ("single-stream", "itl_median_ms"),
    ("single-stream", "ttft_median_ms"),
    ("closed-c32", "output_throughput"),
    ("burst-100", "output_throughput"),
)
NOTHING = "-"


class Launches:
    """Values of the launches of several runs, without those that were changed on purpose."""

    def __init__(self, runs: Sequence[RunResults]) -> None:
        self._indices = [(RunIndex(run), injected_servers(run)) for run in runs]

    @property
    def servers(self) -> list[str]:
        """Keys of all servers, by name."""
        return sorted(
            {
                server
                for index, injected in self._indices
                for server in index.results.servers
                if server not in injected
            }
        )

    def by_machine(
        self, server: str, workload: str | None, metric: str
    ) -> dict[str, list[float]]:
        """Machine -> the values of its launches."""
        values: dict[str, list[float]] = defaultdict(list)
        for index, injected in self._indices:
            if server in injected:
                continue
            machine = index.results.hardware.gpus[0].uuid
            for sample in index.samples_of(server, workload, metric):
                if sample.value is not None:
                    values[machine].append(sample.value)
        return dict(values)

    def values(
        self, server: str, workload: str | None, metric: str
    ) -> list[float]:
        """The values of all launches."""
        machines = self.by_machine(server, workload, metric).values()
        return [value for values in machines for value in values]

    def ratios(self) -> dict[str, list[float]]:
        """Case id -> the ratios of all launches."""
        found: dict[str, list[float]] = defaultdict(list)
        for index, injected in self._indices:
            for case in index.results.cases:
                if _is_shown_ratio(case, injected):
                    for sample in index.samples(case):
                        if sample.value is not None:
                            found[case.id].append(sample.value)
        return dict(found)


def _is_shown_ratio(case: Case, injected: set[str]) -> bool:
    servers = {load.server.key for load in case.loads}
    return (
        case.denominator is not None
        and case.metric in OF_RATIOS
        and not servers & injected
    )


def speeds(runs: Sequence[RunResults]) -> Iterator[str]:
    """A row for each server: what it does under the loads of the study.

    Loads that came later are in a second table, of the servers that had them.
    """
    yield from _speeds(runs, SPEEDS)
    head, line, *rows = _speeds(runs, LATER_SPEEDS)
    if rows:
        yield from ("", head, line, *rows)


def _speeds(
    runs: Sequence[RunResults], columns: Sequence[tuple[str | None, str, str]]
) -> Iterator[str]:
    """A row for each server that was measured in any of the columns."""
    launches = Launches(runs)
    yield f"| server | {' | '.join(name for *_, name in columns)} |"
    yield f"|---|{'--:|' * len(columns)}"
    for server in launches.servers:
        cells = []
        for workload, metric, _ in columns:
            cells.append(_median(launches.values(server, workload, metric)))
        if any(cell != NOTHING for cell in cells):
            yield f"| {server} | {' | '.join(cells)} |"


def rates(runs: Sequence[RunResults]) -> Iterator[str]:
    """Latencies and throughput over the request rate; conversations in a second table."""
    yield from _series(runs, "requests a second", "rate", RATES, OF_RATES)
    heading = "ShareGPT, requests a second"
    head, line, *rows = _series(runs, heading, "sharegpt-rate", RATES, OF_RATES)
    if rows:
        yield from ("", head, line, *rows)


def batches(runs: Sequence[RunResults]) -> Iterator[str]:
    """Latency, throughput and bandwidth over the batch."""
    yield from _series(runs, "batch", "batch", BATCHES, OF_BATCHES)


def _series(
    runs: Sequence[RunResults],
    heading: str,
    workload: str,
    numbers: Sequence[int],
    metrics: Sequence[str],
) -> Iterator[str]:
    launches = Launches(runs)
    yield f"| {heading} | | {' | '.join(map(str, numbers))} |"
    yield f"|---|---|{'--:|' * len(numbers)}"
    for server in launches.servers:
        for metric in metrics:
            cells = []
            for number in numbers:
                name = f"{workload}-{number}"
                values = launches.values(server, name, metric)
                if not values and name in BATCH_OF_ONE:
                    other = BATCH_OF_ONE[name]
                    values = launches.values(server, other, metric)
                middle = statistics.median(values) if values else None
                cells.append(formatting.number(middle))
            if any(cell != NOTHING for cell in cells[1:]):
                yield f"| {server} | `{metric}` | {' | '.join(cells)} |"


def ratios(runs: Sequence[RunResults]) -> Iterator[str]:
    """Ratios of two servers or two loads, each within one session."""
    yield "| ratio | metric | value | launches |"
    yield "|---|---|--:|--:|"
    for case, values in Launches(runs).ratios().items():
        metric = case.rpartition("/")[2]
        name = title(case).removesuffix(f", {metric}")
        yield f"| {name} | `{metric}` | {_median(values)} | {len(values)} |"


def noise(runs: Sequence[RunResults]) -> Iterator[str]:
    """How much launches of one machine vary, and means of machines."""
    launches = Launches(runs)
    yield "| server | load | metric | one machine | between machines |"
    yield "|---|---|---|--:|--:|"
    for server in launches.servers:
        for workload, metric in NOISY:
            machines = launches.by_machine(server, workload, metric)
            within, between = _within(machines), _between(machines)
            if (within, between) != (NOTHING, NOTHING):
                yield (
                    f"| {server} | {workload} | `{metric}` "
                    f"| {within} | {between} |"
                )


def _within(machines: dict[str, list[float]]) -> str:
    """The pooled variation of launches, and how many they are."""
    squares, freedom, count = 0.0, 0, 0
    for values in machines.values():
        if len(values) > 1:
            logs = [math.log(value) for value in values]
            squares += statistics.variance(logs) * (len(logs) - 1)
            freedom += len(logs) - 1
            count += len(logs)
    if not freedom:
        return NOTHING
    noise_percent = formatting.percent(math.sqrt(squares / freedom))
    return f"{noise_percent} ({count} launches)"


def _between(machines: dict[str, list[float]]) -> str:
    """The variation of the machines' means, and how many machines there are."""
    if len(machines) < 3:
        return NOTHING
    means = [
        statistics.fmean(map(math.log, values)) for values in machines.values()
    ]
    noise_percent = formatting.percent(statistics.stdev(means))
    return f"{noise_percent} ({len(machines)} machines)"


def injected(folder: Path) -> Iterator[str]:
    """A row for each run with an injection, and one for all unchanged ones."""
    store = Store(BASELINES)
    yield "| changed | run | lost or gained | cause | judged, failed |"
    yield "|---|---|---|---|--:|"
    unchanged: list[tuple[int, int]] = []
    for file in sorted(folder.rglob("results.json*")):
        results = judged_again(schema.load(file.parent), store)
        if not results.complete:
            continue
        counted = counts(results, "advisory")
        changes = {
            format_injection(launch.injected)
            for launch in results.launches
            if launch.injected
        }
        if not changes:
            unchanged.append((counted.judged, counted.red))
            continue
        moved = [line for line in losses.lines(results) if line[0] != " "]
        causes = [diagnosis_text.title(row) for row in results.diagnoses]
        cells = (
            _code("; ".join(sorted(changes))),
            f"`{file.parent.relative_to(folder)}`",
            "<br>".join(moved) or "nothing",
            "<br>".join(causes) or NOTHING,
            f"{counted.judged}, {counted.red}",
        )
        yield f"| {' | '.join(cells)} |"
    if unchanged:
        judged, red = (sum(column) for column in zip(*unchanged, strict=True))
        runs = formatting.count(len(unchanged), "run")
        yield f"| nothing, {runs} | `unchanged` | | | {judged}, {red} |"


def _code(injection: str) -> str:
    """An injection's arguments and variables as code."""
    return re.sub(r"(?<= )(--.*|\w+=\S+)", r"`\1`", injection)


def _median(values: Sequence[float]) -> str:
    """The median as people write it, with the range of several launches."""
    if not values:
        return NOTHING
    text = formatting.number(statistics.median(values))
    if len(values) == 1:
        return text
    low, high = formatting.number(min(values)), formatting.number(max(values))
    return text if low == high else f"{text} ({low} to {high})"


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(path_type=Path)
)
def main(folders: tuple[Path, ...]) -> None:
    """Print the tables of these runs."""
    runs = [schema.load(folder) for folder in folders]
    for table in (speeds, rates, batches, ratios, noise):
        print("\n".join(table(runs)), end="\n\n")


if __name__ == "__main__":
    main()
