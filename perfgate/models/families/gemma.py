"""Readers of Gemma 2, 3 and 4: four norms a layer, windows, and a tied head."""

from __future__ import annotations

from perfgate.models.architecture import Architecture
from perfgate.models.families.building import Experts, Widths, built, layer
from perfgate.models.families.fields import Common, Fields, bias_of
from perfgate.models.families.sparse import checked_experts
from perfgate.models.shapes.attention import Heads, grouped
from perfgate.models.shapes.feed_forward import Routed, dense, routed
from perfgate.models.shapes.tensors import Tensor, vector

_WINDOWED = ("full_attention", "sliding_attention")


def _kind(window: int) -> str:
    if window:
        return "window"
    return "full"


def read_gemma(fields: Fields) -> Architecture:
    """Gemma 2 and 3: four norms a layer, windows, the head is the embedding."""
    common = Common(fields)
    common.tied = fields.flag("tie_word_embeddings", default=True)
    is_third = fields.text("model_type", "").startswith("gemma3")
    feed_forward = dense(common.hidden, common.intermediate)
    layers = []
    for window in _gemma_windows(common, 6 if is_third else 2):
        shape = Heads(
            hidden=common.hidden,
            heads=common.heads,
            kv_heads=common.kv_heads,
            head_dim=common.head_dim,
            bias=bias_of(fields),
            window=window,
        )
        if is_third:
            shape = shape._replace(norm="head")
        layers.append(
            layer(
                _kind(window),
                grouped(shape),
                "dense",
                feed_forward,
                common.hidden,
                norms=4,
            )
        )
    return built(
        common,
        layers,
        Widths(common.kv_heads, common.head_dim, common.intermediate),
        Experts(),
    )


def _gemma_windows(common: Common, pattern: int) -> list[int]:
    """Windows of each layer: all but each so-many-th see one."""
    fields = common.fields
    interval = fields.count("sliding_window_pattern", pattern)
    default = tuple(
        _WINDOWED[(number + 1) % interval != 0]
        for number in range(common.num_layers)
    )
    names = common.layer_names("layer_types", _WINDOWED, default)
    window = fields.count("sliding_window")
    return [window * (name == _WINDOWED[1]) for name in names]


# Fields of Gemma 4's small models, whose layers have further weights or share them.
_GEMMA4_UNKNOWN = (
    "hidden_size_per_layer_input",
    "num_kv_shared_layers",
    "use_double_wide_mlp",
)


def read_gemma4(fields: Fields) -> Architecture:
    """Gemma 4: wider heads where all tokens are seen, experts beside a dense block."""
    common = Common(fields)
    common.tied = fields.flag("tie_word_embeddings", default=True)
    for name in _GEMMA4_UNKNOWN:
        if fields.values.get(name):
            fields.unsupported(name)
    tensors = dense(common.hidden, common.intermediate)
    experts = Experts()
    feed_forward = "dense"
    norms = 4
    if fields.flag("enable_moe_block"):
        experts, more = _gemma4_experts(common)
        tensors += more
        feed_forward = "sparse"
        norms = 7
    layers = []
    for window in _gemma_windows(common, 6):
        mixer = grouped(_gemma4_heads(common, window))
        layers.append(
            layer(
                _kind(window),
                mixer,
                feed_forward,
                tensors,
                common.hidden,
                norms=norms,
            )
        )
    return built(
        common,
        layers,
        Widths(common.kv_heads, common.head_dim, common.intermediate),
        experts,
    )


def _gemma4_heads(common: Common, window: int) -> Heads:
    """Heads of a layer; those that see all tokens have a width of their own."""
    fields = common.fields
    heads = Heads(
        hidden=common.hidden,
        heads=common.heads,
        kv_heads=common.kv_heads,
        head_dim=common.head_dim,
        bias=bias_of(fields),
        norm="head",
        window=window,
    )
    if window:
        return heads
    keys_are_values = fields.flag("attention_k_eq_v")
    kv_heads = common.kv_heads
    if keys_are_values:
        kv_heads = fields.count("num_global_key_value_heads", kv_heads)
    return heads._replace(
        kv_heads=kv_heads,
        head_dim=fields.count("global_head_dim", common.head_dim),
        keys_are_values=keys_are_values,
    )


def _gemma4_experts(common: Common) -> tuple[Experts, tuple[Tensor, ...]]:
    """Experts beside the dense block, whose router scales its inputs and outputs."""
    fields = common.fields
    number, chosen = checked_experts(fields, "num_experts", "top_k_experts")
    width = fields.first_count(
        "moe_intermediate_size", "expert_intermediate_size"
    )
    tensors = routed(
        Routed(common.hidden, width, number, name="moe", router="router")
    )
    tensors += (
        vector("moe.router", "router", common.hidden),
        vector("moe.router", "router", number),
    )
    return Experts(number, chosen, width), tensors
