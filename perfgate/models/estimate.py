"""Estimate: memory, decode steps and communication of a model on a GPU, by arithmetic.

The inputs are a config.json and a data sheet: no GPU is needed. A `Claim` compares a
published figure with the arithmetic.
"""

from __future__ import annotations

import math

import msgspec

from perfgate.machine.datasheets import GIB, Gpu
from perfgate.machine.memory import MemoryUnknown
from perfgate.models.architecture import Shares
from perfgate.models.catalogue import BYTES_PER_PARAMETER, Architecture
from perfgate.models.shapes.split import CannotSplit, Split, as_split

__all__ = [
    "BATCHES",
    "QUANTITIES",
    "RESERVE_BYTES",
    "UTILIZATION",
    "CannotSplit",
    "Claim",
    "Communication",
    "Estimate",
    "Question",
    "Step",
    "communication",
    "estimate",
    "quantities",
    "step",
    "step_ratio",
    "too_small",
    "weights_values",
]

BATCHES = (1, 2, 4, 8, 16, 32, 64)
# vLLM's default of --gpu-memory-utilization (0.26 and 0.32).
UTILIZATION = 0.92
# Within that, all but weights and KV cache: activations of the largest prefill,
# graphs, the driver. Measured with vLLM 0.26 and Mixtral-8x7B on one H200: 0.92
# x 139.8 GiB less 87.0 GiB of weights left 38.97 GiB of KV cache.
RESERVE_BYTES = int(2.6 * GIB)


class Question(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The GPUs and the precision that a model is estimated for.

    Attributes:
        gpu: the product.
        ranks: GPUs that divide attention, tensor parallel size.
        data_parallel: groups of such GPUs, each with all of the attention for its own
            requests.
        expert_parallel: whether experts are spread over the ranks whole.
        redundant_experts: copies of experts in each layer beyond the first.
        dtype: of weights that are not quantized.
        cache_dtype: of the KV cache; None for that of the weights.
        quantization: what the engine makes of the weights while it loads them; None to
            leave them as they are published.
        context_tokens: mean tokens in a sequence's KV cache while it decodes; 0 leaves
            the KV cache out of a step.
        routing: run or file with the experts' shares; None for uniform routing.

    """

    gpu: Gpu
    ranks: int
    data_parallel: int = 1
    expert_parallel: bool = False
    redundant_experts: int = 0
    dtype: str = "bfloat16"
    cache_dtype: str | None = None
    quantization: str | None = None
    context_tokens: int = 0
    routing: str | None = None

    @property
    def split(self) -> Split:
        """How the ranks divide a model."""
        return Split(
            tensor_parallel=self.ranks,
            data_parallel=self.data_parallel,
            expert_parallel=self.expert_parallel,
            redundant_experts=self.redundant_experts,
        )

    @property
    def kv_dtype(self) -> str:
        """Of the KV cache."""
        return self.cache_dtype or self.dtype


class Step(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One decode step of a batch.

    Attributes:
        experts_touched: of each sparse layer, expected with uniform routing or with the
            shares that were given; 1 for a dense model.
        bytes_read: over all ranks.
        floor_ms: the shortest time that the memory bandwidth allows.

    """

    batch: int
    experts_touched: float
    bytes_read: float
    floor_ms: float


class Communication(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Bytes that the ranks exchange per token, over all layers.

    Attributes:
        all_reduce: size of the vectors that are summed over ranks, one after each
            attention and one after each feed-forward. vLLM's expert parallelism with tensor
            parallelism sums the same ones.
        all_to_all: with data parallel attention, bytes sent to experts of other ranks
            and back, one copy for each expert.
        all_to_all_once: the same where a rank with several of a token's experts gets
            one copy.

    """

    all_reduce: float
    all_to_all: float
    all_to_all_once: float


class CacheSize(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What a sequence keeps on all ranks, copies not counted.

    Attributes:
        bytes_per_token: that grow with each token, indexes included.
        index_bytes_per_token: of these, what says where sparse attention looks.
        window_bytes: that a sequence keeps at most in layers that see a window.
        fixed_bytes: state of linear attention, Mamba and convolutions.
        bytes_per_sequence: of a sequence of `context_tokens`.

    """

    bytes_per_token: int
    index_bytes_per_token: float
    window_bytes: float
    fixed_bytes: float
    context_tokens: int
    bytes_per_sequence: float


class Estimate(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One model on some GPUs.

    Attributes:
        active_parameters: that one token uses; the mean, where that varies.
        active_range: the fewest and the most.
        draft_parameters: that predict further tokens; loaded only on request.
        layers: kinds of attention and feed-forward -> layers.
        quantization: format of the weights; None for the data type alone.
        copied_bytes_per_gpu: weights that each rank holds whole.
        data_parallel_weights_bytes_per_gpu: weights where only experts are spread and
            attention is data parallel.
        data_parallel_copied_bytes: copies of those beyond the first, over all ranks; 0
            on one rank.
        kv_bytes_per_token: of the cache's growing part.
        kv_tokens: tokens of KV cache on all ranks together, in sequences as long as
            `cache` says; 0 if the weights do not fit.
        why_not: why the model does not fit; None if it does.

    """

    name: str
    parameters: int
    active_parameters: int
    active_range: tuple[int, int]
    draft_parameters: int
    layers: dict[str, int]
    quantization: str | None
    weights_bytes: float
    draft_bytes: float
    weights_bytes_per_gpu: float
    copied_bytes_per_gpu: float
    data_parallel_weights_bytes_per_gpu: float
    data_parallel_copied_bytes: float
    kv_bytes_per_token: int
    cache: CacheSize
    kv_tokens: int
    fits: bool
    why_not: str | None
    steps: tuple[Step, ...]
    communication: Communication


class Claim(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A published statement about the study's models, compared with the arithmetic."""

    claim: str
    holds: bool
    arithmetic: str


def estimate(
    name: str,
    architecture: Architecture,
    question: Question,
    shares: Shares | None = None,
) -> Estimate:
    """Estimate one model.

    Args:
        name: for the reader.
        architecture: the model's shape.
        question: GPUs, precision and context.
        shares: of the experts, of all choices of a layer; uniform if they are unknown.

    Raises:
        CannotSplit: heads, widths or experts cannot be divided among so many ranks.

    """
    if question.quantization is not None:
        architecture = architecture.quantized(question.quantization)
    split = question.split
    architecture.check_split(name, split)
    dtype = question.dtype
    total = architecture.weights_bytes(dtype)
    weights = architecture.weights_bytes_per_rank(split, dtype)
    data_parallel = architecture.weights_bytes_per_rank_data_parallel(
        split.ranks, dtype
    )
    kv_tokens, why_not = _kv_tokens(architecture, question, weights)
    steps = [step(architecture, question, batch, shares) for batch in BATCHES]
    return Estimate(
        name=name,
        parameters=architecture.parameters,
        active_parameters=architecture.active_parameters,
        active_range=architecture.active_range,
        draft_parameters=architecture.draft_parameters,
        layers=layer_kinds(architecture),
        quantization=architecture.quantization,
        weights_bytes=total,
        draft_bytes=architecture.draft_bytes(dtype),
        weights_bytes_per_gpu=weights,
        copied_bytes_per_gpu=architecture.copied_bytes(split, dtype),
        data_parallel_weights_bytes_per_gpu=data_parallel,
        data_parallel_copied_bytes=data_parallel * split.ranks - total,
        kv_bytes_per_token=architecture.kv_bytes_per_token(question.kv_dtype),
        cache=cache_size(architecture, question),
        kv_tokens=kv_tokens,
        fits=why_not is None,
        why_not=why_not,
        steps=tuple(steps),
        communication=communication(architecture, split, dtype),
    )


def layer_kinds(architecture: Architecture) -> dict[str, int]:
    """Kinds of attention and of feed-forward, and how many layers have each."""
    kinds: dict[str, int] = {}
    for times, layer in architecture.told.counted():
        for kind in (layer.attention, layer.feed_forward):
            if kind != "none":
                kinds[kind] = kinds.get(kind, 0) + times
    return kinds


def cache_size(architecture: Architecture, question: Question) -> CacheSize:
    """What one sequence keeps, at the question's context or the longest that it may have."""
    dtype = question.kv_dtype
    longest = architecture.max_position_embeddings
    tokens = question.context_tokens or longest
    size = architecture.cache_bytes_per_sequence
    return CacheSize(
        bytes_per_token=architecture.kv_bytes_per_token(dtype),
        index_bytes_per_token=architecture.index_bytes_per_token(dtype),
        window_bytes=size(longest, dtype, kinds=("window",)),
        fixed_bytes=size(0, dtype, kinds=("fixed",)),
        context_tokens=tokens,
        bytes_per_sequence=size(tokens, dtype),
    )


def step(
    architecture: Architecture,
    question: Question,
    batch: int,
    shares: Shares | None = None,
) -> Step:
    """One decode step of `batch` sequences."""
    split = question.split
    bytes_per_rank = architecture.step_bytes_per_rank(
        split,
        question.dtype,
        batch,
        question.context_tokens,
        shares=shares,
        cache_dtype=question.kv_dtype,
    )
    floor_s = bytes_per_rank / question.gpu.bandwidth_bytes_per_s
    return Step(
        batch=batch,
        experts_touched=architecture.expected_experts_touched(batch, shares),
        bytes_read=bytes_per_rank * split.ranks,
        floor_ms=floor_s * 1e3,
    )


def step_ratio(
    numerator: Architecture,
    denominator: Architecture,
    batch: int,
    ranks: int,
    dtype: str,
    context_tokens: float = 0,
) -> float:
    """Ratio of the bytes that a decode step of each model reads."""
    arguments = (ranks, dtype, batch, context_tokens)
    numerator_bytes = numerator.step_bytes_per_rank(*arguments)
    denominator_bytes = denominator.step_bytes_per_rank(*arguments)
    return numerator_bytes / denominator_bytes


def communication(
    architecture: Architecture, ranks: int | Split, dtype: str
) -> Communication:
    """Bytes that the ranks exchange per token; 0 on one rank.

    A token's k experts are taken to be a uniform choice without repetition. An
    expert is on another rank with probability (N - 1) / N. Of N ranks with E/N
    experts each, another rank holds at least one of the k with probability 1 -
    C(E - E/N, k) / C(E, k).
    """
    split = as_split(ranks)
    value_bytes = BYTES_PER_PARAMETER[dtype]
    summed = 0.0
    if split.tensor_parallel > 1:
        vectors = _summed_vectors(architecture)
        summed = float(vectors * architecture.hidden_size * value_bytes)
    others = split.ranks - 1
    vector_bytes = _expert_inputs(architecture) * value_bytes
    there_and_back = 2 * architecture.num_sparse_layers * vector_bytes
    copies = architecture.mean_experts_per_tok * others
    probability = _rank_probability(architecture, split.ranks)
    return Communication(
        all_reduce=summed,
        all_to_all=there_and_back * copies / split.ranks,
        all_to_all_once=there_and_back * others * probability,
    )


def _summed_vectors(architecture: Architecture) -> int:
    """Vectors that ranks sum: one after each attention, one after each feed-forward."""
    vectors = 0
    for times, layer in architecture.told.counted():
        parts = (layer.attention, layer.feed_forward)
        vectors += times * sum(part != "none" for part in parts)
    return vectors


def _expert_inputs(architecture: Architecture) -> int:
    """Width of what a token sends to an expert; 0 for a dense model."""
    for layer in architecture.told.kinds:
        for tensor in layer.tensors:
            if tensor.group == "experts" and tensor.split == "inputs":
                return tensor.shape[0]
    return 0


def _rank_probability(architecture: Architecture, ranks: int) -> float:
    """Probability that one rank holds at least one of a token's experts."""
    if not architecture.is_moe:
        return 0.0
    experts = architecture.num_local_experts
    choices = architecture.num_experts_per_tok
    everything = experts + architecture.zero_experts
    elsewhere = math.comb(everything - experts // ranks, choices)
    return 1 - elsewhere / math.comb(everything, choices)


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


def quantities(sparse: Architecture, dense: Architecture) -> dict[str, float]:
    """Figures of a pair that a published claim can be compared with: two ranks, bfloat16.

    Returns:
        weights_gb_per_rank, shared_gb (all but the experts) and parameter_ratio;
            all_reduce_kib, all_to_all_kib and all_to_all_once_kib per token;
            step_ratio_1, _8 and _32 (bytes that a decode step reads, at these batches).
    """
    exchange = communication(sparse, 2, "bfloat16")
    weights_bytes = sparse.weights_bytes_per_rank(2, "bfloat16")
    shared_bytes = sparse.shared_parameters * 2
    figures = {
        "weights_gb_per_rank": weights_bytes / 1e9,
        "shared_gb": shared_bytes / 1e9,
        "parameter_ratio": sparse.parameters / dense.parameters,
        "all_reduce_kib": exchange.all_reduce / 1024,
        "all_to_all_kib": exchange.all_to_all / 1024,
        "all_to_all_once_kib": exchange.all_to_all_once / 1024,
    }
    for batch in (1, 8, 32):
        ratio = step_ratio(sparse, dense, batch, 1, "bfloat16")
        figures[f"step_ratio_{batch}"] = ratio
    return figures


def _kv_tokens(
    architecture: Architecture, question: Question, weights_bytes: float
) -> tuple[int, str | None]:
    """Tokens of KV cache that fit, and why the model does not fit if it does not."""
    gpu = question.gpu
    usable_bytes = UTILIZATION * gpu.memory_bytes - RESERVE_BYTES
    free_bytes = usable_bytes - weights_bytes
    bytes_per_token = _cache_bytes_per_token(architecture, question)
    if free_bytes >= bytes_per_token:
        tokens = free_bytes / bytes_per_token
        return int(tokens * question.data_parallel), None
    why_not = (
        f"{weights_bytes / 1e9:.1f} GB of weights on each GPU, "
        f"{usable_bytes / 1e9:.1f} GB usable of {gpu.name}'s "
        f"{gpu.memory_bytes / 1e9:.1f} GB"
    )
    return 0, why_not


def _cache_bytes_per_token(
    architecture: Architecture, question: Question
) -> float:
    """Bytes on each rank for a token of a sequence, its bounded and fixed parts included."""
    dtype = question.kv_dtype
    split = question.split
    bounded = architecture.cache_bytes_per_sequence(
        architecture.max_position_embeddings,
        dtype,
        split,
        kinds=("window", "fixed"),
    )
    if not bounded:
        return architecture.kv_bytes_per_token_per_rank(split, dtype)
    tokens = question.context_tokens or architecture.max_position_embeddings
    size_bytes = architecture.cache_bytes_per_sequence(tokens, dtype, split)
    return size_bytes / tokens


def weights_values(
    bytes_per_rank: tuple[float, ...],
    architecture: Architecture,
    ranks: int | Split,
    dtype: str,
) -> dict[str, float]:
    """Metrics of the ranks' weights: bytes, and their ratio to the arithmetic.

    Args:
        bytes_per_rank: as the ranks count them; of data parallel copies one is enough.
        architecture: the model's shape.
        ranks: how they divide the model, or the tensor parallel size.
        dtype: of the weights.

    Raises:
        MemoryUnknown: the number of answers differs from the ranks, or one is 0.

    """
    answers = len(bytes_per_rank)
    smallest = min(bytes_per_rank, default=0)
    split = as_split(ranks)
    if answers not in (split.tensor_parallel, split.ranks) or smallest <= 0:
        raise MemoryUnknown(
            tried=f"reading what each of {split.ranks} ranks holds",
            seen=f"{answers} answers: {bytes_per_rank}",
            remedy=(
                "look at the server's log; the engine may count its ranks in another "
                "way than --tp says"
            ),
        )
    largest = max(bytes_per_rank)
    computed = architecture.weights_bytes_per_rank(split, dtype)
    return {
        "weights_bytes_per_rank": largest,
        "weights_over_arithmetic": largest / computed,
    }


def too_small(
    architecture: Architecture,
    ranks: int | Split,
    dtype: str,
    gpu_memory_bytes: int,
) -> str | None:
    """Why the weights cannot fit a GPU, before a launch; None if they can.

    A tenth of the GPU is left for the KV cache, activations and the driver: no engine
    starts with less.
    """
    split = as_split(ranks)
    weights_bytes = architecture.weights_bytes_per_rank(split, dtype)
    room_bytes = 0.9 * gpu_memory_bytes
    if weights_bytes <= room_bytes:
        return None
    layout = f"TP={split.tensor_parallel}"
    if split.data_parallel > 1:
        layout += f", DP={split.data_parallel}"
    text = (
        f"needs {weights_bytes / 1e9:.1f} GB of weights on each GPU at {layout}, "
        f"which has {gpu_memory_bytes / 1e9:.1f} GB"
    )
    if weights_bytes <= gpu_memory_bytes:
        text += f", {room_bytes / 1e9:.1f} GB of them for weights"
    return text
