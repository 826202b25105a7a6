"""Trained routers: whether the gate tells them apart.

    python -m benchmarks.router_gate BALANCED FREE --engine-python PYTHON --out DIR

BALANCED and FREE are folders that `benchmarks/train_routers.py` wrote, with and without
the load-balancing loss. The first is served and recorded as the baseline, then served
again, then the second in its place: three launches of the real engine, judged as any
run is. Other prompts of the same text show what is noise. Choices that are moved by
arithmetic show the smallest shift that is red, by shares and request by request.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from benchmarks.moved_choices import table
from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.cases import Case, Load
from perfgate.config.config import Config
from perfgate.engines.base import ServerConfig
from perfgate.judge.baseline_store import Store
from perfgate.load.metrics import ROUTING_METRICS
from perfgate.load.workload import PromptFile, Workload
from perfgate.machine import hardware
from perfgate.models.catalogue import CATALOGUE, Model, load_config, read_config
from perfgate.models.made import make_shell
from perfgate.models.routing_stats import drift, shares, summary
from perfgate.progress import Progress
from perfgate.report.verdict_text import render
from perfgate.results.schema import RunResults
from perfgate.run.campaign import Campaign
from perfgate.run.initial_results import initial_results
from perfgate.servers.pool import ServerPool

NAME = "mixtral-trained"
HARD = (
    "routing_shares",
    "routing_top2_share",
    "routing_max_over_mean",
    "routing_min_over_mean",
)


def server(ranks: int) -> ServerConfig:
    """An eager server of the trained model: hooks at its routers work on any device."""
    return ServerConfig(
        engine="vllm",
        model=NAME,
        tensor_parallel_size=ranks,
        max_model_len=512,
        dtype="float32",
        extra_args=("--enforce-eager",),
    )


def workloads(prompts: Path) -> list[Workload]:
    """The one that is judged, and two of other prompts."""
    names = ("routing", "routing-others", "routing-more")
    spec = PromptFile(path=str(prompts))
    return [
        Workload(
            name=name,
            prompts=spec,
            num_prompts=24,
            max_concurrency=1,
            repetitions=1,
            seed=seed,
            asks_routing=True,
        )
        for seed, name in enumerate(names)
    ]


def serve(
    folder: Path, run_dir: Path, store: Path, asked: argparse.Namespace
) -> RunResults:
    """One run of one model, judged; its verdicts are printed."""
    with_tokenizer(folder)
    config = server(asked.ranks)
    loads = [
        Load(server=config, workload=workload)
        for workload in workloads(asked.prompts)
    ]
    cases = [
        Case(
            experiment="E8",
            metric=metric.name,
            numerator=load,
            gate="hard"
            if metric.name in HARD and load is loads[0]
            else "report",
        )
        for load in loads
        for metric in ROUTING_METRICS
    ]
    run_config = Config(
        run_dir=run_dir,
        store=Store(store),
        engine_pythons={"vllm": asked.engine_python},
        model_dirs={NAME: str(folder)},
    )
    tell = Progress(
        lambda text: print(text, end="", flush=True), rewritable=False
    )
    pool = ServerPool(log_dir=run_dir / "logs", progress=tell.line)
    results = initial_results(run_config, hardware.detect(), cases, None, tell)
    campaign = Campaign(run_config, results, cases, pool, tell)
    try:
        for case in cases:
            verdict = campaign.judge(case, "router_gate")
            if case.numerator is loads[0]:
                print(render(verdict))
    finally:
        pool.close()
        campaign.finish(complete=True)
    return campaign.results


def with_tokenizer(folder: Path) -> None:
    """Write the suite's word-level tokenizer to the weights' folder: engines need one."""
    shell = make_shell(CATALOGUE[NAME], folder / "shell")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(shell / file, folder / file)
    shutil.rmtree(shell)


def tell_shares(title: str, results: RunResults) -> None:
    """Each layer's shares in %, and how far other prompts lie from the judged ones."""
    print(f"\n{title}")
    rows = [
        summary(row.routing)
        for row in results.measurements
        if row.routing is not None
    ]
    for layer, row in enumerate(shares(rows[0].counts)):
        print(
            f"  layer {layer}: {' '.join(f'{100 * share:5.1f}' for share in row)}"
        )
    for other in rows[1:]:
        seen = drift(other, rows[0])
        print(
            f"  other prompts: {seen.distance:.3f} in layer {seen.layer}, line {seen.threshold:.3f}"
        )


def tell_smallest_shifts(results: RunResults) -> None:
    """The smallest shift of the judged workload that is red, by the old and the new rule."""
    for row in results.measurements:
        if row.routing is not None and row.workload == "routing":
            print("\nsmallest share of moved choices that is red")
            print("\n".join(table(row.routing)))
            return


def main() -> None:
    """Three runs."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("balanced", type=Path)
    parser.add_argument("free", type=Path)
    parser.add_argument("--engine-python", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--ranks", type=int, default=min(2, len(os.sched_getaffinity(0)))
    )
    asked = parser.parse_args()
    asked.prompts = asked.balanced / "prompts.jsonl"
    CATALOGUE[NAME] = Model(
        name=NAME,
        hub_id="trained-here",
        architecture=read_config(asked.balanced),
        config=load_config(asked.balanced),
    )
    store = asked.out / "baselines"
    first = serve(asked.balanced, asked.out / "first", store, asked)
    accept([asked.out / "first"], Store(store), Choice(), env={})
    again = serve(asked.balanced, asked.out / "again", store, asked)
    free = serve(asked.free, asked.out / "free", store, asked)
    for title, results in (
        ("with the loss", first),
        ("with the loss, again", again),
        ("without it", free),
    ):
        tell_shares(title, results)
    tell_smallest_shifts(first)


if __name__ == "__main__":
    sys.exit(main())
