"""Workload: number of prompts, arrivals (Poisson rate, burst) and concurrency.

A workload is a frozen value: which prompts, how many, how they arrive. From it, a
repetition number and a vocabulary size follow the requests, always the same ones. Every
repetition and every warm-up pass gets prompts of its own, drawn from the same
distribution, because an engine that has seen a prompt may answer it out of its prefix
cache. Where sharing a prefix is the point, the workload says so
(`Synthetic.shared_prefix_tokens`).

Arrivals: `request_rate=None` sends everything at once (the "inf" of other clients). A
rate sends in an open loop with gamma-distributed gaps (burstiness 1 is Poisson).
`max_concurrency` caps what is in flight: alone it makes a closed loop, with a rate it
caps the open loop.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from perfgate.load.conversations import Conversations
from perfgate.load.frozen import Frozen, file_hash, prompts_of
from perfgate.load.lengths import Drawn, draw_mixed
from perfgate.load.prompt_text import UnusableWorkload
from perfgate.load.prompts import (
    GENERATOR_VERSION,
    WORDS,
    FileSlice,
    Prompt,
    PromptFile,
    ShareGPT,
    Synthetic,
    draw,
    from_file,
)

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Arrivals",
    "Conversations",
    "Drawn",
    "Frozen",
    "PromptFile",
    "Prompts",
    "Request",
    "ShareGPT",
    "Synthetic",
    "UnusableWorkload",
    "Workload",
    "arrivals_ns",
    "build_requests",
]
NS = 1_000_000_000  # in a second
# A typing mistake, not a machine: 64 processes read two million chunks a second.
CLIENT_PROCESSES_LIMIT = 64


# A prompt so long, and so much longer than its answer, that its TTFT is the device's
# work and not the server's Python.
PREFILL_TOKENS, PREFILL_SHARE = 512, 8

Prompts = Synthetic | Drawn | ShareGPT | PromptFile | Frozen | Conversations
# One request at a time, a closed loop, all at once, or at a rate. "prefill" is one long
# prompt at a time, and "steady" a closed loop whose slots free up evenly.
Arrivals = Literal["single", "closed", "burst", "open", "prefill", "steady"]


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to ask for.

    Attributes:
        arrival_ns: counts from the start of the measurement.
        text: sent in place of the ids, so that the server makes tokens of it; None
            sends the ids.
    """

    index: int
    prompt_token_ids: tuple[int, ...]
    output_len_tokens: int
    arrival_ns: int
    text: str | None = None


class Workload(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What is sent and when.

    Attributes:
        name: slug, "closed-c16".
        request_rate: requests/s of the open loop; None sends all at once.
        burstiness: shape of the open loop's gamma-distributed gaps; 1 is Poisson, less
            is burstier, infinity makes all gaps equal. JSON has null for infinity, which
            is read as that.
        max_concurrency: most requests in flight; None for no limit.
        warm_up_prompts: requests of one warm-up pass; None lets `warm_up_size` decide.
        slo_ms: limits for goodput as (metric, ms) pairs, of "ttft", "tpot", "e2el".
        client_processes: processes of the client that send; None uses one, and more
            where one is too busy. No part of the fingerprint: it is how the client
            measures, not what it sends.
        asks_routing: the server is asked where the tokens go, one request at a time,
            and is not timed.
        graded: its answers are compared with expected ones, and nothing is timed.
        doubles_to: a ramp: `max_concurrency` is doubled, up to this, until the
            throughput stops growing. None for one load.
        speculative: the server drafts tokens, so that a chunk holds several.
        soak_minutes: for so long the load is kept up before it is measured; after all
            other loads.
        staggered: whether the answers of the first wave have evenly spaced lengths, so
            that a closed loop's slots free up one after the other.
    """

    name: str
    prompts: Prompts = Synthetic()
    num_prompts: int
    request_rate: float | None = None
    burstiness: float | None = 1.0
    max_concurrency: int | None = None
    repetitions: int = 3
    seed: int = 0
    warm_up_prompts: int | None = None
    slo_ms: tuple[tuple[Literal["ttft", "tpot", "e2el"], float], ...] = ()
    client_processes: int | None = None
    asks_routing: bool = False
    graded: bool = False
    doubles_to: int | None = None
    speculative: bool = False
    soak_minutes: float = 0.0
    staggered: bool = False

    def __post_init__(self) -> None:
        if self.num_prompts < 1 or self.repetitions < 1:
            raise ValueError(
                f"{self.name}: num_prompts and repetitions must be at least 1"
            )
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise ValueError(f"{self.name}: max_concurrency must be at least 1")
        if self.client_processes is not None and not (
            1 <= self.client_processes <= CLIENT_PROCESSES_LIMIT
        ):
            raise ValueError(
                f"{self.name}: client_processes is {self.client_processes}, and must be "
                f"from 1 to {CLIENT_PROCESSES_LIMIT}"
            )
        self._check_numbers()
        self._check_loops()

    def _check_numbers(self) -> None:
        """Refuse arrivals and limits that are no numbers; read infinity from JSON."""
        if (
            self.request_rate is not None
            and not 0 < self.request_rate < math.inf
        ):
            raise ValueError(
                f"{self.name}: request_rate must be above 0 and finite; None sends all at once"
            )
        if self.burstiness is None:
            msgspec.structs.force_setattr(self, "burstiness", math.inf)
        if not self.gap_shape > 0:
            raise ValueError(f"{self.name}: burstiness must be above 0")
        for metric, limit_ms in self.slo_ms:
            if not math.isfinite(limit_ms):
                raise ValueError(
                    f"{self.name}: the limit of {metric} must be finite"
                )

    def _check_loops(self) -> None:
        """Refuse a ramp or a staggered start of what is no closed loop."""
        streams = self.max_concurrency or 0
        if self.doubles_to is not None and not 1 <= streams <= self.doubles_to:
            raise ValueError(
                f"{self.name}: doubles_to must be max_concurrency or more"
            )
        is_closed = streams > 1
        if self.staggered and (not is_closed or self.request_rate is not None):
            raise ValueError(
                f"{self.name}: staggered needs max_concurrency above 1, and no request_rate"
            )

    @property
    def gap_shape(self) -> float:
        """The burstiness, which is never None here."""
        if self.burstiness is None:
            return math.inf
        return self.burstiness

    @property
    def shares_prefixes(self) -> bool:
        """Whether answers out of the prefix cache are meant."""
        prompts = self.prompts
        if isinstance(prompts, Conversations):
            return True
        return (
            isinstance(prompts, Synthetic) and prompts.shared_prefix_tokens > 0
        )

    @property
    def arrivals(self) -> Arrivals:
        """How requests arrive; what a metric's noise depends on most."""
        if self.request_rate is not None:
            return "open"
        if self.max_concurrency is None:
            return "burst"
        if self.max_concurrency == 1:
            return "prefill" if self.is_prefill else "single"
        return "steady" if self.staggered else "closed"

    @property
    def is_prefill(self) -> bool:
        """Whether the prompts are so long that the device's work decides the TTFT."""
        prompts = self.prompts
        if not isinstance(prompts, Synthetic | Drawn):
            return False
        is_long = prompts.input_len_tokens >= PREFILL_TOKENS
        longer = prompts.input_len_tokens / prompts.output_len_tokens
        return is_long and longer >= PREFILL_SHARE

    @property
    def longest_tokens(self) -> int | None:
        """The longest prompt with its answer; None of prompts of a file."""
        if isinstance(self.prompts, Synthetic | Drawn):
            return self.prompts.longest_tokens
        return None

    @property
    def first_wave(self) -> int:
        """Requests of a staggered load whose answers are shortened."""
        if not self.staggered or self.max_concurrency is None:
            return 0
        return min(self.max_concurrency, self.num_prompts)

    @property
    def batch(self) -> int | None:
        """Requests in flight together; None in an open loop, where that changes all the time."""
        if self.request_rate is not None:
            return None
        slots = self.max_concurrency or self.num_prompts
        return min(self.num_prompts, slots)

    def fingerprint(self) -> str:
        """Identity of what is sent and when: "sha256:..." over fields and contents of files."""
        prompts = msgspec.to_builtins(self.prompts)
        if isinstance(self.prompts, Frozen):
            # By the hash of where they came from: it is told on every machine.
            prompts = {"kind": "frozen", "sha256": self.prompts.sha256}
        prompts.pop("allow_truncated", None)
        for field in ("path", "tokenizer"):
            if isinstance(prompts.get(field), str):
                prompts[field] = _source_hash(prompts[field])
        identity = {
            "generator": GENERATOR_VERSION,
            "prompts": prompts,
            "num_prompts": self.num_prompts,
            "request_rate": self.request_rate,
            "burstiness": self.burstiness,
            "max_concurrency": self.max_concurrency,
            "seed": self.seed,
        }
        for name in ("doubles_to", "soak_minutes"):
            if getattr(self, name):
                identity[name] = getattr(self, name)
        if self.doubles_to:
            identity["slo_ms"] = self.slo_ms
        if self.staggered:
            identity["staggered"] = True
        text = msgspec.json.encode(identity, order="deterministic")
        return f"sha256:{hashlib.sha256(text).hexdigest()}"

    def warm_up_size(self) -> int:
        """Requests of one warm-up pass: enough for every batch size of the measurement.

        A burst needs all of its requests, a closed loop two per slot (the first wave,
        and refills in the middle of decoding), an open loop ten seconds of arrivals.
        """
        if self.warm_up_prompts is not None:
            return self.warm_up_prompts
        if self.request_rate is not None:
            ten_seconds = math.ceil(10 * self.request_rate)
            return min(self.num_prompts, max(16, ten_seconds))
        if self.max_concurrency is not None:
            return min(self.num_prompts, 2 * self.max_concurrency)
        return self.num_prompts


def _source_hash(name: str) -> str:
    """Of a data set or a tokenizer; of no tokenizer its name."""
    if name == WORDS:
        return name
    path = Path(name)
    if path.is_dir():
        path = path / "tokenizer.json"
    return file_hash(path)


def arrivals_ns(
    workload: Workload, count: int, rng: np.random.Generator
) -> list[int]:
    """When each of `count` requests is due, ns after the start.

    Gaps are gamma distributed with shape `burstiness` and mean 1 / rate, then scaled so
    that the last request is due at count / rate exactly: the offered rate is the
    declared one in every repetition (`vllm bench serve` does the same).
    """
    if workload.request_rate is None:
        return [0] * count
    import numpy as np  # here and below: collecting tests must not wait for it

    gaps = np.ones(count)
    if math.isfinite(workload.gap_shape):
        gaps = rng.gamma(workload.gap_shape, 1.0, count)
    arrivals = np.cumsum(gaps)
    last_due_s = count / workload.request_rate
    due_ns = arrivals * (last_due_s / arrivals[-1]) * NS
    return [int(ns) for ns in due_ns]


def build_requests(
    workload: Workload,
    repetition: int,
    vocab_size: int,
    count: int | None = None,
    attempt: int = 0,
) -> tuple[Request, ...]:
    """The requests of one repetition; -1, -2, ... are warm-up passes.

    Args:
        workload: what to build from.
        repetition: repetitions of one workload share no prompt.
        vocab_size: ids are drawn below it.
        count: fewer requests than `num_prompts`, for a warm-up pass.
        attempt: the same repetition once more, with other synthetic prompts.

    Raises:
        UnusableWorkload: the vocabulary is too small, or a file is missing, broken, or
            has too few prompts.
    """
    import numpy as np

    if count is None:
        count = workload.num_prompts
    # Seed sequences take no negative numbers; 2**32 is further than any repetition.
    seeds = [workload.seed, repetition % 2**32, GENERATOR_VERSION]
    if attempt:
        seeds.append(attempt)
    rng = np.random.default_rng(seeds)
    arrivals = arrivals_ns(workload, count, rng)
    part = FileSlice(workload.seed, repetition, count, workload.num_prompts)
    prompts = _prompts(workload, part, vocab_size, rng)
    requests: list[Request] = []
    for (ids, output_len), arrival_ns in zip(prompts, arrivals, strict=True):
        index = len(requests)
        if index < workload.first_wave:
            share = (index + 1) / workload.first_wave
            output_len = math.ceil(output_len * share)
        request = Request(
            index=index,
            prompt_token_ids=ids,
            output_len_tokens=output_len,
            arrival_ns=arrival_ns,
        )
        requests.append(request)
    return tuple(requests)


def _prompts(
    workload: Workload,
    part: FileSlice,
    vocab_size: int,
    rng: np.random.Generator,
) -> list[Prompt]:
    """The prompts of one repetition, whatever they are made of."""
    spec = workload.prompts
    if isinstance(spec, Synthetic):
        return draw(spec, part.count, vocab_size, rng, workload.seed)
    if isinstance(spec, Drawn):
        return draw_mixed(spec, part.count, vocab_size, rng)
    if isinstance(spec, Conversations):
        return spec.draw(part.count, vocab_size, rng)
    if isinstance(spec, Frozen):
        return prompts_of(spec, part, vocab_size)
    return from_file(spec, part)
