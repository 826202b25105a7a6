"""Readers of families with attention windows: gpt-oss, Llama 4, AFMoE, EXAONE, MiMo."""

from __future__ import annotations

from perfgate.models.architecture import Architecture
from perfgate.models.families.building import (
    Experts,
    Widths,
    blocks,
    built,
    layer,
)
from perfgate.models.families.fields import (
    Common,
    FieldInvalid,
    Fields,
    bias_of,
)
from perfgate.models.families.plain import windows_of
from perfgate.models.families.sparse import checked_experts, sparse_layers
from perfgate.models.shapes.attention import Heads, grouped
from perfgate.models.shapes.feed_forward import Routed, dense, routed
from perfgate.models.shapes.uniform import shared_expert

_WINDOWED = ("full_attention", "sliding_attention")


def _kind(window: int) -> str:
    if window:
        return "window"
    return "full"


def read_gpt_oss(fields: Fields) -> Architecture:
    """gpt-oss: biases everywhere, sinks, every other layer sees a window."""
    common = Common(fields)
    experts, chosen = checked_experts(
        fields, "num_local_experts", "num_experts_per_tok"
    )
    width = common.intermediate
    alternating = tuple(
        _WINDOWED[(number + 1) % 2] for number in range(common.num_layers)
    )
    names = common.layer_names("layer_types", _WINDOWED, alternating)
    sparse = routed(
        Routed(
            hidden=common.hidden,
            width=width,
            number=experts,
            router="router",
            bias=True,
            router_bias=True,
        )
    )
    layers = []
    for name in names:
        window = 0
        if name == "sliding_attention":
            window = fields.count("sliding_window")
        mixer = grouped(
            Heads(
                hidden=common.hidden,
                heads=common.heads,
                kv_heads=common.kv_heads,
                head_dim=common.head_dim,
                bias=bias_of(fields, default=True),
                sinks=True,
                window=window,
            )
        )
        layers.append(
            layer(_kind(window), mixer, "sparse", sparse, common.hidden)
        )
    return built(
        common,
        layers,
        Widths(common.kv_heads, common.head_dim, width),
        Experts(experts, chosen, width),
    )


def read_llama4(fields: Fields) -> Architecture:
    """Llama 4: one of many experts and a shared one, attention in chunks."""
    common = Common(fields)
    experts, chosen = checked_experts(
        fields, "num_local_experts", "num_experts_per_tok"
    )
    width = common.intermediate
    sparse = _llama4_sparse(common)
    name = "feed_forward"
    expert_tensors = routed(
        Routed(common.hidden, width, experts, name=name, router="router")
    )
    expert_tensors += shared_expert(
        common.hidden, width, name=f"{name}.shared_expert"
    )
    dense_tensors = dense(
        common.hidden, fields.count("intermediate_size_mlp"), name=name
    )
    feed_forwards = blocks(expert_tensors, dense_tensors)
    layers = []
    for is_sparse, window in zip(sparse, _chunks(common), strict=True):
        mixer = grouped(
            Heads(
                hidden=common.hidden,
                heads=common.heads,
                kv_heads=common.kv_heads,
                head_dim=common.head_dim,
                bias=bias_of(fields),
                window=window,
            )
        )
        layers.append(
            layer(
                _kind(window), mixer, *feed_forwards[is_sparse], common.hidden
            )
        )
    return built(
        common,
        layers,
        Widths(
            common.kv_heads,
            common.head_dim,
            fields.count("intermediate_size_mlp"),
        ),
        Experts(experts, chosen, width, width),
    )


def _llama4_sparse(common: Common) -> list[bool]:
    fields = common.fields
    step = fields.count("interleave_moe_layer_step", 1)
    named = fields.counts("moe_layers")
    sparse = []
    for number in range(common.num_layers):
        if fields.has("moe_layers"):
            sparse.append(number in named)
        else:
            sparse.append((number + 1) % step == 0)
    return sparse


def _chunks(common: Common) -> list[int]:
    """Tokens of the chunk that each layer sees; 0 for a layer that sees all."""
    fields = common.fields
    chunk = fields.count("attention_chunk_size", 0, least=0)
    names = ("full_attention", "chunked_attention")
    if fields.has("layer_types"):
        types = common.layer_names("layer_types", names)
        return [chunk * (name == names[1]) for name in types]
    # Layers without rotary positions see all tokens: each fourth, unless it is told.
    rotary = fields.counts("no_rope_layers")
    if not rotary:
        interval = fields.count("no_rope_layer_interval", 4)
        rotary = tuple(
            int((number + 1) % interval != 0)
            for number in range(common.num_layers)
        )
    if len(rotary) != common.num_layers:
        raise FieldInvalid(
            f"no_rope_layers has {len(rotary)} entries, for "
            f"{common.num_layers} layers"
        )
    return [chunk * (number > 0) for number in rotary]


def read_afmoe(fields: Fields) -> Architecture:
    """AFMoE (Trinity): gated attention, four norms a layer, three of four layers see a window."""
    common = Common(fields)
    experts, chosen = checked_experts(
        fields, "num_experts", "num_experts_per_tok"
    )
    width = fields.count("moe_intermediate_size")
    shared = width * fields.count("num_shared_experts", 0, least=0)
    expert_tensors = routed(
        Routed(
            common.hidden, width, experts, router="router.gate", score_bias=True
        )
    )
    expert_tensors += shared_expert(common.hidden, shared)
    dense_tensors = dense(common.hidden, common.intermediate)
    interval = fields.count("global_attn_every_n_layers", 4)
    default = tuple(
        _WINDOWED[(number + 1) % interval != 0]
        for number in range(common.num_layers)
    )
    names = common.layer_names("layer_types", _WINDOWED, default)
    feed_forwards = blocks(expert_tensors, dense_tensors)
    layers = []
    for name, is_sparse in zip(names, sparse_layers(common), strict=True):
        window = fields.count("sliding_window") * (name == _WINDOWED[1])
        mixer = grouped(
            Heads(
                hidden=common.hidden,
                heads=common.heads,
                kv_heads=common.kv_heads,
                head_dim=common.head_dim,
                bias=bias_of(fields),
                norm="head",
                separate_gate=True,
                window=window,
            )
        )
        layers.append(
            layer(
                _kind(window),
                mixer,
                *feed_forwards[is_sparse],
                common.hidden,
                norms=4,
            )
        )
    return built(
        common,
        layers,
        Widths(common.kv_heads, common.head_dim, common.intermediate),
        Experts(experts, chosen, width, shared),
    )


def read_exaone_moe(fields: Fields) -> Architecture:
    """EXAONE-MoE and Hy3: norms of queries and keys, windows, a dense first layer."""
    common = Common(fields)
    experts, chosen = checked_experts(
        fields, "num_experts", "num_experts_per_tok"
    )
    width = fields.count("moe_intermediate_size")
    shared = width * fields.count("num_shared_experts", 0, least=0)
    expert_tensors = routed(Routed(common.hidden, width, experts))
    expert_tensors += shared_expert(common.hidden, shared)
    dense_tensors = dense(common.hidden, common.intermediate)
    feed_forwards = blocks(expert_tensors, dense_tensors)
    layers = []
    for window, is_sparse in zip(
        windows_of(common), sparse_layers(common), strict=True
    ):
        mixer = grouped(
            Heads(
                hidden=common.hidden,
                heads=common.heads,
                kv_heads=common.kv_heads,
                head_dim=common.head_dim,
                norm="head",
                window=window,
            )
        )
        layers.append(
            layer(
                _kind(window), mixer, *feed_forwards[is_sparse], common.hidden
            )
        )
    return built(
        common,
        layers,
        Widths(common.kv_heads, common.head_dim, common.intermediate),
        Experts(experts, chosen, width, shared),
        draft_layers=fields.count("num_nextn_predict_layers", 0, least=0),
    )


def read_mimo(fields: Fields) -> Architecture:
    """MiMo-V2: windowed layers have key-value heads and sinks of their own."""
    common = Common(fields)
    experts, chosen = checked_experts(
        fields, "n_routed_experts", "num_experts_per_tok"
    )
    width = fields.count("moe_intermediate_size")
    shared = width * fields.count("n_shared_experts", 0, least=0)
    expert_tensors = routed(Routed(common.hidden, width, experts))
    expert_tensors += shared_expert(common.hidden, shared)
    dense_tensors = dense(common.hidden, common.intermediate)
    feed_forwards = blocks(expert_tensors, dense_tensors)
    layers = []
    for is_window, is_sparse in zip(
        _mimo_windows(common), sparse_layers(common), strict=True
    ):
        mixer = grouped(_mimo_heads(common, is_window=is_window))
        layers.append(
            layer(
                _kind(is_window),
                mixer,
                *feed_forwards[is_sparse],
                common.hidden,
            )
        )
    return built(
        common,
        layers,
        Widths(common.kv_heads, common.head_dim, common.intermediate),
        Experts(experts, chosen, width, shared),
    )


def _mimo_windows(common: Common) -> tuple[bool, ...]:
    if common.fields.has("hybrid_layer_pattern"):
        pattern = common.fields.counts("hybrid_layer_pattern")
        if len(pattern) != common.num_layers:
            raise FieldInvalid(
                f"hybrid_layer_pattern has {len(pattern)} entries, for "
                f"{common.num_layers} layers"
            )
        return tuple(number > 0 for number in pattern)
    names = common.layer_names("layer_types", _WINDOWED)
    return tuple(name == _WINDOWED[1] for name in names)


def _mimo_heads(common: Common, *, is_window: bool) -> Heads:
    fields = common.fields
    if not is_window:
        return Heads(
            hidden=common.hidden,
            heads=common.heads,
            kv_heads=common.kv_heads,
            head_dim=common.head_dim,
            value_dim=fields.count("v_head_dim", common.head_dim),
            bias=bias_of(fields),
            sinks=fields.flag("add_full_attention_sink_bias"),
        )
    head_dim = fields.count("swa_head_dim", common.head_dim)
    return Heads(
        hidden=common.hidden,
        heads=fields.count("swa_num_attention_heads", common.heads),
        kv_heads=fields.count("swa_num_key_value_heads", common.kv_heads),
        head_dim=head_dim,
        value_dim=fields.count("swa_v_head_dim", head_dim),
        bias=bias_of(fields),
        sinks=fields.flag("add_swa_attention_sink_bias", default=True),
        window=fields.count("sliding_window"),
    )
