"""What will it cost to serve this model on that GPU?

Everything here follows from a config.json and a data sheet, before a GPU is rented.
Where the study published another figure than the arithmetic gives, that is said
(`claims`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from perfgate.errors import Failure
from perfgate.machine.datasheets import GIB, Gpu
from perfgate.machine.memory import MemoryUnknown
from perfgate.models.catalogue import BYTES_PER_PARAMETER, Architecture

BATCHES = (1, 2, 4, 8, 16, 32, 64)
# vLLM's default of --gpu-memory-utilization (0.26 and 0.32).
UTILIZATION = 0.92
# What is neither weights nor KV cache within that: activations of the largest prefill,
# graphs, the driver's own. Taken from vLLM 0.26 with Mixtral-8x7B on one H200: 0.92 x
# 139.8 GiB less 87.0 GiB of weights left 38.97 GiB of KV cache.
RESERVE_BYTES = int(2.6 * GIB)


class CannotSplit(Failure):
    """Ranks among which a model cannot be divided."""


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked of a model.

    Attributes:
        ranks: GPUs, tensor parallel size.
        expert_parallel: whether experts are spread over the ranks whole.
        context_tokens: mean tokens in a sequence's KV cache while it decodes; 0 leaves
            the KV cache out of a step.

    """

    gpu: Gpu
    ranks: int
    expert_parallel: bool = False
    dtype: str = "bfloat16"
    context_tokens: int = 0


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One decode step of a batch.

    Attributes:
        experts_touched: of each sparse layer, expected with uniform routing; 1 for a
            dense model.
        bytes_read: over all ranks.
        floor_ms: the time that the memory's bandwidth allows at best.

    """

    batch: int
    experts_touched: float
    bytes_read: float
    floor_ms: float


class Communication(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Bytes that one token's hidden states make the ranks exchange, over all layers.

    Attributes:
        all_reduce: size of the vectors that are summed over ranks, two a layer (after
            attention, after the feed-forward). vLLM's expert parallelism beside tensor
            parallelism sums the same ones.
        all_to_all: with attention data parallel, what is sent to experts of other ranks
            and back, one copy for each expert.
        all_to_all_once: the same if a rank that holds both of a token's experts gets it
            once.

    """

    all_reduce: float
    all_to_all: float
    all_to_all_once: float


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model on some GPUs. Bytes unless the name says else.

    Attributes:
        copied_bytes_per_gpu: of the weights, those that each rank holds whole.
        data_parallel_weights_bytes_per_gpu: where experts alone are spread and
            attention is data parallel.
        data_parallel_copied_bytes: what that holds more than once, over all ranks; 0 on
            one rank.
        kv_tokens: that fit all ranks together; 0 if the weights do not fit.

    """

    name: str
    parameters: int
    active_parameters: int
    weights_bytes: float
    weights_bytes_per_gpu: float
    copied_bytes_per_gpu: float
    data_parallel_weights_bytes_per_gpu: float
    data_parallel_copied_bytes: float
    kv_bytes_per_token: int
    kv_tokens: int
    fits: bool
    why_not: str | None
    steps: tuple[Step, ...]
    communication: Communication


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that was published about the study's models, and what the arithmetic says of it."""

    claim: str
    holds: bool
    arithmetic: str


def estimate(
    name: str,
    architecture: Architecture,
    asked: Question,
    batches: Sequence[int] = BATCHES,
) -> Estimate:
    """Everything about one model.

    Args:
        name: for the reader.
        batches: decode steps of so many sequences.

    Raises:
        CannotSplit: heads or experts cannot be divided among so many ranks.

    """
    _refuse(name, architecture, asked)
    ranks, size = asked.ranks, BYTES_PER_PARAMETER[asked.dtype]
    weights = architecture.weights_bytes_per_rank(ranks, asked.dtype)
    apart = architecture.weights_bytes_per_rank_data_parallel(ranks, asked.dtype)
    tokens, why_not = _room(architecture, asked, weights)
    return Estimate(
        name=name,
        parameters=architecture.parameters,
        active_parameters=architecture.active_parameters,
        weights_bytes=architecture.parameters * size,
        weights_bytes_per_gpu=weights,
        copied_bytes_per_gpu=architecture.copied_parameters(ranks) * size
        if ranks > 1
        else 0.0,
        data_parallel_weights_bytes_per_gpu=apart,
        data_parallel_copied_bytes=apart * ranks - architecture.parameters * size,
        kv_bytes_per_token=architecture.kv_bytes_per_token(asked.dtype),
        kv_tokens=tokens,
        fits=why_not is None,
        why_not=why_not,
        steps=tuple(step(architecture, asked, batch) for batch in batches),
        communication=communication(architecture, ranks, asked.dtype),
    )


def step(architecture: Architecture, asked: Question, batch: int) -> Step:
    """One decode step: what it reads, and how fast that can be."""
    per_rank = architecture.step_bytes_per_rank(
        asked.ranks, asked.dtype, batch, asked.context_tokens
    )
    return Step(
        batch=batch,
        experts_touched=architecture.expected_experts_touched(batch),
        bytes_read=per_rank * asked.ranks,
        floor_ms=per_rank / asked.gpu.bandwidth_bytes_per_s * 1e3,
    )


def step_ratio(
    of: Architecture,
    over: Architecture,
    batch: int,
    ranks: int,
    dtype: str,
    context_tokens: float = 0,
) -> float:
    """The line: bytes that a decode step of `of` reads over those of `over`."""
    numerator, denominator = (
        a.step_bytes_per_rank(ranks, dtype, batch, context_tokens) for a in (of, over)
    )
    return numerator / denominator


def communication(architecture: Architecture, ranks: int, dtype: str) -> Communication:
    """What one token makes the ranks exchange; all zero on one rank.

    A token's k experts are taken to be a uniform choice without repetition. An expert
    lies on another rank with probability (N - 1) / N; of N ranks with E/N experts each,
    one other holds at least one of the k with probability 1 - C(E - E/N, k) / C(E, k).
    """
    if ranks == 1:
        return Communication(all_reduce=0.0, all_to_all=0.0, all_to_all_once=0.0)
    vector = architecture.hidden_size * BYTES_PER_PARAMETER[dtype]
    experts, chosen = architecture.num_local_experts, architecture.num_experts_per_tok
    there_and_back = 2 * architecture.num_sparse_layers * vector
    asked = (
        1 - math.comb(experts - experts // ranks, chosen) / math.comb(experts, chosen)
        if architecture.is_moe
        else 0
    )
    return Communication(
        all_reduce=2.0 * architecture.num_hidden_layers * vector,
        all_to_all=there_and_back * chosen * (ranks - 1) / ranks,
        all_to_all_once=there_and_back * (ranks - 1) * asked,
    )


# Names that `quantities` gives.
QUANTITIES = (
    "weights_gb_per_rank",
    "shared_gb",
    "parameter_ratio",
    "all_reduce_kib",
    "all_to_all_kib",
    "all_to_all_once_kib",
    "step_ratio_1",
    "step_ratio_8",
    "step_ratio_32",
)


def quantities(architecture: Architecture, beside: Architecture) -> dict[str, float]:
    """What a published claim about a pair can be held against: two ranks, bfloat16.

    Returns:
        weights_gb_per_rank, shared_gb (all but the experts), parameter_ratio,
            step_ratio_1, _8 and _32 (bytes that a
        decode step reads, at these batches), all_reduce_kib, all_to_all_kib and
            all_to_all_once_kib per token.
    """
    sent = communication(architecture, 2, "bfloat16")
    found = {
        "weights_gb_per_rank": architecture.weights_bytes_per_rank(2, "bfloat16") / 1e9,
        "shared_gb": architecture.shared_parameters * 2 / 1e9,
        "parameter_ratio": architecture.parameters / beside.parameters,
        "all_reduce_kib": sent.all_reduce / 1024,
        "all_to_all_kib": sent.all_to_all / 1024,
        "all_to_all_once_kib": sent.all_to_all_once / 1024,
    }
    for batch in (1, 8, 32):
        found[f"step_ratio_{batch}"] = step_ratio(
            architecture, beside, batch, 1, "bfloat16"
        )
    return found


def _room(
    architecture: Architecture, asked: Question, weights: float
) -> tuple[int, str | None]:
    """Tokens of KV cache that fit, and why the model does not if it does not."""
    usable = UTILIZATION * asked.gpu.memory_bytes - RESERVE_BYTES
    left = usable - weights
    per_token = architecture.kv_bytes_per_token_per_rank(asked.ranks, asked.dtype)
    if left >= per_token:
        return int(left / per_token), None
    why = (
        f"{weights / 1e9:.1f} GB of weights on each GPU, {usable / 1e9:.1f} GB "
        f"usable of {asked.gpu.name}'s "
        f"{asked.gpu.memory_bytes / 1e9:.1f} GB"
    )
    return 0, why


def _refuse(name: str, architecture: Architecture, asked: Question) -> None:
    counts = [("num_attention_heads", architecture.num_attention_heads)]
    if architecture.is_moe and asked.expert_parallel:
        counts.append(("experts", architecture.num_local_experts))
    for what, count in counts:
        if count % asked.ranks:
            raise CannotSplit(
                tried=f"dividing {name} among {asked.ranks} GPUs",
                seen=f"{what} is {count}",
                remedy="choose a number of GPUs that divides it (--tp)",
            )


def weights_values(
    bytes_per_rank: tuple[float, ...],
    architecture: Architecture,
    tensor_parallel_size: int,
    dtype: str,
) -> dict[str, float]:
    """What the ranks hold of the weights, and how that compares with parameters x bytes / ranks.

    Args:
        bytes_per_rank: as the ranks count them, one number a rank.

    Raises:
        MemoryUnknown: fewer or more ranks answered than there should be, or one holds
            nothing.

    """
    if (
        len(bytes_per_rank) != tensor_parallel_size
        or min(bytes_per_rank, default=0) <= 0
    ):
        raise MemoryUnknown(
            tried=f"reading what each of {tensor_parallel_size} ranks holds",
            seen=f"{len(bytes_per_rank)} answers: {bytes_per_rank}",
            remedy=(
                "look at the server's log; the engine may count its ranks in another "
                "way than --tp says"
            ),
        )
    largest = max(bytes_per_rank)
    return {
        "weights_bytes_per_rank": largest,
        "weights_over_arithmetic": largest
        / architecture.weights_bytes_per_rank(tensor_parallel_size, dtype),
    }


def too_small(
    architecture: Architecture,
    tensor_parallel_size: int,
    dtype: str,
    gpu_memory_bytes: int,
) -> str | None:
    """Why the weights cannot fit a GPU, before anything is launched; None if they can.

    A tenth of the GPU is left for the KV cache, activations and the driver, below which
    no engine starts.
    """
    needed = architecture.weights_bytes_per_rank(tensor_parallel_size, dtype)
    if needed <= 0.9 * gpu_memory_bytes:
        return None
    return (
        f"needs {needed / 1e9:.1f} GB of weights on each GPU at TP={tensor_parallel_size}, "
        f"which has {gpu_memory_bytes / 1e9:.1f} GB"
    )
