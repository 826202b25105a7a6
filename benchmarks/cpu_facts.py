"""Facts and work on a CPU whose baselines were removed: unchanged runs, and planted changes.

    python -m benchmarks.cpu_facts run runs/cpu-facts --times 3
    python -m benchmarks.cpu_facts table runs/cpu-facts
    python -m benchmarks.cpu_facts stored        # each stored launch against the others

The store of these runs is `baselines/cpu-any` alone, as a machine has it that was never
measured, and the gate is required. Each change is planted in a real vLLM by --inject-arg
or --inject-env, some of them by `benchmarks/plants`. A whole round takes some ten
minutes on two cores.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from benchmarks.run_folders import Kind, kinds
from perfgate import formatting
from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.judge.baseline_schema import BaselineFile, read_recorded
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.gate import judge, judge_run
from perfgate.judge.observation import Observation
from perfgate.judge.portable import ANY_CPU
from perfgate.judge.verdict import Verdict, is_red
from perfgate.load.metrics import family_of
from perfgate.results.samples import Sample

ROOT = Path(__file__).resolve().parent.parent
# Times which a stored value is judged again.
FACTORS = (1.0, 1.02, 1.05)
PLANTS = ROOT / "benchmarks" / "plants"
WORK = ("tests/perf/test_work.py", "-k", "work_of_a_batch")
# Without the peak of memory, which a load makes.
FACTS = (
    "tests/perf/test_memory.py",
    "tests/perf/test_work.py",
    "tests/perf/test_routing.py",
    "tests/perf/test_answers.py",
    "-k",
    "(weights_per_rank and tp2 or kv_cache_tokens or settings or answers_perplexity "
    "or routing_shares)",
)


@dataclass(frozen=True)
class Change:
    """A change of vLLM, and which tests must find it.

    Attributes:
        options: of pytest, with MODEL in place of the model's name.
    """

    name: str
    tests: Sequence[str]
    model: str = ""
    options: Sequence[str] = ()

    def command(self, engine: str, run_dir: Path, store: Path) -> list[str]:
        """The pytest command of one run."""
        options = [word.replace("MODEL", self.model) for word in self.options]
        return [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "cpu",
            "--engine",
            engine,
            "--gate=required",
            f"--baselines={store}",
            f"--run-dir={run_dir}",
            *self.tests,
            *options,
        ]


def of(model: str, tests: Sequence[str]) -> tuple[str, ...]:
    """The tests of one model alone."""
    *files, expression = tests
    return (*files, f"{expression} and {model}")


def planted(name: str) -> tuple[str, ...]:
    """Options that plant a change of `benchmarks/plants`."""
    return (
        "--inject-env",
        f"MODEL=PYTHONPATH={PLANTS}",
        "--inject-env",
        f"MODEL=PERFGATE_PLANT={name}",
    )


SMALL_CHUNKS = (
    "--inject-arg",
    "MODEL=--max-num-batched-tokens 64 --max-num-seqs 64",
)
DEBUG = ("--inject-env", "MODEL=VLLM_LOGGING_LEVEL=DEBUG")
FEW_BLOCKS = ("--inject-arg", "MODEL=--num-gpu-blocks-override 1024")
TINY, SMALL, SPARSE = "llama-tiny", "llama-small", "mixtral-small"
TINY_WORK = of(TINY, WORK)
SMALL_FACTS, SPARSE_FACTS = of(SMALL, FACTS), of(SPARSE, FACTS)
CHANGES = (
    Change("unchanged-work", WORK),
    Change("operator", TINY_WORK, TINY, planted("operator")),
    Change("chunk-work", TINY_WORK, TINY, SMALL_CHUNKS),
    Change("answer-work", TINY_WORK, TINY, planted("answer")),
    Change("debug-log", TINY_WORK, TINY, DEBUG),
    Change("unchanged-facts", FACTS),
    Change("weights", SMALL_FACTS, SMALL, planted("weights")),
    Change("router", SPARSE_FACTS, SPARSE, planted("router")),
    Change("kv-cache", SMALL_FACTS, SMALL, FEW_BLOCKS),
    Change("chunk-facts", SMALL_FACTS, SMALL, SMALL_CHUNKS),
    Change("answer-facts", SMALL_FACTS, SMALL, planted("answer")),
)


@click.group()
def cli() -> None:
    """Plant changes in a real vLLM, and tabulate what was found."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--times", default=1, show_default=True)
@click.option("--engine", default="vllm", show_default=True)
@click.option("--only", multiple=True, help="Name of a change; repeatable.")
def run(folder: Path, times: int, engine: str, only: Sequence[str]) -> None:
    """Run each change so often; runs that are there already count."""
    folder = folder.resolve()
    store = _any_cpu(folder, ROOT / "baselines")
    for number in range(1, times + 1):
        for change in CHANGES:
            if only and change.name not in only:
                continue
            run_dir = folder / "runs" / change.name / f"{number:02}"
            if not (run_dir / "results.json").exists():
                _run(change.command(engine, run_dir, store), run_dir)


def _run(command: Sequence[str], run_dir: Path) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    (run_dir / "output.txt").write_text(done.stdout + done.stderr)
    click.echo(f"{run_dir}: exit status {done.returncode}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--baselines",
    default=ROOT / "baselines",
    type=click.Path(path_type=Path),
    help="The store by whose folder for any CPU the runs are judged anew.",
)
def table(folder: Path, baselines: Path) -> None:
    """Print what was red in how many runs, and the first message."""
    store = Store(_any_cpu(folder, baselines))
    click.echo("| planted | runs | red | what was red | message |")
    click.echo("|---|--:|--:|---|---|")
    order = [change.name for change in CHANGES]
    found = sorted(kinds(folder / "runs"), key=lambda k: order.index(k.name))
    for kind in found:
        click.echo(_row(kind, store))


def _row(kind: Kind, store: Store) -> str:
    red = [list(_red(judge_run(results, store))) for results in kind.runs]
    is_red_run = [bool(verdicts) for verdicts in red]
    metrics = dict.fromkeys(row.metric for rows in red for row in rows)
    message = ""
    for rows in red:
        if rows:
            message = rows[0].summary
            break
    cells = (
        kind.name,
        str(len(kind.runs)),
        str(sum(is_red_run)),
        formatting.listed(list(metrics)) or "nothing",
        message,
    )
    return "| " + " | ".join(cells) + " |"


@cli.command()
@click.option(
    "--baselines", default=ROOT / "baselines", type=click.Path(path_type=Path)
)
def stored(baselines: Path) -> None:
    """Judge each stored launch of any CPU by all the others, as it is and changed."""
    click.echo("| metric | launches | red | 2 % worse, red | 5 % worse, red |")
    click.echo("|---|--:|--:|--:|--:|")
    counts: dict[str, Counter[float]] = defaultdict(Counter)
    store = Store(baselines)
    for path in sorted((baselines / ANY_CPU).glob("*/*.json")):
        file = read_recorded(path)
        for name, metric in file.metrics.items():
            row = StoredMetric(store, path, file, name)
            if metric.gate == "hard" and len(row.launches) > 1:
                counts[name] += row.red_by_factor()
    for name, red in sorted(counts.items()):
        cells = [red[factor] for factor in (0.0, *FACTORS)]
        click.echo(f"| {name} | " + " | ".join(map(str, cells)) + " |")


@dataclass(frozen=True)
class StoredMetric:
    """The stored launches of one portable metric."""

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
        return launches

    def red_by_factor(self) -> Counter[float]:
        """How many launches are red, times each factor; under 0.0 how many there are."""
        launches = self.launches
        red: Counter[float] = Counter({0.0: len(launches)})
        for place, sample in enumerate(launches):
            others = (*launches[:place], *launches[place + 1 :])
            for factor in FACTORS:
                red[factor] += self._is_red(sample, others, factor)
        return red

    def _is_red(
        self, sample: Sample, others: Sequence[Sample], factor: float
    ) -> bool:
        case = self._case()
        baseline = Recorded(
            path=self.path,
            identity=self.file.identity,
            context=self.file.context,
            metric=self.file.metrics[self.name],
            group=self.store.group(case, ANY_CPU),
            chosen=self.file.chosen,
        ).with_launches(others)
        assert sample.value is not None
        worse = factor * sample.value
        if baseline.metric.better == "higher":
            worse = sample.value / factor
        changed = msgspec.structs.replace(sample, value=worse)
        observation = Observation(
            run=sample.run,
            hardware_label=ANY_CPU,
            identity=self.file.identity,
            context=self.file.context,
            samples=(changed,),
        )
        verdict = judge(case, observation, baseline)
        return is_red(verdict.outcome, verdict.gate, "required")

    def _case(self) -> Case:
        """A case of this metric; which server it is of decides nothing here."""
        fields = self.file.identity
        server = ServerConfig(
            engine=fields["engine"], model=fields["model"], device="cpu"
        )
        return Case(
            experiment="",
            metric=self.name,
            numerator=Load(server=server),
            two_sided=self.name.startswith("weights"),
        )


def _any_cpu(folder: Path, baselines: Path) -> Path:
    """A store with the baselines of any CPU alone."""
    store = folder / "store"
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(baselines / ANY_CPU, store / ANY_CPU)
    return store


def _red(verdicts: Sequence[Verdict]) -> Iterator[Verdict]:
    for verdict in verdicts:
        if is_red(verdict.outcome, verdict.gate, "required"):
            yield verdict


if __name__ == "__main__":
    cli()
