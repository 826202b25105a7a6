"""Cost of the client, and the accuracy of its times.

Not a test: absolute figures belong to the machine they are taken on. From the
project's root:

    python -m tests.support.bench_client truth
    python -m tests.support.bench_client cost --vllm-python PATH --tokenizer DIR
    python -m tests.support.bench_client streams
    python -m tests.support.bench_client overhead
    python -m tests.support.bench_client stalls
"""

from __future__ import annotations

import resource
import subprocess
import time
from typing import Any

import click
import msgspec
import numpy as np

from perfgate.load import request_times
from perfgate.load.client import Recording, Sending, send
from perfgate.load.measurement import Target, measure, vllm_bench_arguments
from perfgate.load.response import Transcript, read
from perfgate.load.workload import Synthetic, Workload, build_requests
from tests.support.fake_launch import FakeEngine


def load(streams: int, tokens: int) -> Workload:
    """All at once, one request a stream."""
    return Workload(
        name="bench",
        num_prompts=streams,
        prompts=Synthetic(output_len_tokens=tokens),
    )


def run(
    engine: FakeEngine, workload: Workload, repetition: int = 0
) -> Recording:
    """One run of the client."""
    requests = build_requests(workload, repetition, 4096)
    return send(
        requests, Sending(url=engine.url + "/v1/completions", model="fake")
    )


def differences_ms(
    transcripts: list[Transcript], sent: list[dict[str, Any]]
) -> dict[str, np.ndarray]:
    """|client - oracle| of every sample, ms; the oracle's times are those of its own sockets."""
    by_index = {t.index: t for t in transcripts}
    pairs = [
        (
            by_index[int(log["request_id"].rpartition("-")[2])],
            log["received_ns"],
            [ns for ns, _ in log["sends"]],
        )
        for log in sent
    ]
    samples = {
        "ttft": [
            request_times.ttft_ns(t) - (at[0] - received)
            for t, received, at in pairs
        ],
        "itl": np.concatenate(
            [request_times.itl_ns(t) - np.diff(at) for t, _, at in pairs]
        ),
        "tpot": [
            request_times.tpot_ns(t) - (at[-1] - at[0]) / (len(at) - 1)
            for t, _, at in pairs
        ],
        "e2el": [
            request_times.e2el_ns(t) - (at[-1] - received)
            for t, received, at in pairs
        ],
        "chunk": np.concatenate(
            [np.array(t.chunk_ns) - np.array(at) for t, _, at in pairs]
        ),
    }
    return {
        name: np.abs(np.asarray(sample, dtype=float)) / 1e6
        for name, sample in samples.items()
    }


@click.group()
def main() -> None:
    """Figures of the load client."""


@main.command()
@click.option("--streams", default=256)
@click.option("--itl-s", default=0.05)
def truth(streams: int, itl_s: float) -> None:
    """Differences between the client's figures and what the fake engine really sent."""
    with FakeEngine(ttft_s=0.2, ttft_spread_s=itl_s, itl_s=itl_s) as engine:
        for repetition in range(3):
            engine.set()
            # Spread over a second: in a burst the fake engine takes a while to
            # receive them all.
            workload = msgspec.structs.replace(
                load(streams, 64), request_rate=float(streams)
            )
            recording = run(engine, workload, repetition)
            found = differences_ms(
                [read(r) for r in recording.requests], engine.sent()
            )
            for name, sample in found.items():
                p50, p99 = np.percentile(sample, (50, 99))
                click.echo(
                    f"run {repetition} {name:6} median {p50:.3f} ms, p99 "
                    f"{p99:.3f} ms, largest {sample.max():.3f} ms"
                )


def children_cpu_s() -> float:
    """CPU time of all finished children so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@main.command()
@click.option("--vllm-python", required=True)
@click.option("--tokenizer", required=True)
@click.option("--streams", default=64)
@click.option("--rounds", default=3)
def cost(vllm_python: str, tokenizer: str, streams: int, rounds: int) -> None:
    """CPU per streamed chunk, ours and `vllm bench serve`'s, in turns.

    It is the slope between a short and a long run.
    """
    # Imported here: the other benchmarks need no statistics package.
    from perfgate.load.other_clients import VLLM_BENCH_SERVE

    lengths = 64, 1024
    with FakeEngine(ttft_s=0.1, ttft_spread_s=0.006, itl_s=0.0058) as engine:
        target = Target(
            url=engine.url,
            served_model="fake",
            vocab_size=4096,
            engine="vllm",
            tokenizer=tokenizer,
        )
        for _ in range(rounds):
            ours, theirs = [], []
            for tokens in lengths:
                begun = time.process_time()
                recording = run(engine, load(streams, tokens))
                ours.append(time.process_time() - begun)
                rate = (
                    streams
                    * tokens
                    / ((recording.end_ns - recording.start_ns) / 1e9)
                )
                command = vllm_bench_arguments(target, load(streams, tokens))
                begun = children_cpu_s()
                full = [
                    vllm_python,
                    "-c",
                    VLLM_BENCH_SERVE,
                    *command,
                    "--disable-tqdm",
                ]
                subprocess.run(full, check=True, capture_output=True)
                theirs.append(children_cpu_s() - begun)
            chunks = streams * (lengths[1] - lengths[0])
            per_chunk = [
                1e6 * (cpu[1] - cpu[0]) / chunks for cpu in (ours, theirs)
            ]
            click.echo(
                f"{streams} streams, {rate:.0f} tok/s: ours {per_chunk[0]:.1f} us a chunk, "
                f"vllm bench serve {per_chunk[1]:.1f} us, ratio {per_chunk[0] / per_chunk[1]:.2f}, "
                f"CPU of the short runs {ours[0]:.2f} and {theirs[0]:.2f} s"
            )


@main.command()
@click.option("--rate", default=20.0, help="tokens/s of each stream")
def streams(rate: float) -> None:
    """How many streams one client sustains before its timestamps lag by 1 ms at p99."""
    for count in (128, 256, 512, 768, 1024, 1536):
        with FakeEngine(
            ttft_s=1.0, ttft_spread_s=1 / rate, itl_s=1 / rate
        ) as engine:
            recording = run(engine, load(count, 100))
            transcripts = [read(r) for r in recording.requests]
            lag = differences_ms(transcripts, engine.sent())["chunk"]
            took_s = (recording.end_ns - recording.start_ns) / 1e9 - 1
            p50, p99 = np.percentile(lag, (50, 99))
            click.echo(
                f"{count} streams, {count * 100 / took_s:.0f} chunks/s: "
                f"lag median {p50:.3f} ms, p99 {p99:.3f} ms, "
                f"client busy {recording.client_busy:.0%}"
            )


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
