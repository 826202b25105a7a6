"""Readers of families with Mamba-2 layers: Nemotron-H, Nemotron-3, Granite 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from perfgate.models.architecture import Architecture
from perfgate.models.families.building import (
    Experts,
    built,
    heads_of,
    layer,
    widths_of,
)
from perfgate.models.families.fields import (
    Common,
    FieldInvalid,
    Fields,
    Unsupported,
    bias_of,
    state_bytes_of,
)
from perfgate.models.families.sparse import checked_experts
from perfgate.models.shapes.attention import Mixer, grouped
from perfgate.models.shapes.feed_forward import Routed, dense, routed
from perfgate.models.shapes.layers import Layer
from perfgate.models.shapes.recurrent import Mamba2, mamba2
from perfgate.models.shapes.tensors import Tensor, matrix, vector
from perfgate.models.shapes.uniform import shared_expert


class _Nemotron(NamedTuple):
    """Layers of Nemotron-H by their letter in its pattern, and its experts."""

    layers: dict[str, Layer]
    experts: Experts


# Letters of a pattern, and the names that stand for them in newer files.
_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_NEMOTRON_NAMES = {
    "linear_attention": "M",
    "mamba": "M",
    "full_attention": "*",
    "attention": "*",
    "mlp": "-",
    "moe": "E",
}


def read_nemotron(fields: Fields) -> Architecture:
    """Nemotron-H and Nemotron-3: each layer is Mamba-2, attention, dense, or experts."""
    letters = _pattern(fields, "hybrid_override_pattern", "layers_block_type")
    named = dict(fields.values) | {"num_hidden_layers": len(letters)}
    common = Common(Fields(named))
    model = _nemotron(common, letters)
    layers = [model.layers[letter] for letter in letters]
    architecture = built(common, layers, widths_of(common), model.experts)
    depth = common.draft_layers
    if depth == 0:
        return architecture
    predicting = _pattern(
        fields, "mtp_hybrid_override_pattern", "mtp_layers_block_type"
    )
    draft = _nemotron_draft(model, predicting, common.hidden)
    told = msgspec.structs.replace(architecture.told, draft=draft * depth)
    return msgspec.structs.replace(architecture, stack=told)


def _pattern(fields: Fields, letters_name: str, names_name: str) -> str:
    """A letter for each layer."""
    letters = fields.text(letters_name, "")
    if not letters:
        names = fields.texts(names_name)
        unknown = sorted(set(names) - set(_NEMOTRON_NAMES))
        if unknown:
            raise Unsupported(f"{names_name} names {', '.join(unknown)}")
        letters = "".join(_NEMOTRON_NAMES[name] for name in names)
    if not letters:
        fields.raw(letters_name)
        fields.refuse(letters_name, "no layers")
    if not set(letters) <= set(_LETTERS):
        fields.unsupported(letters_name)
    if fields.has("num_hidden_layers") and letters_name.startswith("hybrid"):
        number = fields.count("num_hidden_layers")
        if number != len(letters):
            raise FieldInvalid(
                f"{letters_name} has {len(letters)} layers, and "
                f"num_hidden_layers is {number}"
            )
    return letters


def _nemotron(common: Common, letters: str) -> _Nemotron:
    fields = common.fields
    hidden = common.hidden
    layers = {}
    experts = Experts()
    if "M" in letters:
        mixer = mamba2(_mamba_shape(common))
        layers["M"] = layer("mamba", mixer, "none", (), hidden, norms=1)
    heads = heads_of(common, bias_of(fields))._replace(module="mixer")
    full = grouped(heads)
    layers["*"] = layer("full", full, "none", (), hidden, norms=1)
    nothing = Mixer((), ())
    tensors = dense(
        hidden,
        common.intermediate,
        name="mixer",
        gated=False,
        bias=fields.flag("mlp_bias"),
    )
    layers["-"] = layer("none", nothing, "dense", tensors, hidden, norms=1)
    if "E" in letters:
        experts, tensors = _nemotron_experts(common)
        layers["E"] = layer("none", nothing, "sparse", tensors, hidden, norms=1)
    return _Nemotron(layers, experts)


def _mamba_shape(common: Common) -> Mamba2:
    fields = common.fields
    return Mamba2(
        hidden=common.hidden,
        heads=fields.count("mamba_num_heads"),
        head_dim=fields.count("mamba_head_dim"),
        groups=fields.count("n_groups"),
        state=fields.count("ssm_state_size"),
        kernel=fields.count("conv_kernel"),
        bias=fields.flag("use_bias"),
        convolution_bias=fields.flag("use_conv_bias", default=True),
        # vLLM and SGLang keep it in float32 where the file does not say.
        state_bytes=state_bytes_of(fields, "mamba_ssm_cache_dtype") or 4,
    )


def _nemotron_experts(common: Common) -> tuple[Experts, tuple[Tensor, ...]]:
    """Experts of two matrices, which may work at a smaller width than the model."""
    fields = common.fields
    experts, chosen = checked_experts(
        fields, "n_routed_experts", "num_experts_per_tok"
    )
    width = fields.count("moe_intermediate_size")
    shared = fields.count("moe_shared_expert_intermediate_size", 0, least=0)
    latent_width = fields.count("moe_latent_size", common.hidden)
    has_bias = fields.flag("mlp_bias")
    tensors = routed(
        Routed(
            latent_width,
            width,
            experts,
            name="mixer",
            router_inputs=common.hidden,
            gated=False,
            bias=has_bias,
        )
    )
    tensors += dense(
        common.hidden,
        shared,
        name="mixer.shared_experts",
        group="shared",
        gated=False,
        bias=has_bias,
    )
    if latent_width != common.hidden:
        tensors += (
            matrix(
                "mixer.fc1_latent_proj", "shared", latent_width, common.hidden
            ),
            matrix(
                "mixer.fc2_latent_proj", "shared", common.hidden, latent_width
            ),
        )
    return Experts(experts, chosen, width, shared), tensors


def _nemotron_draft(
    model: _Nemotron, letters: Sequence[str], hidden: int
) -> tuple[Tensor, ...]:
    tensors: list[Tensor] = []
    for letter in letters:
        if letter not in model.layers:
            raise Unsupported(
                "mtp_hybrid_override_pattern has layers that the model has not"
            )
        tensors += model.layers[letter].tensors
    tensors.append(matrix("eh_proj", "other", hidden, 2 * hidden))
    tensors.append(vector("norms", "norms", 3 * hidden))
    return tuple(tensors)


_GRANITE_TYPES = ("mamba", "attention", "linear_attention", "full_attention")


def read_granite_hybrid(fields: Fields) -> Architecture:
    """Granite 4: Mamba-2 and attention, a shared block in each layer, experts or none."""
    common = Common(fields)
    experts = Experts()
    width = common.intermediate
    shared = fields.count("shared_intermediate_size")
    feed_forward = "dense"
    tensors = dense(common.hidden, shared, name="shared_mlp")
    if fields.count("num_local_experts", 0, least=0):
        number, chosen = checked_experts(
            fields, "num_local_experts", "num_experts_per_tok"
        )
        experts = Experts(number, chosen, width, shared)
        feed_forward = "sparse"
        tensors = routed(
            Routed(
                common.hidden,
                width,
                number,
                name="block_sparse_moe",
                router="router",
            )
        )
        tensors += shared_expert(common.hidden, shared, name="shared_mlp")
    full = grouped(heads_of(common, bias_of(fields)))
    state = mamba2(_granite_mamba(common))
    layers = []
    for name in common.layer_names("layer_types", _GRANITE_TYPES):
        kind, mixer = "mamba", state
        if name in ("attention", "full_attention"):
            kind, mixer = "full", full
        layers.append(layer(kind, mixer, feed_forward, tensors, common.hidden))
    return built(common, layers, widths_of(common), experts)


def _granite_mamba(common: Common) -> Mamba2:
    fields = common.fields
    heads = fields.count("mamba_n_heads")
    head_dim = common.hidden * fields.count("mamba_expand", 2) // heads
    if fields.values.get("mamba_d_head") not in (None, "auto"):
        head_dim = fields.count("mamba_d_head")
    return Mamba2(
        hidden=common.hidden,
        heads=heads,
        head_dim=head_dim,
        groups=fields.count("mamba_n_groups"),
        state=fields.count("mamba_d_state"),
        kernel=fields.count("mamba_d_conv"),
        bias=fields.flag("mamba_proj_bias"),
        convolution_bias=fields.flag("mamba_conv_bias", default=True),
        state_bytes=state_bytes_of(fields, "mamba_ssm_cache_dtype"),
        module="mamba",
    )
