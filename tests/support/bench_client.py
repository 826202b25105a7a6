"""What a measurement takes beyond its streaming, and how it finds stalls.

Not a test: absolute figures belong to the machine they are taken on; `benchmarks` has
the cost of the client and the accuracy of its times. From the project's root:

    python -m tests.support.bench_client overhead
    python -m tests.support.bench_client stalls
"""

from __future__ import annotations

import subprocess
import time

import click

from perfgate.load.measurement import Target, measure
from perfgate.load.workload import Synthetic, Workload
from tests.support.fake_launch import FakeEngine


def load(streams: int, tokens: int) -> Workload:
    """All at once, one request a stream."""
    return Workload(
        name="bench",
        num_prompts=streams,
        prompts=Synthetic(output_len_tokens=tokens),
    )


@click.group()
def main() -> None:
    """Figures of the load client."""


@main.command()
def overhead() -> None:
    """Time of one measurement beyond the streaming itself."""
    with FakeEngine(ttft_s=0.1, itl_s=0.01) as engine:
        target = Target(
            url=engine.url, served_model="fake", vocab_size=4096, engine="vllm"
        )
        for repetition in range(5):
            begun = time.perf_counter()
            result = measure(target, load(64, 64), repetition)
            click.echo(
                f"{1e3 * (time.perf_counter() - begun - result.duration_s):.0f} "
                f"ms beyond {result.duration_s:.2f} s"
            )


@main.command()
@click.option("--device", default="cuda")
@click.option("--busy", default=0, help="processes that burn CPU meanwhile")
def stalls(device: str, busy: int) -> None:
    """Injected gaps of 50 ms to 2 s, each in a run of its own; then runs without any."""
    burners = [
        subprocess.Popen(["sh", "-c", "while :; do :; done"])
        for _ in range(busy)
    ]
    workload = Workload(
        name="stalls",
        num_prompts=64,
        max_concurrency=16,
        prompts=Synthetic(output_len_tokens=32),
    )
    try:
        with FakeEngine(ttft_s=0.03, ttft_spread_s=0.01, itl_s=0.01) as engine:
            target = Target(
                url=engine.url,
                served_model="fake",
                vocab_size=4096,
                engine="vllm",
                device=device,
            )
            for length_ms in (50, 70, 100, 200, 500, 1000, 2000, 0, 0, 0, 0, 0):
                engine.set(stalls=[[0.5, length_ms / 1e3]] if length_ms else [])
                result = measure(target, workload, length_ms)
                click.echo(
                    f"injected {length_ms} ms: {result.invalid or 'valid'} {result.notes}"
                )
    finally:
        for burner in burners:
            burner.kill()


if __name__ == "__main__":
    main()
