"""Quantization in files: quantization_config, compression_config, and files beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from perfgate.models.families.fields import FieldInvalid, Fields, Unsupported
from perfgate.models.quantization import Patterns, Quantization
from perfgate.models.shapes.formats import (
    BITSANDBYTES_4,
    BITSANDBYTES_4_DOUBLE,
    BITSANDBYTES_8,
    FP8_CHANNEL,
    FP8_TENSOR,
    INT8_CHANNEL,
    MXFP4,
    MXFP8,
    NVFP4,
    Format,
    fp8_blocks,
)
from perfgate.models.shapes.tensors import Group

# Files beside config.json, and the method where such a file names none.
BESIDE: Mapping[str, str] = {
    "hf_quant_config.json": "modelopt",
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
}


def read_quantization(
    config: Fields, beside: Mapping[str, Any]
) -> Quantization | None:
    """How the weights are quantized; None if they are not.

    Args:
        config: the decoded config.json.
        beside: content of the files of `BESIDE` in the same folder.

    Raises:
        FieldInvalid: a field is impossible.
        Unsupported: a method that is not understood.

    """
    text_config = config.table("text_config")
    for part in (config, text_config):
        if part is None:
            continue
        table = part.table("quantization_config")
        if table is not None and table.values:
            return _by_method(table, _method(table, ""), config)
        table = part.table("compression_config")
        if table is not None and table.values:
            return _by_method(table, "compressed-tensors", config)
    for name, method in BESIDE.items():
        if name not in beside:
            continue
        whole = Fields({name: beside[name]}).table(name)
        if whole is None:
            continue
        table = whole.table("quantization") or whole
        return _by_method(table, _method(table, method), config)
    return None


def _method(table: Fields, default: str) -> str:
    if not default and table.has("quant_algo"):
        default = "modelopt"
    method = table.text("quant_method", default or "unnamed")
    return method.lower()


def _by_method(table: Fields, method: str, config: Fields) -> Quantization:
    if method not in _METHODS:
        known = ", ".join(_METHODS)
        raise Unsupported(
            f"{table.prefix}quant_method is {method!r}; supported are {known}"
        )
    try:
        return _METHODS[method](table, config)
    except re.error as error:
        raise FieldInvalid(
            f"{table.prefix[:-1]} has an invalid regular expression: {error}"
        ) from error


def _fp8(table: Fields, config: Fields) -> Quantization:
    left_out = table.texts("modules_to_not_convert")
    left_out += table.texts("ignored_layers")
    default = FP8_TENSOR
    if table.has("weight_block_size"):
        default = _block_format(table, config)
    groups: dict[Group, Format] = {}
    if config.text("expert_dtype", "fp8") == "fp4":
        groups = {"experts": MXFP4}
    elif config.text("expert_dtype", "fp8") != "fp8":
        config.unsupported("expert_dtype")
    return Quantization(
        "fp8",
        default,
        Patterns(left_out),
        groups=groups,
        modules=_modules(table),
    )


def _block_format(table: Fields, config: Fields) -> Format:
    sizes = table.counts("weight_block_size")
    if len(sizes) != 2 or min(sizes) < 1:
        table.refuse("weight_block_size", "not two numbers")
    scale_bits = 32
    # DeepSeek-V4 keeps scales of 8 bits; V3.2 names them too, and keeps 32.
    has_small = config.text("model_type", "") == "deepseek_v4"
    if has_small and table.text("scale_fmt", "") == "ue8m0":
        scale_bits = 8
    return fp8_blocks(sizes[0], sizes[1], scale_bits)


def _fbgemm(table: Fields, _: Fields) -> Quantization:
    left_out = Patterns(table.texts("modules_to_not_convert"))
    return Quantization("fp8", FP8_CHANNEL, left_out)


def _mxfp4(table: Fields, _: Fields) -> Quantization:
    left_out = Patterns(table.texts("modules_to_not_convert"))
    return Quantization("mxfp4", None, left_out, groups={"experts": MXFP4})


def _awq(table: Fields, _: Fields) -> Quantization:
    bits = table.first_count("bits", "w_bit")
    has_zeros = table.flag("zero_point", default=True)
    form = _integers(table, bits, _group_size(table), has_zeros=has_zeros)
    left_out = Patterns(table.texts("modules_to_not_convert"))
    return Quantization("awq", form, left_out, head=table.flag("lm_head"))


def _gptq(table: Fields, _: Fields) -> Quantization:
    if table.values.get("dynamic"):
        table.unsupported("dynamic")
    form = _integers(
        table, table.count("bits"), _group_size(table), has_zeros=True
    )
    # The group of each input, as 32 bits.
    ordered = Format(
        name=form.name,
        bits=form.bits,
        rows=form.rows,
        columns=form.columns,
        scale_bits=form.scale_bits,
        bits_per_input=32,
        whole_blocks=True,
    )
    left_out = Patterns(table.texts("modules_in_block_to_not_quantize"))
    return Quantization("gptq", ordered, left_out, head=table.flag("lm_head"))


def _group_size(table: Fields) -> int:
    """Inputs that share a scale; 0 for all."""
    for name in ("group_size", "q_group_size"):
        if table.values.get(name) == -1:
            return 0
        if table.has(name):
            return table.count(name)
    return 128


def _integers(
    table: Fields, bits: int, group_size: int, *, has_zeros: bool
) -> Format:
    """Integers with a scale of 16 bits for each group, and a zero point."""
    if bits not in (2, 3, 4, 8):
        table.refuse("bits", "not 2, 3, 4 or 8")
    scale_bits = 16
    if has_zeros:
        scale_bits += bits
    return Format(
        name=f"int{bits}",
        bits=bits,
        rows=1,
        columns=group_size,
        scale_bits=scale_bits,
        whole_blocks=True,
    )


def _bitsandbytes(table: Fields, _: Fields) -> Quantization:
    left_out = Patterns(table.texts("llm_int8_skip_modules"))
    is_eight = table.flag("load_in_8bit") or table.flag("_load_in_8bit")
    form = BITSANDBYTES_4
    if is_eight:
        form = BITSANDBYTES_8
    elif table.flag("bnb_4bit_use_double_quant"):
        form = BITSANDBYTES_4_DOUBLE
    return Quantization("bitsandbytes", form, left_out)


def _compressed(table: Fields, _: Fields) -> Quantization:
    sparsity = table.table("sparsity_config")
    if sparsity is not None and sparsity.text("format", "dense") != "dense":
        sparsity.unsupported("format")
    groups = table.table("config_groups")
    if groups is None or not groups.values:
        table.refuse("config_groups", "no group that says what is quantized")
    default = None
    targets = []
    names = []
    for name in groups.values:
        group = groups.table(name)
        if group is None:
            groups.refuse(name, "no table of fields")
        form = _compressed_format(group)
        names.append(form.name)
        named = group.texts("targets")
        if "Linear" in named:
            default = form
        else:
            targets.append((Patterns(named), form))
    return Quantization(
        " and ".join(dict.fromkeys(names)),
        default,
        Patterns(table.texts("ignore")),
        targets=tuple(targets),
    )


def _compressed_format(group: Fields) -> Format:
    """The format that a group of compressed-tensors describes."""
    weights = group.table("weights")
    if weights is None:
        group.refuse("weights", "no table of fields")
    bits = weights.count("num_bits")
    kind = weights.text("type", "int")
    strategy = weights.text("strategy", "")
    size = weights.count("group_size", 0, least=-1)
    if not strategy:
        strategy = "group" if size > 0 else "tensor"
    if kind == "float":
        return _float_format(weights, bits, strategy, max(size, 0))
    if kind != "int" or bits not in (4, 8):
        weights.unsupported("num_bits")
    if strategy in ("channel", "tensor"):
        if bits == 8:
            return INT8_CHANNEL
        size = 0
    elif strategy != "group":
        weights.unsupported("strategy")
    is_symmetric = weights.flag("symmetric", default=True)
    return _integers(weights, bits, max(size, 0), has_zeros=not is_symmetric)


def _float_format(
    weights: Fields, bits: int, strategy: str, size: int
) -> Format:
    if bits == 4:
        by_size = {16: NVFP4, 32: MXFP4}
        if size not in by_size:
            weights.unsupported("group_size")
        return by_size[size]
    if bits != 8:
        weights.unsupported("num_bits")
    if strategy == "block":
        sizes = weights.counts("block_structure") or (128, 128)
        if len(sizes) != 2 or min(sizes) < 1:
            weights.refuse("block_structure", "not two numbers")
        return fp8_blocks(sizes[0], sizes[1])
    forms = {"tensor": FP8_TENSOR, "channel": FP8_CHANNEL}
    if strategy == "group" and size == 32:
        return MXFP8
    if strategy not in forms:
        weights.unsupported("strategy")
    return forms[strategy]


# ModelOpt's names of what it makes.
_ALGORITHMS: Mapping[str, Format] = {
    "FP8": FP8_TENSOR,
    "FP8_PER_CHANNEL_PER_TOKEN": FP8_CHANNEL,
    "FP8_PB_WO": fp8_blocks(),
    "FP8_BLOCK_SCALES": fp8_blocks(),
    "MXFP8": MXFP8,
    "MXFP4": MXFP4,
    "NVFP4": NVFP4,
    "NVFP4_AWQ": NVFP4,
    "W4A16_NVFP4": NVFP4,
}


def _modelopt(table: Fields, _: Fields) -> Quantization:
    left_out = Patterns(
        (*table.texts("exclude_modules"), *table.texts("ignore"))
    )
    algorithm = table.text("quant_algo", "")
    if algorithm == "MIXED_PRECISION":
        modules = _modules(table)
        if not modules:
            table.refuse("quantized_layers", "no table of modules")
        return Quantization("mixed precision", None, left_out, modules=modules)
    form = _algorithm(table, "quant_algo")
    return Quantization(form.name, form, left_out)


def _algorithm(table: Fields, name: str) -> Format:
    algorithm = table.text(name, "unnamed").upper()
    if algorithm not in _ALGORITHMS:
        known = ", ".join(_ALGORITHMS)
        raise Unsupported(
            f"{table.prefix}{name} is {algorithm!r}; supported are {known}"
        )
    return _ALGORITHMS[algorithm]


def _modules(table: Fields) -> dict[str, Format]:
    """Formats of single modules; all experts of a layer must have the same one."""
    named = table.table("quantized_layers")
    modules: dict[str, Format] = {}
    if named is None:
        return modules
    for name in named.values:
        row = named.table(name)
        if row is None:
            named.refuse(name, "no table of fields")
        form = _algorithm(row, "quant_algo")
        one = re.sub(r"\.experts\.\d+\.", ".experts.0.", name)
        if modules.setdefault(one, form) != form:
            raise Unsupported(
                f"{named.prefix}{name}: experts of one layer differ in their format"
            )
    return modules


_METHODS: Mapping[str, Callable[[Fields, Fields], Quantization]] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "mxfp4": _mxfp4,
    "awq": _awq,
    "gptq": _gptq,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "modelopt_mixed": _modelopt,
}
