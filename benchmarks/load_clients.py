"""CPU that each load client takes for a streamed chunk, all of them in one run.

    python -m benchmarks.load_clients --vllm-python PATH --sglang-python PATH --tokenizer DIR

Every client streams the same answers from the paced server (`benchmarks.paced_server`),
in turns and in an order that is drawn by a seed. Server and client have a core each, with
real-time priority, so that other work does not take the cores from them. CPU is that of the
client's process, decoding and statistics included. It is the slope between a short and
a long run, so that imports, prompts and connections do not count.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.paced_server import (
    PacedServer,
    SentAnswer,
    on_core,
    paced_server,
)
from perfgate.load.other_clients import SGLANG_STAND_INS

SERVER_CORE, CLIENT_CORE = 0, 1
PRIORITY = "40"  # below the server's
TTFT_S = 0.3
SHORT_TOKENS = 8
FEWEST_CHUNKS = 10_000  # of a long run
SEED = 20261128
LOADS = [
    f"{streams}x{rate}"
    for streams in (64, 256)
    for rate in (1000, 5000, 10_000, 20_000)
]
ROOT = Path(__file__).parent.parent

# A worker imports its client once, and runs one job for each line that it is given.
LOOP = """
import json, os, sys, time
told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
def serve(run):
    print("ready", file=told, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        begun = time.process_time()
        run(job)
        print(time.process_time() - begun, file=told, flush=True)
"""
PERFGATE = """
from perfgate.load.client import Sending, send
from perfgate.load.other_clients import by_vllm_definitions
from perfgate.load.workload import Synthetic, Workload, build_requests
def run(job):
    workload = Workload(
        name="bench", num_prompts=job["streams"],
        prompts=Synthetic(output_len_tokens=job["tokens"]),
    )
    requests = build_requests(workload, 0, 4096)
    sending = Sending(
        url=job["url"] + "/v1/completions", model="fake",
        kernel_times=job["kernel_times"],
    )
    figures = by_vllm_definitions(send(requests, sending))
    assert figures["itl_median_ms"] > 0
serve(run)
"""
VLLM = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
def run(job):
    figures = main(parser.parse_args([
        "--backend", "openai", "--base-url", job["url"], "--endpoint",
        "/v1/completions", "--model", "fake", "--tokenizer", job["tokenizer"],
        "--dataset-name", "random", "--random-input-len", "128",
        "--random-output-len", str(job["tokens"]), "--num-prompts",
        str(job["streams"]), "--ignore-eos", "--disable-tqdm",
        "--ready-check-timeout-sec", "0",
    ]))
    assert figures["completed"] == job["streams"], figures
serve(run)
"""
SGLANG = (
    f"sys.path += {list(SGLANG_STAND_INS)!r}"
    + """
from sglang.benchmark.serving import cli_main
def run(job):
    result = f"/tmp/sglang-bench-{os.getpid()}.json"
    sys.argv = [
        "bench", "--backend", "vllm", "--base-url", job["url"], "--model", "fake",
        "--tokenizer", job["tokenizer"], "--dataset-name", "random-ids",
        "--random-input-len", "128", "--random-output-len", str(job["tokens"]),
        "--random-range-ratio", "1", "--num-prompts", str(job["streams"]),
        "--disable-tqdm", "--ready-check-timeout-sec", "0", "--warmup-requests", "0",
        "--output-file", result, *job["more"],
    ]
    cli_main()
    with open(result) as file:
        figures = json.loads(file.read().splitlines()[-1])
    os.remove(result)
    assert figures["completed"] == job["streams"], figures["completed"]
serve(run)
"""
)


@dataclass(frozen=True)
class Load:
    """What is streamed: some streams, all chunks a second, in step or one by one."""

    streams: int
    chunks_per_s: int
    in_step: bool

    @property
    def itl_s(self) -> float:
        """Between two chunks of a stream."""
        return self.streams / self.chunks_per_s

    def tokens(self, seconds: float) -> int:
        """Of each answer that streams for so long, longer where chunks are few."""
        seconds = max(seconds, FEWEST_CHUNKS / self.chunks_per_s)
        return SHORT_TOKENS + round(seconds / self.itl_s)

    def __str__(self) -> str:
        order = "in step" if self.in_step else "one by one"
        return f"{self.streams} streams, {self.chunks_per_s:,}/s, {order}"


class Client:
    """A load client in a process of its own."""

    def __init__(self, name: str, python: str, script: str, **job: Any) -> None:
        self.name = name
        self.job = job
        self.folder = tempfile.TemporaryDirectory()
        # In a file: a pipe that nobody reads is full after some runs.
        self.messages = Path(self.folder.name, "messages")
        with self.messages.open("w") as messages:
            self.process = subprocess.Popen(
                [*on_core(CLIENT_CORE, PRIORITY), python, "-c", LOOP + script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
                cwd=ROOT,
            )

    def cpu_s(self, server: PacedServer, load: Load, tokens: int) -> float:
        """CPU time of one run."""
        job = self.job | {
            "url": server.url,
            "streams": load.streams,
            "tokens": tokens,
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return float(self.answer())

    def answer(self) -> str:
        """The next line; the process ends with its messages if it failed."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            messages = self.messages.read_text()
            raise SystemExit(f"{self.name} failed:\n{messages[-3000:]}")
        return line


def cpu_us_per_chunk(
    server: PacedServer, client: Client, load: Load, seconds: float
) -> tuple[float, float]:
    """The slope, and the p99 of how late the server sent, ms."""
    server.pace(TTFT_S, load.itl_s, load.in_step)
    short = client.cpu_s(server, load, SHORT_TOKENS)
    server.sent()
    tokens = load.tokens(seconds)
    long = client.cpu_s(server, load, tokens)
    chunks = load.streams * (tokens - SHORT_TOKENS)
    return 1e6 * (long - short) / chunks, lateness_ms(server.sent())


def lateness_ms(answers: Sequence[SentAnswer]) -> float:
    """p99 of how late the server was; it is no bottleneck while that is below a step."""
    waits = []
    for answer in answers:
        waits.append(np.subtract(answer.sent_ns, answer.due_ns))
    return float(np.percentile(np.concatenate(waits), 99)) / 1e6


def table(
    measured: dict[Load, dict[str, list[float]]],
    late_ms: dict[Load, float],
    names: Sequence[str],
) -> str:
    """Markdown: the median over the rounds, and the ratio to the other clients."""
    heads = ["load", *names, "server late, p99"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 1)}"]
    for load, by_client in measured.items():
        ours = statistics.median(by_client[names[0]])
        cells = [str(load)]
        for name in names:
            value = statistics.median(by_client[name])
            cell = f"{value:.1f}"
            if name != names[0]:
                cell += f" ({ours / value:.2f})"
            cells.append(cell)
        cells.append(f"{late_ms[load]:.2f} ms")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def start_clients(
    vllm_python: str | None, sglang_python: str | None, tokenizer: str
) -> list[Client]:
    """All that can be run here; perfgate's is the first."""
    own = sys.executable
    clients = [
        Client("perfgate", own, PERFGATE, kernel_times=True),
        Client("perfgate, own times", own, PERFGATE, kernel_times=False),
    ]
    if vllm_python:
        clients.append(
            Client("vllm bench serve", vllm_python, VLLM, tokenizer=tokenizer)
        )
    if sglang_python:
        for name, more in (
            ("SGLang, Python", []),
            ("SGLang, Rust", ["--rust-client"]),
        ):
            job = {"tokenizer": tokenizer, "more": more}
            clients.append(Client(name, sglang_python, SGLANG, **job))
    return clients


def read_loads(texts: Sequence[str]) -> list[Load]:
    """Each in step and one by one."""
    loads = []
    for in_step in (True, False):
        for text in texts:
            streams, rate = text.split("x")
            loads.append(Load(int(streams), int(rate), in_step))
    return loads


def measure_all(
    server: PacedServer,
    clients: Sequence[Client],
    loads: Sequence[Load],
    seconds: float,
    rounds: int,
) -> str:
    """Every load with every client, in a drawn order; the table."""
    drawn = random.Random(SEED)
    measured: dict[Load, dict[str, list[float]]] = {
        load: {client.name: [] for client in clients} for load in loads
    }
    late_ms = dict.fromkeys(loads, 0.0)
    for client in clients:
        client.answer()  # all have imported before the first one runs
    for client in clients:
        # What is imported or compiled at the first use belongs to no chunk.
        client.cpu_s(server, loads[0], SHORT_TOKENS)
    for _ in range(rounds):
        for load in drawn.sample(loads, len(loads)):
            for client in drawn.sample(clients, len(clients)):
                cpu_us, late = cpu_us_per_chunk(server, client, load, seconds)
                measured[load][client.name].append(cpu_us)
                late_ms[load] = max(late, late_ms[load])
                click.echo(f"{load}, {client.name}: {cpu_us:.1f} us", err=True)
    return table(measured, late_ms, [client.name for client in clients])


@click.command()
@click.option("--vllm-python", help="has vllm bench serve")
@click.option("--sglang-python", help="has sglang.benchmark.serving")
@click.option("--tokenizer", default="", help="folder, for the other clients")
@click.option(
    "--load", "texts", multiple=True, default=LOADS, help="STREAMSxRATE"
)
@click.option("--seconds", default=2.0, show_default=True)
@click.option("--rounds", default=1, show_default=True)
def main(
    vllm_python: str | None,
    sglang_python: str | None,
    tokenizer: str,
    texts: Sequence[str],
    seconds: float,
    rounds: int,
) -> None:
    """Print CPU for a chunk, us, with perfgate's ratio to each other client."""
    with ExitStack() as stack:
        server = stack.enter_context(paced_server(SERVER_CORE))
        clients = start_clients(vllm_python, sglang_python, tokenizer)
        for client in clients:
            stack.callback(client.process.kill)
        loads = read_loads(texts)
        result = measure_all(server, clients, loads, seconds, rounds)
    load_1, _, load_15 = os.getloadavg()
    click.echo(result)
    click.echo(f"load average {load_1:.1f}, {load_15:.1f} over 15 minutes")


if __name__ == "__main__":
    main()
