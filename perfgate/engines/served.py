"""Served model: a server's model in the precision that it serves, and its split over ranks."""

from __future__ import annotations

from perfgate.engines.base import ServerConfig
from perfgate.models.catalogue import Architecture, lookup
from perfgate.models.shapes.split import Split
from perfgate.models.stated_routing import expert_shares


def served_architecture(server: ServerConfig) -> Architecture:
    """The model's shape, quantized if the engine does so while it loads.

    A model whose config.json says how it is quantized stays as it is.

    Raises:
        UnknownModel: the catalogue has no such model.
    """
    architecture = lookup(server.model).architecture
    if architecture.quantization is None and server.quantization:
        return architecture.quantized(server.quantization)
    return architecture


def cache_dtype(server: ServerConfig) -> str:
    """The number format of the KV cache, as the arithmetic names it."""
    if server.kv_cache_dtype.startswith("fp8"):
        return "fp8"
    return server.dtype


def split_of(server: ServerConfig) -> Split:
    """How the ranks divide the model; of each copy, where copies share nothing."""
    data_parallel = 1
    if server.data_parallel_attention:
        data_parallel = server.data_parallel_size
    return Split(
        tensor_parallel=server.tensor_parallel_size,
        data_parallel=data_parallel,
        expert_parallel=server.expert_parallel,
    )


def step_bytes_per_rank(
    server: ServerConfig, batch: int, context_tokens: float
) -> float:
    """Bytes that each rank reads in a decode step of the server's `batch` sequences.

    Routing is uniform, or as it is stated. Copies that share nothing have an even part
    of the batch each.
    """
    architecture = served_architecture(server)
    shares = None
    if server.stated_routing:
        shares = expert_shares(
            server.stated_routing,
            architecture.num_local_experts,
            architecture.num_experts_per_tok,
        )
    split = split_of(server)
    copies = server.data_parallel_size // split.data_parallel
    return architecture.step_bytes_per_rank(
        split,
        server.dtype,
        max(1, batch // copies),
        context_tokens,
        shares=shares,
        cache_dtype=cache_dtype(server),
    )
