"""Other load clients (`vllm bench serve`, `sglang.bench_serving`): command and definitions.

Where another client defines a metric differently, ours is worked out by its definition,
from the same recorded bytes:

* `vllm bench serve`: the same definitions. It keeps connections alive, but opens them
  within the first requests.
* `sglang.bench_serving` (read at 0.5.2): only chunks with text count. E2EL ends with the
  last bytes of the stream ([DONE]) and not with the last token, and TPOT follows from
  it. TTFT is 0 where no chunk has text. Each request opens a connection of its own
  within its TTFT, which ours does not convert (0.3 ms on one host).

Of a ShareGPT file both send the same conversations in each round, one of them with
every prompt backwards: as long, and no prompt that the server met before.

Both send text, which the server turns into tokens within each TTFT. The suite sends
token ids, since it compares engines; compared with another client it sends text, too.
SGLang's client reads ours from a file. vLLM's draws its own, as random and as long,
since its reader of files needs pandas, which an engine's environment need not have.
"""

from __future__ import annotations

import dataclasses
import itertools
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

from perfgate import formatting
from perfgate.engines.registry import ENGINES
from perfgate.engines.sglang import INSIDE, STAND_INS
from perfgate.errors import Failure
from perfgate.load import metrics
from perfgate.load.client import Recording, no_progress, send
from perfgate.load.measurement import Target, sending, vllm_bench_arguments
from perfgate.load.prompts import load_tokenizer
from perfgate.load.request_times import NS_PER_MS, itl_ns, ttft_ns
from perfgate.load.response import read
from perfgate.load.workload import Request, ShareGPT, Workload, build_requests

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
SHOWN_CHARACTERS = 1500  # of what a client that failed wrote


class ClientFailed(Failure):
    """The other client did not give a result."""


@dataclass(frozen=True)
class OtherClient:
    """How another client is run, and what its figures are called.

    Attributes:
        arguments: (target, workload, requests with text, folder to write to) -> what
            follows the Python interpreter. Its figures are to go to `RESULT` in the
            folder.
        names: this suite's name -> its name in the result file.
        by_definitions: this suite's figures by its definitions.
    """

    arguments: Callable[[Target, Workload, Sequence[Request], Path], list[str]]
    names: dict[str, str]
    by_definitions: Callable[[Recording], dict[str, float]]


# What `vllm bench serve` runs. The command itself asks for the distribution "vllm",
# which a CPU build is not called.
VLLM_BENCH_SERVE = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
    "parser = argparse.ArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
)

# Packages that `sglang.bench_serving` imports and that text needs not: the real ones
# where they are installed, or what stands in for them.
SGLANG_STAND_INS = (str(STAND_INS), str(INSIDE / "sglang_client"))
SGLANG_BENCH_SERVING = (
    f"import runpy, sys; sys.path += {list(SGLANG_STAND_INS)!r}; "
    "runpy.run_module('sglang.bench_serving', run_name='__main__', alter_sys=True)"
)


def _vllm_arguments(
    target: Target,
    workload: Workload,
    requests: Sequence[Request],
    folder: Path,
) -> list[str]:
    if isinstance(workload.prompts, ShareGPT):
        path = folder / "conversations.json"
        path.write_text(json.dumps(_conversations(target, requests)))
        prompts = msgspec.structs.replace(workload.prompts, path=str(path))
        workload = msgspec.structs.replace(workload, prompts=prompts)
    return [
        "-c",
        VLLM_BENCH_SERVE,
        *vllm_bench_arguments(target, workload),
        # All that are in a file are sent, in its order.
        "--disable-shuffle",
        "--save-result",
        "--result-dir",
        str(folder),
        "--result-filename",
        RESULT,
        "--disable-tqdm",
    ]


def _conversations(
    target: Target, requests: Sequence[Request]
) -> list[dict[str, object]]:
    """Conversations of which a client sends these texts and asks for as many tokens.

    It takes the length of an answer from a text, so each has one of that length.
    """
    tokenizer = load_tokenizer(Path(target.tokenizer or ""))
    special = len(tokenizer.encode("").ids)
    conversations: list[dict[str, object]] = []
    for request in requests:
        length = request.output_len_tokens - special
        ids = itertools.islice(
            itertools.cycle(request.prompt_token_ids), length
        )
        answer = _text(list(ids), tokenizer)
        turns = [{"value": request.text}, {"value": answer}]
        conversations.append({"conversations": turns})
    return conversations


def _sglang_arguments(
    target: Target,
    workload: Workload,
    requests: Sequence[Request],
    folder: Path,
) -> list[str]:
    prompts = folder / "prompts.json"
    conversations = []
    for request in requests:
        turns = [{"value": request.text}, {"value": ""}]
        conversations.append({"conversations": turns})
    prompts.write_text(json.dumps(conversations))
    rate = workload.request_rate
    flags: dict[str, object] = {
        "backend": ENGINES[target.engine].bench_backend,
        "base-url": target.url,
        "model": target.served_model,
        "tokenizer": target.tokenizer or target.served_model,
        "dataset-name": "sharegpt",
        "dataset-path": prompts,
        "sharegpt-output-len": _output_len(workload),
        "num-prompts": workload.num_prompts,
        "request-rate": "inf" if rate is None else rate,
        "seed": workload.seed,
        "output-file": folder / RESULT,
    }
    if workload.max_concurrency is not None:
        flags["max-concurrency"] = workload.max_concurrency
    arguments = ["-W", "ignore", "-c", SGLANG_BENCH_SERVING, "--disable-tqdm"]
    for name, value in flags.items():
        arguments += [f"--{name}", str(value)]
    return arguments


def _output_len(workload: Workload) -> int:
    """Of every answer; SGLang's client asks for one length."""
    length = getattr(workload.prompts, "output_len_tokens", None)
    if not isinstance(length, int):
        raise ClientFailed(
            tried="sending these prompts with sglang.bench_serving",
            seen="their answers have lengths of their own",
            remedy="compare with vLLM's client",
        )
    return length


def by_vllm_definitions(recording: Recording) -> dict[str, float]:
    """The same as ours."""
    transcripts = [read(record) for record in recording.requests]
    return metrics.compute(transcripts, recording.start_ns, recording.end_ns)


def by_sglang_definitions(recording: Recording) -> dict[str, float]:
    """Times are those of chunks with text; a request lasts until its stream ends.

    Every token counts.
    """
    transcripts = [read(record) for record in recording.requests]
    values = metrics.compute(transcripts, recording.start_ns, recording.end_ns)
    ttfts_ms = []
    e2els_ms = []
    tpots_ms = []
    gaps_ms = []
    for record, t in zip(recording.requests, transcripts, strict=True):
        if t.error is not None or t.sent_ns is None:
            continue
        with_text = read(record, only_text=True)
        ttft_ms = 0.0
        if with_text.chunk_ns:
            ttft_ms = ttft_ns(with_text) / NS_PER_MS
        e2el_ms = (t.end_ns - t.sent_ns) / NS_PER_MS
        ttfts_ms.append(ttft_ms)
        e2els_ms.append(e2el_ms)
        if t.output_tokens > 1:
            tpots_ms.append((e2el_ms - ttft_ms) / (t.output_tokens - 1))
        for gap_ns in itl_ns(with_text):
            gaps_ms.append(gap_ns / NS_PER_MS)
    values["ttft_median_ms"] = statistics.median(ttfts_ms)
    values["e2el_median_ms"] = statistics.median(e2els_ms)
    if tpots_ms:
        values["tpot_median_ms"] = statistics.median(tpots_ms)
    if gaps_ms:
        values["itl_median_ms"] = statistics.median(gaps_ms)
    return values


# Our name -> the name in a result of `vllm bench serve`.
VLLM_NAMES = {
    "ttft_median_ms": "median_ttft_ms",
    "itl_median_ms": "median_itl_ms",
    "tpot_median_ms": "median_tpot_ms",
    "e2el_median_ms": "median_e2el_ms",
    "output_throughput": "output_throughput",
}
CLIENTS = {
    "vllm": OtherClient(
        arguments=_vllm_arguments,
        names=VLLM_NAMES,
        by_definitions=by_vllm_definitions,
    ),
    "sglang": OtherClient(
        arguments=_sglang_arguments,
        names=VLLM_NAMES | {"e2el_median_ms": "median_e2e_latency_ms"},
        by_definitions=by_sglang_definitions,
    ),
}


def as_text(
    requests: Sequence[Request], tokenizer: tokenizers.Tokenizer
) -> list[Request]:
    """The same requests with text in place of ids.

    As many tokens long where text of that length can be found.
    """
    with_text = []
    for request in requests:
        text = _text(list(request.prompt_token_ids), tokenizer)
        with_text.append(dataclasses.replace(request, text=text))
    return with_text


def _text(prompt_ids: list[int], tokenizer: tokenizers.Tokenizer) -> str:
    ids = prompt_ids
    for _ in range(FITTING_STEPS):
        text: str = tokenizer.decode(ids, skip_special_tokens=False)
        encoded = tokenizer.encode(text, add_special_tokens=False).ids
        lacking = len(prompt_ids) - len(encoded)
        if lacking == 0:
            break
        filled = encoded + prompt_ids[: max(0, lacking)]
        ids = filled[: len(prompt_ids)]
    return text


def run_other(
    python: str,
    client: OtherClient,
    target: Target,
    workload: Workload,
    requests: Sequence[Request],
) -> dict[str, float]:
    """One run of the other client: its figures under our names.

    Args:
        requests: with text; a client that draws its own sends as many.

    Raises:
        ClientFailed: it exits with an error, or not every request completed.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, RESULT)
        command = [
            python,
            *client.arguments(target, workload, requests, Path(folder)),
        ]
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=folder
        )
        if ended.returncode != 0 or not result.exists():
            output = (ended.stderr or ended.stdout).strip()
            raise ClientFailed(
                tried=shlex.join(command),
                seen=f"exit code {ended.returncode}; {output[-SHOWN_CHARACTERS:]}",
                remedy="does the interpreter have the client installed?",
            )
        # The standard library's reader: sglang.bench_serving writes a rate of Infinity.
        figures = json.loads(result.read_text().splitlines()[-1])
    completed = figures.get("completed")
    if completed != workload.num_prompts:
        raise ClientFailed(
            tried=shlex.join(command),
            seen=f"{completed} of {workload.num_prompts} requests completed",
            remedy="look at the server's log",
        )
    values = {}
    for name, client_name in client.names.items():
        values[name] = float(figures[client_name])
    return values


def run_suite(
    client: OtherClient,
    target: Target,
    workload: Workload,
    requests: Sequence[Request],
) -> dict[str, float]:
    """One run of this suite's client, by the other one's definitions.

    Raises:
        ClientFailed: not every request completed, or their tokens came all at once.
    """
    recording = send(requests, sending(target, workload, no_progress))
    tried = f"sending {len(requests)} requests with perfgate's client"
    remedy = "look at the server's log"
    errors = [read(record).error for record in recording.requests]
    failed = [error for error in errors if error is not None]
    if failed:
        count = formatting.count(len(failed), "request")
        raise ClientFailed(tried, f"{count} failed, first: {failed[0]}", remedy)
    figures = client.by_definitions(recording)
    lacking = [name for name in COMPARED if name not in figures]
    if lacking:
        raise ClientFailed(
            tried=tried,
            seen=f"no answer tells {lacking[0]}",
            remedy="ask for longer answers: --lengths",
        )
    return {name: figures[name] for name in COMPARED}


def turn_of(workload: Workload, turn: int) -> Workload:
    """What one turn of one client sends.

    No two turns share a prompt, or a prefix cache would answer the later one. The two
    turns of a round draw the same conversations, whose lengths differ by far more than
    two clients: see `requests_of`.
    """
    if isinstance(workload.prompts, ShareGPT):
        turn //= 2
    return msgspec.structs.replace(workload, seed=workload.seed + turn)


def requests_of(
    target: Target,
    workload: Workload,
    tokenizer: tokenizers.Tokenizer,
    is_backwards: bool = False,
) -> list[Request]:
    """The workload's requests, with text.

    Args:
        is_backwards: whether each prompt is sent backwards: as long, and another one.
    """
    requests = []
    for request in build_requests(workload, 0, target.vocab_size):
        if is_backwards:
            ids = request.prompt_token_ids[::-1]
            request = dataclasses.replace(request, prompt_token_ids=ids)
        requests.append(request)
    return as_text(requests, tokenizer)
