"""How exact the load client's times are, by a server that knows when it sent each chunk.

    python -m benchmarks.load_accuracy truth
    python -m benchmarks.load_accuracy truth --busy 2
    python -m benchmarks.load_accuracy streams
    python -m benchmarks.load_accuracy memory

Server and client have a core each (`benchmarks.paced_server`), with real-time priority, so
that other work does not take the cores from them. With `--busy` the client has ordinary
priority, and so many busy loops on its core beside it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from benchmarks.load_clients import (
    CLIENT_CORE,
    LOADS,
    PRIORITY,
    SERVER_CORE,
    TTFT_S,
    Load,
    read_loads,
)
from benchmarks.paced_server import PacedServer, SentAnswer, paced_server
from perfgate.load.client import Recording, Sending, send
from perfgate.load.request_times import itl_ns, ttft_ns
from perfgate.load.response import Transcript, read
from perfgate.load.workload import Synthetic, Workload, build_requests

BUSY_LOOP = [
    "taskset",
    "-c",
    str(CLIENT_CORE),
    "sh",
    "-c",
    "while :; do :; done",
]
TOKENS_PER_S = 20
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Absolute differences to what the server really sent, ms.

    Attributes:
        lag: of each chunk's time behind its sending.
    """

    ttft: Floats
    itl: Floats
    lag: Floats


def stream(
    server: PacedServer, load: Load, seconds: float, kernel_times: bool = True
) -> tuple[Recording, list[Transcript]]:
    """One run of the client, one request a stream, and its answers read."""
    server.pace(TTFT_S, load.itl_s, load.in_step)
    workload = Workload(
        name="accuracy",
        num_prompts=load.streams,
        prompts=Synthetic(output_len_tokens=load.tokens(seconds)),
    )
    sending = Sending(
        url=f"{server.url}/v1/completions",
        model="fake",
        kernel_times=kernel_times,
    )
    recording = send(build_requests(workload, 0, 4096), sending)
    return recording, [read(record) for record in recording.requests]


def run(
    server: PacedServer, load: Load, seconds: float, kernel_times: bool
) -> tuple[Recording, Errors]:
    """One run, and what is wrong with its times."""
    recording, transcripts = stream(server, load, seconds, kernel_times)
    return recording, errors(transcripts, server.sent())


def errors(
    transcripts: Sequence[Transcript], answers: Sequence[SentAnswer]
) -> Errors:
    """The client's times of all requests, compared with the server's."""
    by_index = {}
    for answer in answers:
        by_index[int(answer.request_id.rpartition("-")[2])] = answer
    ttft, itl, lag = [], [], []
    for t in transcripts:
        answer = by_index[t.index]
        sent_ns = np.array(answer.sent_ns)
        ttft.append([ttft_ns(t) - (sent_ns[0] - answer.received_ns)])
        itl.append(itl_ns(t) - np.diff(sent_ns))
        lag.append(np.subtract(t.chunk_ns, sent_ns))
    return Errors(_ms(ttft), _ms(itl), _ms(lag))


def _ms(parts: Sequence[npt.ArrayLike]) -> Floats:
    return np.abs(np.concatenate(parts)) / 1e6


def shown(sample: Floats) -> str:
    """Median, p99 and the largest."""
    return " / ".join(f"{x:.3f}" for x in np.percentile(sample, (50, 99, 100)))


@contextlib.contextmanager
def client_core(busy: int) -> Iterator[None]:
    """Run on the client's core: undisturbed, or beside busy loops."""
    os.sched_setaffinity(0, {CLIENT_CORE})
    loops = [subprocess.Popen(BUSY_LOOP) for _ in range(busy)]
    if not busy:
        priority = os.sched_param(int(PRIORITY))
        os.sched_setscheduler(0, os.SCHED_FIFO, priority)
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@click.group()
def main() -> None:
    """Accuracy of the load client."""


@main.command()
@click.option("--busy", default=0, help="busy loops on the client's core")
@click.option(
    "--load", "texts", multiple=True, default=LOADS, help="STREAMSxRATE"
)
@click.option("--seconds", default=2.0, show_default=True)
def truth(busy: int, texts: Sequence[str], seconds: float) -> None:
    """Errors with the kernel's times and with the client's own, ms: median / p99 / largest."""
    click.echo("| load | times | ITL | TTFT | lag of a chunk | busy |")
    click.echo("|---|---|---|---|---|--:|")
    with paced_server(SERVER_CORE) as server, client_core(busy):
        for load in read_loads(texts):
            for kernel_times in (True, False):
                recording, found = run(server, load, seconds, kernel_times)
                name = "own" if recording.no_kernel_times else "kernel's"
                cells = [str(load), name]
                for sample in (found.itl, found.ttft, found.lag):
                    cells.append(shown(sample))
                cells.append(f"{recording.client_busy:.0%}")
                click.echo(f"| {' | '.join(cells)} |")
    click.echo(f"load average {os.getloadavg()[0]:.1f}")


@main.command()
@click.option("--seconds", default=3.0, show_default=True)
@click.argument("counts", nargs=-1, type=int)
def streams(counts: Sequence[int], seconds: float) -> None:
    """Lag of a chunk's time at 20 tokens/s a stream, for so many streams."""
    with paced_server(SERVER_CORE) as server, client_core(0):
        for count in counts or (1024, 2048, 3072, 4096, 5120):
            load = Load(count, TOKENS_PER_S * count, in_step=False)
            for kernel_times in (True, False):
                recording, found = run(server, load, seconds, kernel_times)
                name = "own" if recording.no_kernel_times else "kernel's"
                click.echo(
                    f"{load}, {name} times: lag {shown(found.lag)} ms, client busy "
                    f"{recording.client_busy:.0%}"
                )
    click.echo(f"load average {os.getloadavg()[0]:.1f}")


def resident_bytes() -> int:
    """Memory of this process."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@main.command()
def memory() -> None:
    """What a chunk takes beyond its text, once its answer is read."""
    load = Load(1000, 50_000, in_step=False)
    with paced_server(SERVER_CORE) as server, client_core(0):
        stream(server, load, 0.1)
        before = resident_bytes()
        recording, transcripts = stream(server, load, 2.0)
        grown = resident_bytes() - before
    chunks = sum(len(t.chunk_ns) for t in transcripts)
    text = sum(len(record.reads.body) for record in recording.requests)
    click.echo(
        f"{chunks:,} chunks: {grown / chunks:.0f} bytes a chunk, of which "
        f"{text / chunks:.0f} are what the server sent"
    )


if __name__ == "__main__":
    main()
