"""Experts of a configuration: which layers have them, how many, and how wide they are."""

from __future__ import annotations

from perfgate.models.families.fields import Common, Fields


def checked_experts(fields: Fields, count: str, chosen: str) -> tuple[int, int]:
    """Experts of a layer and how many of them a token visits, unless that is impossible.

    Args:
        fields: of the config.json.
        count: field with the experts.
        chosen: field with the experts that a token visits.

    """
    experts = fields.count(count)
    visited = fields.count(chosen)
    if visited > experts:
        fields.refuse(chosen, f"there are {experts} experts")
    return experts, visited


def sparse_layers(common: Common) -> tuple[bool, ...]:
    """For each layer whether it has experts, by the fields that name it.

    These are `mlp_layer_types`, a list `moe_layer_freq`, or `first_k_dense_replace`.
    """
    fields = common.fields
    frequency = fields.values.get("moe_layer_freq", 1)
    if fields.has("mlp_layer_types"):
        names = common.layer_names("mlp_layer_types", ("dense", "sparse"))
        return tuple(name == "sparse" for name in names)
    if isinstance(frequency, list):
        numbers = common.layer_counts("moe_layer_freq")
        return tuple(number > 0 for number in numbers)
    if frequency not in (1, None):
        fields.unsupported("moe_layer_freq")
    dense = fields.first_count("first_k_dense_replace", "num_dense_layers")
    return tuple(layer >= dense for layer in range(common.num_layers))


def stepped_layers(common: Common) -> tuple[bool, ...]:
    """Qwen's: all layers but `mlp_only_layers` and those that `decoder_sparse_step` skips."""
    fields = common.fields
    mlp_only = fields.counts("mlp_only_layers")
    step = fields.count("decoder_sparse_step", 1)
    sparse = []
    for layer in range(common.num_layers):
        is_dense = layer in mlp_only or (layer + 1) % step != 0
        sparse.append(not is_dense)
    return tuple(sparse)
