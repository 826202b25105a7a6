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
from perfgate.load.prompts import (
    GENERATOR_VERSION,
    FileSlice,
    PromptFile,
    ShareGPT,
    Synthetic,
    UnusableWorkload,
    draw,
    from_file,
)

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Arrivals",
    "Conversations",
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


Prompts = Synthetic | ShareGPT | PromptFile | Conversations
# One request at a time, a closed loop, all at once, or at a rate.
Arrivals = Literal["single", "closed", "burst", "open"]


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
            is burstier, infinity makes all gaps equal.
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
    """

    name: str
    prompts: Prompts = Synthetic()
    num_prompts: int
    request_rate: float | None = None
    burstiness: float = 1.0
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

    def __post_init__(self) -> None:
        if self.num_prompts < 1 or self.repetitions < 1:
            raise ValueError(
                f"{self.name}: num_prompts and repetitions must be at least 1"
            )
        if (
            self.request_rate is not None
            and not 0 < self.request_rate < math.inf
        ):
            raise ValueError(
                f"{self.name}: request_rate must be above 0 and finite; None sends all at once"
            )
        if not self.burstiness > 0:
            raise ValueError(f"{self.name}: burstiness must be above 0")
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise ValueError(f"{self.name}: max_concurrency must be at least 1")
        if self.doubles_to is not None and not (
            self.max_concurrency and self.max_concurrency <= self.doubles_to
        ):
            raise ValueError(
                f"{self.name}: doubles_to must be max_concurrency or more"
            )
        if self.client_processes is not None and not (
            1 <= self.client_processes <= CLIENT_PROCESSES_LIMIT
        ):
            raise ValueError(
                f"{self.name}: client_processes is {self.client_processes}, and must be "
                f"from 1 to {CLIENT_PROCESSES_LIMIT}"
            )

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
            return "single"
        return "closed"

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
        for field in ("path", "tokenizer"):
            if isinstance(prompts.get(field), str):
                prompts[field] = _file_hash(Path(prompts[field]))
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


def _file_hash(path: Path) -> str:
    if path.is_dir():
        path = path / "tokenizer.json"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UnusableWorkload(
            tried=f"read {path}",
            seen=str(error),
            remedy="give the path of an existing file",
        ) from error


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
    if math.isfinite(workload.burstiness):
        gaps = rng.gamma(workload.burstiness, 1.0, count)
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
    if isinstance(workload.prompts, Synthetic):
        prompts = draw(workload.prompts, count, vocab_size, rng, workload.seed)
    elif isinstance(workload.prompts, Conversations):
        prompts = workload.prompts.draw(count, vocab_size, rng)
    else:
        part = FileSlice(workload.seed, repetition, count, workload.num_prompts)
        prompts = from_file(workload.prompts, part)
    requests: list[Request] = []
    for (ids, output_len), arrival_ns in zip(prompts, arrivals, strict=True):
        request = Request(
            index=len(requests),
            prompt_token_ids=ids,
            output_len_tokens=output_len,
            arrival_ns=arrival_ns,
        )
        requests.append(request)
    return tuple(requests)
