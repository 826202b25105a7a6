"""Facts, work and time on a CPU whose baselines were removed: unchanged, and planted changes.

    python -m benchmarks.cpu_facts run runs/cpu-facts --times 3
    python -m benchmarks.cpu_facts run runs/busy --busy 4 --only unchanged-time
    python -m benchmarks.cpu_facts run runs/cpu-facts --other-build FOLDER
    python -m benchmarks.cpu_facts table runs/cpu-facts
    python -m benchmarks.cpu_facts stored        # each stored launch against the others

The store of these runs is `baselines/cpu-any` alone, as a machine has it that was never
measured, and the gate is required. Each change is planted in a real vLLM by --inject-arg,
--inject-env or --inject-delay, some of them by `benchmarks/plants`. A whole round takes
half an hour on two cores.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.run_folders import Kind, kinds, touched
from benchmarks.stored_launches import StoredMetric
from perfgate import formatting
from perfgate.judge.baseline_schema import read_recorded
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge_run
from perfgate.judge.portable import ANY_CPU
from perfgate.judge.verdict import ALWAYS_RED, GREEN, Outcome, is_red

ROOT = Path(__file__).resolve().parent.parent
# Times which a stored value is judged again.
FACTORS = (1.0, 1.02, 1.05)
PLANTS = ROOT / "benchmarks" / "plants"
BUSY = "while True: pass"
LOAD = "load.txt"  # load average at the end of a run, beside its results
OPEN = frozenset(Outcome) - GREEN - ALWAYS_RED
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


TIME = ("tests/perf/test_builds.py", "-k", "time_of_a_batch")


@dataclass(frozen=True)
class Change:
    """A change of vLLM, and which tests must find it.

    Attributes:
        tests: none are all that `make perf` runs, of every engine.
        models: in which it is planted.
        options: of pytest, with MODEL in place of the model's name; once for each model.
    """

    name: str
    tests: Sequence[str]
    models: Sequence[str] = ()
    options: Sequence[str] = ()

    def command(self, engine: str, run_dir: Path, store: Path) -> list[str]:
        """The pytest command of one run."""
        options = []
        for model in self.models:
            options += [word.replace("MODEL", model) for word in self.options]
        if self.tests:
            options += ["--engine", engine]
        return [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "cpu",
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
AVX2 = (
    "--inject-env",
    "MODEL=ONEDNN_MAX_CPU_ISA=AVX2",
    "--inject-env",
    "MODEL=ATEN_CPU_CAPABILITY=avx2",
)
DELAY = ("--inject-delay", "MODEL=0.1")
TINY, TINY_SPARSE = ("llama-tiny",), ("mixtral-tiny",)
SMALL, SPARSE = ("llama-small",), ("mixtral-small",)
TINY_WORK, TINY_TIME = of(*TINY, WORK), of(*TINY, TIME)
SMALL_FACTS, SPARSE_FACTS = of(*SMALL, FACTS), of(*SPARSE, FACTS)
CHANGES = (
    Change("unchanged-whole", ()),
    Change("unchanged-work", WORK),
    Change("operator", TINY_WORK, TINY, planted("operator")),
    Change("chunk-work", TINY_WORK, TINY, SMALL_CHUNKS),
    Change("answer-work", TINY_WORK, TINY, planted("answer")),
    Change("debug-log", TINY_WORK, TINY, DEBUG),
    Change("unchanged-facts", FACTS),
    # Other kernels, as on another processor, are no other facts: nothing may be red.
    Change("avx2-facts", FACTS, (*SMALL, *SPARSE), AVX2),
    Change("weights", SMALL_FACTS, SMALL, planted("weights")),
    Change("router", SPARSE_FACTS, SPARSE, planted("router")),
    Change("kv-cache", SMALL_FACTS, SMALL, FEW_BLOCKS),
    Change("chunk-facts", SMALL_FACTS, SMALL, SMALL_CHUNKS),
    Change("answer-facts", SMALL_FACTS, SMALL, planted("answer")),
    Change("unchanged-time", TIME),
    Change("loop-dense", TIME, TINY, planted("loop")),
    Change("loop-sparse", TIME, TINY_SPARSE, planted("loop")),
    Change("avx2", TINY_TIME, TINY, AVX2),
    Change("delay", TINY_TIME, TINY, DELAY),
    Change("thrice", TIME, (*TINY, *TINY_SPARSE), planted("thrice")),
)


def other_build(folder: Path) -> tuple[Change, ...]:
    """Another release of vLLM, installed into a folder, in place of the dense model's."""
    options = ("--inject-env", f"MODEL=PYTHONPATH={folder}")
    return (
        Change("other-build-work", TINY_WORK, TINY, options),
        Change("other-build-time", TINY_TIME, TINY, options),
    )


@click.group()
def cli() -> None:
    """Plant changes in a real vLLM, and tabulate what was found."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--times", default=1, show_default=True)
@click.option("--engine", default="vllm", show_default=True)
@click.option("--only", multiple=True, help="Name of a change; repeatable.")
@click.option("--busy", default=0, help="Processes that keep a core busy.")
@click.option(
    "--other-build",
    "other",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of another vLLM (pip install --target FOLDER --no-deps ...).",
)
def run(
    folder: Path,
    times: int,
    engine: str,
    only: Sequence[str],
    busy: int,
    other: Path | None,
) -> None:
    """Run each change so often; runs that are there already count."""
    folder = folder.resolve()
    store = _any_cpu(folder, ROOT / "baselines")
    changes = CHANGES
    if other is not None:
        changes = other_build(other.resolve())
    with _busy(busy):
        run_missing(folder, changes, store, times, engine, only)


def run_missing(
    folder: Path,
    changes: Sequence[Change],
    store: Path,
    times: int,
    engine: str = "vllm",
    only: Sequence[str] = (),
) -> None:
    """Run each change so often, in turn; runs that are there already count.

    Args:
        only: names of changes; empty takes all.
    """
    for number in range(1, times + 1):
        for change in changes:
            if only and change.name not in only:
                continue
            run_dir = folder / "runs" / change.name / f"{number:02}"
            if not (run_dir / "results.json").exists():
                measure(change.command(engine, run_dir, store), run_dir)


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """So many processes that keep a core busy."""
    loops = [
        subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure(command: Sequence[str], run_dir: Path) -> None:
    """Run a pytest command; its output and the load average lie beside its data."""
    run_dir.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    load, _, _ = os.getloadavg()
    (run_dir / LOAD).write_text(f"{load:.1f}\n")
    (run_dir / "output.txt").write_text(done.stdout + done.stderr)
    click.echo(
        f"{run_dir}: exit status {done.returncode}, load average {load:.1f}"
    )


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--baselines",
    default=ROOT / "baselines",
    type=click.Path(path_type=Path),
    help="The store by whose folder for any CPU the runs are judged anew.",
)
def table(folder: Path, baselines: Path) -> None:
    """Print what was red in how many runs, and the first message.

    Of the judged rows: "open" are runs in which one was not decided, and "other models"
    are red ones of a model in which nothing was planted.
    """
    store = Store(_any_cpu(folder, baselines))
    click.echo(
        "| planted | runs | load | red | INVALID | open | red rows of other models "
        "| what was red | message |"
    )
    click.echo("|---|--:|---|--:|--:|--:|--:|---|---|")
    order = [change.name for change in (*CHANGES, *other_build(folder))]
    found = sorted(kinds(folder / "runs"), key=lambda k: order.index(k.name))
    for kind in found:
        loads = (folder / "runs" / kind.name).glob(f"*/{LOAD}")
        seen = [float(path.read_text()) for path in loads]
        click.echo(_row(kind, store, seen))


def _row(kind: Kind, store: Store, loads: Sequence[float]) -> str:
    red = invalid = opened = elsewhere = 0
    metrics: dict[str, None] = {}
    message = ""
    for results in kind.runs:
        touching = touched(results, kind.models)
        hard = [row for row in judge_run(results, store) if row.gate == "hard"]
        failed = [row for row in hard if row.outcome is Outcome.REGRESSED]
        red += bool(failed)
        invalid += any(row.outcome is Outcome.INVALID for row in hard)
        opened += any(row.outcome in OPEN for row in hard)
        elsewhere += sum(row.case not in touching for row in failed)
        for row in failed:
            metrics.setdefault(row.metric)
            message = message or row.summary
    cells = (
        kind.name,
        str(len(kind.runs)),
        _range(loads),
        str(red),
        str(invalid),
        str(opened),
        str(elsewhere),
        formatting.listed(list(metrics)) or "nothing",
        message,
    )
    return "| " + " | ".join(cells) + " |"


def _range(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{min(values):.0f} to {max(values):.0f}"


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
                counts[name] += _red_by_factor(row)
    for name, red in sorted(counts.items()):
        cells = [red[factor] for factor in (0.0, *FACTORS)]
        click.echo(f"| {name} | " + " | ".join(map(str, cells)) + " |")


def _red_by_factor(row: StoredMetric) -> Counter[float]:
    """How many launches are red, times each factor; under 0.0 how many there are."""
    red: Counter[float] = Counter({0.0: len(row.launches)})
    for place, sample in enumerate(row.launches):
        others = (*row.launches[:place], *row.launches[place + 1 :])
        for factor in FACTORS:
            decision = row.decision(sample, others, factor)
            red[factor] += is_red(decision.outcome, decision.gate, "required")
    return red


def _any_cpu(folder: Path, baselines: Path) -> Path:
    """A store with the baselines of any CPU alone."""
    store = folder / "store"
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(baselines / ANY_CPU, store / ANY_CPU)
    return store


if __name__ == "__main__":
    cli()
