"""Cost of GPU telemetry to the server that is measured.

    python -m benchmarks.telemetry_cost --url http://127.0.0.1:8000 --model mixtral-8x7b --rounds 20

Sends one workload to a running server again and again, in pairs: once while its GPUs
are looked at ten times a second as in a run of the suite, once while they are not, in
the order ABBA. Each pair gives a ratio, with over without; the table has the geometric
mean of the ratios and its 95 % interval by Student's t. What lies within the interval
cannot be told from nothing; more rounds make it narrower. A pair in which a repetition
does not count is left out, and said.
"""

from __future__ import annotations

import importlib
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import requests

from perfgate.judge.noise import t_quantile
from perfgate.load.measurement import Target, measure
from perfgate.load.repetition import Repetition
from perfgate.load.warmup import warm_up
from perfgate.load.workload import Synthetic, Workload
from perfgate.machine.nvml import Gpus
from perfgate.machine.telemetry import Header, Telemetry
from perfgate.models import catalogue as models

METRICS = ("output_throughput", "itl_median_ms", "itl_mean_ms")


@dataclass(frozen=True)
class Effect:
    """The ratio of a metric, with telemetry over without, and its 95 % interval."""

    metric: str
    ratio: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        shown = "  ".join(
            f"{100 * (value - 1):+8.3f} %"
            for value in (self.ratio, self.low, self.high)
        )
        return f"{self.metric:20} {shown}  {self.pairs:5}"


def effect(metric: str, pairs: Sequence[tuple[float, float]]) -> Effect:
    """The ratio over pairs of (with, without), two at least.

    Raises:
        ValueError: fewer pairs have no uncertainty.
    """
    if len(pairs) < 2:
        raise ValueError(
            f"{metric}: {len(pairs)} pairs say nothing of their uncertainty; use more rounds"
        )
    logs = [math.log(with_it / without) for with_it, without in pairs]
    mean, error = (
        statistics.fmean(logs),
        statistics.stdev(logs) / math.sqrt(len(logs)),
    )
    half = t_quantile(len(logs) - 1, 0.975) * error
    return Effect(
        metric,
        math.exp(mean),
        math.exp(mean - half),
        math.exp(mean + half),
        len(pairs),
    )


def one(
    target: Target,
    workload: Workload,
    index: int,
    indices: Sequence[int],
    nvml: Any | None,
) -> Repetition:
    """One repetition; the GPUs are looked at where NVML is given."""
    if nvml is None:
        return measure(target, workload, index)
    header = Header(server=target.url, launch=0, gpus=tuple(indices))
    watch = Telemetry(Gpus(indices, nvml), header).start()
    mark = watch.mark()
    try:
        repetition = measure(target, workload, index)
        looks = watch.since(mark)[0].looks
    finally:
        watch.stop()
    if watch.failure is not None or not looks:
        raise click.ClickException(
            watch.failure
            or f"no look at the GPUs in {repetition.duration_s:.1f} s"
        )
    return repetition


def compare(
    target: Target,
    workload: Workload,
    rounds: int,
    indices: Sequence[int],
    nvml: Any,
) -> dict[str, list[tuple[float, float]]]:
    """Pairs of (with, without) by metric."""
    pairs: dict[str, list[tuple[float, float]]] = {
        metric: [] for metric in METRICS
    }
    for number in range(rounds):
        order = (nvml, None) if number % 2 == 0 else (None, nvml)
        taken = [
            one(target, workload, 2 * number + place, indices, which)
            for place, which in enumerate(order)
        ]
        with_it, without = taken if number % 2 == 0 else taken[::-1]
        reasons = [
            f"{name}: {reason}"
            for name, r in (("with", with_it), ("without", without))
            for reason in r.invalid
        ]
        click.echo(
            f"round {number + 1} of {rounds}: "
            f"{with_it.values.get('output_throughput', math.nan):.1f} tok/s "
            "with, "
            f"{without.values.get('output_throughput', math.nan):.1f} "
            f"without{''.join(f'; {r}' for r in reasons)}"
        )
        for metric in METRICS if not reasons else ():
            if metric in with_it.values and metric in without.values:
                pairs[metric].append(
                    (with_it.values[metric], without.values[metric])
                )
    return pairs


@click.command()
@click.option(
    "--url", required=True, help="Base address of the running server."
)
@click.option(
    "--model", required=True, help="Its model's name in the catalogue."
)
@click.option(
    "--served-model",
    help="The name under which it serves it (default: the first of /v1/models).",
)
@click.option(
    "--rounds", default=10, show_default=True, help="Pairs of repetitions."
)
@click.option(
    "--gpu",
    "gpus",
    type=int,
    multiple=True,
    help="NVML index, repeatable (default: all).",
)
@click.option("--engine", default="vllm", show_default=True)
@click.option(
    "--device",
    type=click.Choice(["cuda", "cpu"]),
    default="cuda",
    help="Whose limits of validity hold.",
)
@click.option("--concurrency", default=32, show_default=True)
@click.option(
    "--prompts",
    default=256,
    show_default=True,
    help="Requests of a repetition.",
)
@click.option(
    "--lengths",
    default="128,128",
    show_default=True,
    metavar="IN,OUT",
    help="Tokens of each request.",
)
@click.option(
    "--nvml",
    default="pynvml",
    show_default=True,
    metavar="MODULE[:NAME]",
    help="What is asked.",
)
def main(
    url: str,
    model: str,
    served_model: str | None,
    rounds: int,
    gpus: tuple[int, ...],
    **how: Any,
) -> None:
    """Print the ratio of throughput and latency with telemetry over without."""
    nvml = load_nvml(how["nvml"])
    lengths = [int(word) for word in how["lengths"].split(",")]
    workload = Workload(
        name="telemetry-cost",
        prompts=Synthetic(
            input_len_tokens=lengths[0], output_len_tokens=lengths[1]
        ),
        num_prompts=how["prompts"],
        max_concurrency=how["concurrency"],
    )
    target = Target(
        url=url.rstrip("/"),
        served_model=served_model
        or requests.get(f"{url}/v1/models", timeout=30).json()["data"][0]["id"],
        vocab_size=models.lookup(model).architecture.vocab_size,
        engine=how["engine"],
        device=how["device"],
    )
    warm_up(target, workload)
    found = compare(target, workload, rounds, gpus or all_gpus(nvml), nvml)
    click.echo(
        f"\n{'with / without':20} {'change':>10}  {'from':>10}  {'to':>10}  pairs"
    )
    try:
        for metric, pairs in found.items():
            click.echo(effect(metric, pairs))
    except ValueError as error:
        sys.exit(str(error))


def load_nvml(name: str) -> Any:
    """A module with pynvml's functions, or what a call of MODULE:NAME makes."""
    module, _, maker = name.partition(":")
    found = importlib.import_module(module)
    return getattr(found, maker)() if maker else found


def all_gpus(nvml: Any) -> tuple[int, ...]:
    """Indices of all GPUs that NVML sees."""
    nvml.nvmlInit()
    try:
        return tuple(range(nvml.nvmlDeviceGetCount()))
    finally:
        nvml.nvmlShutdown()


if __name__ == "__main__":
    main()
