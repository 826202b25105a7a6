"""Losses that one kind of load sees alone, planted in a real vLLM on the CPU.

    python -m benchmarks.cpu_loads run runs/cpu-loads
    python -m benchmarks.cpu_loads table runs/cpu-loads

The first run is unchanged. It is accepted into a copy of the store, by which the planted
ones are judged. Each change is planted by --inject-arg or by `benchmarks/plants`. A
round takes some twelve minutes on two cores.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.cpu_facts import ROOT, SMALL, Change, planted, run_missing
from perfgate import formatting
from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.cases import parse_id
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge_run
from perfgate.judge.verdict import Outcome
from perfgate.results.schema import load

DEEP = ("--deep", "saturation", "--deep", "prefix", "--deep", "speculative")
# Of one server: short, long and mixed prompts and answers, and a ramp.
ALL = (*DEEP, "-k", "llama-small-tp2 and not over and not rate-")
PLAIN = ("-k", "llama-small-tp2 and not over and not rate- and not launch")
RAMP = ("--deep", "saturation", "-k", "llama-small-tp2 and saturation")
PREFIX = ("--deep", "prefix", "-k", "llama-small-tp2-prefix")
DRAFTS = ("--deep", "speculative", "-k", "llama-small-tp2-ngram")
SOAK = ("--soak", "1", "-k", "llama-small-tp2 and (soaked or memory_growth)")
LONG_MATCHES = (
    '{"method": "ngram", "num_speculative_tokens": 3,'
    ' "prompt_lookup_min": 3, "prompt_lookup_max": 3}'
)
UNCHANGED = (Change("unchanged", ALL), Change("unchanged-soak", SOAK))
CHANGES = (
    Change("prefill", PLAIN, SMALL, planted("prefill")),
    Change("context", PLAIN, SMALL, planted("context")),
    Change("capped", RAMP, SMALL, ("--inject-arg", "MODEL=--max-num-seqs 4")),
    Change(
        "no-prefix-cache",
        PREFIX,
        SMALL,
        ("--inject-arg", "MODEL=--no-enable-prefix-caching"),
    ),
    Change(
        "fewer-drafts",
        DRAFTS,
        SMALL,
        ("--inject-arg", f"MODEL=--speculative-config '{LONG_MATCHES}'"),
    ),
    Change("leak", SOAK, SMALL, planted("leak")),
)


@click.group()
def cli() -> None:
    """Plant losses for single loads in a real vLLM, and tabulate what was found."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--times", default=1, show_default=True)
@click.option("--only", multiple=True, help="Name of a change; repeatable.")
def run(folder: Path, times: int, only: Sequence[str]) -> None:
    """Run what is not there yet: unchanged servers, then each change so often."""
    folder = folder.resolve()
    store = folder / "store"
    if not store.exists():
        shutil.copytree(ROOT / "baselines", store)
        run_missing(folder, UNCHANGED, store, times=1)
        choice = Choice(reason="unchanged servers, as they are here")
        for change in UNCHANGED:
            run_dir = folder / "runs" / change.name / "01"
            accept([run_dir], Store(store), choice, env={})
    run_missing(folder, CHANGES, store, times, only=only)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def table(folder: Path) -> None:
    """Print which judged rows each change turned red, and which it did not."""
    store = Store(folder / "store")
    click.echo("| planted in vLLM | red | judged and not red | first message |")
    click.echo("|---|---|---|---|")
    for change in CHANGES:
        for run_dir in sorted((folder / "runs" / change.name).glob("*")):
            red, others = [], []
            message = ""
            for row in judge_run(load(run_dir), store):
                if row.gate != "hard":
                    continue
                load_name = " over ".join(parse_id(row.case).workloads)
                name = f"{load_name}: {row.metric}"
                if row.outcome is Outcome.REGRESSED:
                    red.append(name)
                    message = message or row.summary
                elif row.outcome in (Outcome.PASSED, Outcome.IMPROVED):
                    others.append(load_name)
            unmoved = list(dict.fromkeys(others))
            click.echo(
                f"| {change.name} | {formatting.listed(red)} "
                f"| {formatting.listed(unmoved)} | {message} |"
            )


if __name__ == "__main__":
    cli()
