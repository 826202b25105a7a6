"""How are other load clients run, and how do they define what they report?

Where another client defines a metric differently, ours is worked out by its definition,
from the same recorded bytes:

* `vllm bench serve`: the same definitions. It keeps connections alive, but opens them within the first requests.
* `sglang.bench_serving` (read at 0.5.2): only chunks with text count; E2EL ends with the last bytes of the stream
  ([DONE]) and not with the last token, and TPOT follows from it; TTFT is 0 where no chunk has text; each request opens
  a connection of its own within its TTFT, which ours does not convert (0.3 ms on one host).

Both send text, which the server turns into tokens within each TTFT. The suite sends
token ids, since what is compared there is the engine; beside another client it sends
text too. SGLang's client reads ours from a file. vLLM's draws its own, as random and as
long, since its reader of files needs pandas, which an engine's environment need not
have.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import tokenizers

from perfgate.engines.registry import ENGINES
from perfgate.errors import Failure
from perfgate.load import metrics
from perfgate.load.client import Recording, send
from perfgate.load.measurement import Target, sending, vllm_bench_arguments
from perfgate.load.request_times import NS_PER_MS, itl_ns, ttft_ns
from perfgate.load.response import Transcript, read
from perfgate.load.workload import Request, Workload, build_requests

COMPARED = (
    "ttft_median_ms",
    "itl_median_ms",
    "tpot_median_ms",
    "e2el_median_ms",
    "output_throughput",
)
# Text of random ids seldom has as many tokens as there were ids; it is cut or
# lengthened until it has.
FITTING_STEPS = 10
RESULT = "result.json"


class ClientFailed(Failure):
    """The other client did not give a result."""


@dataclass(frozen=True)
class OtherClient:
    """How another client is run, and what its figures are called.

    Attributes:
        arguments: (target, workload, requests with text, folder to write to) -> what
            follows the Python interpreter. Its figures are to go to `RESULT` in the
            folder.
        names: our name -> its name in the result file.
        ours: our figures by its definitions.
    """

    arguments: Callable[[Target, Workload, Sequence[Request], Path], list[str]]
    names: dict[str, str]
    ours: Callable[[Recording], dict[str, float]]


# What `vllm bench serve` runs. The command itself asks for the distribution "vllm",
# which a CPU build is not called.
VLLM_BENCH_SERVE = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
    "parser = argparse.ArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
)


def _vllm_arguments(
    target: Target, workload: Workload, requests: Sequence[Request], folder: Path
) -> list[str]:
    where = ["--save-result", "--result-dir", str(folder), "--result-filename", RESULT]
    return [
        "-c",
        VLLM_BENCH_SERVE,
        *vllm_bench_arguments(target, workload),
        *where,
        "--disable-tqdm",
    ]


def _sglang_arguments(
    target: Target, workload: Workload, requests: Sequence[Request], folder: Path
) -> list[str]:
    prompts = folder / "prompts.json"
    turns = [[{"value": request.text}, {"value": ""}] for request in requests]
    prompts.write_text(
        json.dumps([{"conversations": conversation} for conversation in turns])
    )
    flags = {
        "backend": ENGINES[target.engine].bench_backend,
        "base-url": target.url,
        "model": target.served_model,
        "tokenizer": target.tokenizer or target.served_model,
        "dataset-name": "sharegpt",
        "dataset-path": prompts,
        "sharegpt-output-len": _output_len(workload),
        "num-prompts": workload.num_prompts,
        "request-rate": "inf"
        if workload.request_rate is None
        else workload.request_rate,
        "seed": workload.seed,
        "output-file": folder / RESULT,
    }
    if workload.max_concurrency is not None:
        flags["max-concurrency"] = workload.max_concurrency
    pairs = [[f"--{name}", str(value)] for name, value in flags.items()]
    return [
        "-W",
        "ignore",
        "-m",
        "sglang.bench_serving",
        "--disable-tqdm",
        *(word for pair in pairs for word in pair),
    ]


def _output_len(workload: Workload) -> int:
    length: int = workload.prompts.output_len_tokens  # type: ignore[assignment]
    return length


def by_vllm_definitions(recording: Recording) -> dict[str, float]:
    """They are ours."""
    return metrics.compute(
        [read(r) for r in recording.requests], recording.start_ns, recording.end_ns
    )


def by_sglang_definitions(recording: Recording) -> dict[str, float]:
    """Times are those of chunks with text; a request lasts until its stream has ended; every token counts."""
    whole = [read(record) for record in recording.requests]
    with_text = [read(record, only_text=True) for record in recording.requests]
    values = metrics.compute(whole, recording.start_ns, recording.end_ns)
    pairs = [
        (t, text) for t, text in zip(whole, with_text, strict=True) if t.error is None
    ]
    times = [_sglang_times(t, text) for t, text in pairs]
    gaps_ms = [gap / NS_PER_MS for _, text in pairs for gap in itl_ns(text)]
    values["ttft_median_ms"] = statistics.median(ttft_ms for ttft_ms, _, _ in times)
    values["e2el_median_ms"] = statistics.median(lasted_ms for _, lasted_ms, _ in times)
    values["tpot_median_ms"] = statistics.median(
        (lasted_ms - ttft_ms) / (tokens - 1)
        for ttft_ms, lasted_ms, tokens in times
        if tokens > 1
    )
    if gaps_ms:
        values["itl_median_ms"] = statistics.median(gaps_ms)
    return values


def _sglang_times(t: Transcript, with_text: Transcript) -> tuple[float, float, int]:
    """TTFT and duration in ms, and the tokens."""
    assert t.sent_ns is not None
    ttft_ms = ttft_ns(with_text) / NS_PER_MS if with_text.chunk_ns else 0.0
    return ttft_ms, (t.end_ns - t.sent_ns) / NS_PER_MS, t.output_tokens


SAME_WORDS = {
    name: f"median_{name.removesuffix('_median_ms')}_ms"
    for name in COMPARED
    if name.endswith("_ms")
}
SAME_WORDS["output_throughput"] = "output_throughput"
CLIENTS = {
    "vllm": OtherClient(
        arguments=_vllm_arguments,
        names=SAME_WORDS,
        ours=by_vllm_definitions,
    ),
    "sglang": OtherClient(
        arguments=_sglang_arguments,
        names=SAME_WORDS | {"e2el_median_ms": "median_e2e_latency_ms"},
        ours=by_sglang_definitions,
    ),
}


def as_text(
    requests: Sequence[Request], tokenizer: tokenizers.Tokenizer
) -> list[Request]:
    """The same requests with text in place of ids, as many tokens long where text of that length can be found."""
    return [
        dataclasses.replace(r, text=_text(list(r.prompt_token_ids), tokenizer))
        for r in requests
    ]


def _text(ids: list[int], tokenizer: tokenizers.Tokenizer) -> str:
    wanted, spare = len(ids), ids
    for _ in range(FITTING_STEPS):
        text: str = tokenizer.decode(ids, skip_special_tokens=False)
        found = tokenizer.encode(text, add_special_tokens=False).ids
        if len(found) == wanted:
            break
        ids = (
            found[:wanted]
            if len(found) > wanted
            else found + spare[: wanted - len(found)]
        )
    return text


def run_other(
    python: str,
    client: OtherClient,
    target: Target,
    workload: Workload,
    requests: Sequence[Request],
) -> dict[str, float]:
    """One run of the other client with requests that have text, or as many of its own: its figures under our names.

    Raises:
        ClientFailed: it exits with an error, or its result file lacks a figure.

    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, RESULT)
        command = [python, *client.arguments(target, workload, requests, Path(folder))]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=folder
        )
        if done.returncode != 0 or not result.exists():
            seen = f"exit code {done.returncode}; {(done.stderr or done.stdout).strip()[-1500:]}"
            raise ClientFailed(
                shlex.join(command),
                seen,
                "does the interpreter have the client installed?",
            )
        # The standard library's reader: sglang.bench_serving writes a rate of Infinity.
        figures = json.loads(result.read_text().splitlines()[-1])
    if figures.get("completed") != workload.num_prompts:
        seen = (
            f"{figures.get('completed')} of {workload.num_prompts} requests completed"
        )
        raise ClientFailed(shlex.join(command), seen, "look at the server's log")
    return {ours: float(figures[theirs]) for ours, theirs in client.names.items()}


def run_ours(
    client: OtherClient, target: Target, workload: Workload, requests: Sequence[Request]
) -> dict[str, float]:
    """One run of this suite's client, by the other one's definitions."""
    recording = send(requests, sending(target, workload, lambda _d, _t: None))
    return {
        name: value
        for name, value in client.ours(recording).items()
        if name in COMPARED
    }


def turn_of(workload: Workload, turn: int) -> Workload:
    """What one turn of one client sends: no two turns share a prompt, or a prefix cache would answer the later one."""
    return msgspec.structs.replace(workload, seed=workload.seed + turn)


def requests_of(
    target: Target, workload: Workload, tokenizer: tokenizers.Tokenizer
) -> list[Request]:
    """The workload's requests, with text."""
    return as_text(build_requests(workload, 0, target.vocab_size), tokenizer)
