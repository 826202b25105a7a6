"""Quantization of published weights: which tensors, in which format, by name of module."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from perfgate.models.architecture import Architecture
from perfgate.models.families.fields import Unsupported
from perfgate.models.shapes.formats import Format
from perfgate.models.shapes.layers import stack
from perfgate.models.shapes.tensors import Group, Tensor

# What stands before the name of a module in its layer, in published files.
_PREFIXES = (
    "model.layers.{}.",
    "model.language_model.layers.{}.",
    "language_model.model.layers.{}.",
    "backbone.layers.{}.",
    "layers.{}.",
)
# The first layer that predicts further tokens follows the last layer, or stands apart.
_DRAFT_PREFIXES = (*_PREFIXES, "mtp.layers.0.", "mtp.0.", "mtp.")
# Other names of a module in published files.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "self_attn": ("attn",),
    "mlp": ("ffn", "block_sparse_moe", "feed_forward"),
    "block_sparse_moe": ("mlp",),
    "moe": ("mlp",),
    "shared_experts": ("shared_expert",),
}
_PROJECTIONS = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
# Parts of a model that are not counted here: encoders of pictures, and drafts.
_UNCOUNTED = ("vision", "visual", "mtp")


class Patterns:
    """Names of modules, with wildcards, or regular expressions after "re:".

    A name stands for the modules inside of it too, and for any part of longer names
    between dots: "self_attn" for that of each layer, as engines take it.

    Args:
        texts: the patterns.

    Raises:
        re.error: an invalid regular expression.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._expressions: list[re.Pattern[str]] = []
        wildcards: list[str] = []
        for text in texts:
            if text.startswith("re:"):
                expression = re.compile(text.removeprefix("re:"))
                self._expressions.append(expression)
            elif any(sign in text for sign in "*?["):
                # What is inside of a module that matches, too.
                wildcards.append(fnmatch.translate(text))
                wildcards.append(fnmatch.translate(f"{text}.*"))
            else:
                self._names.add(text.strip("."))
        if wildcards:
            self._expressions.append(re.compile("|".join(wildcards)))

    def matches(self, name: str) -> bool:
        """Whether a pattern stands for the module."""
        parts = name.split(".")
        edges = range(len(parts) + 1)
        for begin, end in itertools.combinations(edges, 2):
            if ".".join(parts[begin:end]) in self._names:
                return True
        return any(one.match(name) for one in self._expressions)


class Quantization(NamedTuple):
    """How the weights of a model are quantized.

    Attributes:
        name: of the method, for the reader.
        default: format of a matrix that nothing names; None for the model's data type.
        left_out: modules that are not quantized.
        groups: formats of whole groups of tensors, in place of the default.
        modules: formats of single modules, in place of all others.
        targets: formats of modules that patterns name, in place of the default.
        head: whether the output head is quantized like the rest.

    """

    name: str
    default: Format | None = None
    left_out: Patterns = Patterns(())
    groups: Mapping[Group, Format] = {}
    modules: Mapping[str, Format] = {}
    targets: tuple[tuple[Patterns, Format], ...] = ()
    head: bool = False

    def format_of(self, tensor: Tensor, names: Iterable[str]) -> Format | None:
        """The format of a tensor with any of these names."""
        candidates = list(names)
        for name in candidates:
            if name in self.modules:
                return self.modules[name]
        if any(self.left_out.matches(name) for name in candidates):
            return None
        for patterns, chosen in self.targets:
            if any(patterns.matches(name) for name in candidates):
                return chosen
        return self.groups.get(tensor.group, self.default)


def quantized(
    architecture: Architecture, quantization: Quantization
) -> Architecture:
    """The architecture with the format of each of its tensors."""
    told = architecture.told
    _check_modules(architecture, quantization)
    layers = []
    for number, layer in enumerate(told.layers):
        tensors = _converted(layer.tensors, quantization, _PREFIXES, number)
        layers.append(msgspec.structs.replace(layer, tensors=tuple(tensors)))
    number = len(layers)
    draft = _converted(told.draft, quantization, _DRAFT_PREFIXES, number)
    around = [_around(tensor, quantization) for tensor in told.outside]
    return msgspec.structs.replace(
        architecture,
        stack=stack(layers, around, draft),
        quantization=quantization.name,
    )


def _check_modules(
    architecture: Architecture, quantization: Quantization
) -> None:
    """Refuse a format of a module that the model has not: its size would be missing."""
    unknown = set(quantization.modules)
    unknown -= {tensor.name for tensor in architecture.told.outside}
    for number, layer in enumerate(architecture.layers):
        for tensor in layer.tensors:
            unknown.difference_update(
                module_names(tensor.name, _PREFIXES, number)
            )
    for name in sorted(unknown):
        if not any(part in name for part in _UNCOUNTED):
            raise Unsupported(
                f"quantized_layers names {name}, which the arithmetic does not know"
            )


def _converted(
    tensors: Iterable[Tensor],
    quantization: Quantization,
    prefixes: tuple[str, ...],
    number: int,
) -> list[Tensor]:
    converted = []
    for tensor in tensors:
        changed = tensor
        if tensor.is_convertible:
            names = module_names(tensor.name, prefixes, number)
            chosen = quantization.format_of(tensor, names)
            changed = msgspec.structs.replace(tensor, format=chosen)
        converted.append(changed)
    return converted


def _around(tensor: Tensor, quantization: Quantization) -> Tensor:
    """An embedding or the output head, which few methods quantize."""
    if len(tensor.shape) != 2:
        return tensor
    chosen = quantization.modules.get(tensor.name)
    if tensor.name == "lm_head" and quantization.head:
        chosen = chosen or quantization.default
    return msgspec.structs.replace(tensor, format=chosen)


def module_names(
    name: str, prefixes: Iterable[str], number: int
) -> Iterator[str]:
    """Names under which published files know a module of a layer."""
    first, _, rest = name.partition(".")
    variants = []
    for start in (first, *_ALIASES.get(first, ())):
        variants.append(f"{start}.{rest}")
        inner, _, last = rest.partition(".")
        for other in _ALIASES.get(inner, ()):
            variants.append(f"{start}.{other}.{last}")
    for variant in tuple(variants):
        start, _, projection = variant.rpartition(".")
        if projection in _PROJECTIONS:
            variants.append(f"{start}.{_PROJECTIONS[projection]}")
    for prefix in prefixes:
        for variant in variants:
            full = prefix.format(number) + variant
            yield full
            # Routed experts are listed one by one, or as one module.
            if ".experts." in full:
                yield full.replace(".experts.", ".experts.0.")
                yield full.partition(".experts.")[0] + ".experts"
