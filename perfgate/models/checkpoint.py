"""Checkpoint: whether a model's folder holds all of its weights, and those of its shape.

Only headers are read, so a folder of 93 GB takes well under a second. What is presence
of a part is never taken for the whole: each file of the index is looked for, each is as
long as its header says, and the tensors are those that its configuration describes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from perfgate import formatting
from perfgate.errors import NOT_JSON, Failure
from perfgate.models.architecture import Architecture
from perfgate.models.headers import Tensor, read_header

INDEX_FILE = "model.safetensors.index.json"
_SHARD = re.compile(r"^(.*-)(\d+)(-of-)(\d+)(\.safetensors)$")
_TOKENIZERS = ("tokenizer*", "*.model", "vocab*", "*.tiktoken", "tekken.json")
# Other formats by the ends of their names, and what they are.
_OTHER_FORMATS = {
    ".gguf": "GGUF (llama.cpp)",
    ".bin": "PyTorch's pickles",
    ".pt": "PyTorch's pickles",
    ".pth": "PyTorch's pickles",
    ".npz": "numpy",
    ".h5": "Keras",
    ".msgpack": "Flax",
}
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_EXPERT = re.compile(r"^(.*\.experts)\.(\d+)\.")
_FUSED_EXPERTS = re.compile(r"\.experts\.(?!\d)")
_ROUTER = re.compile(
    r"\.(?:mlp|block_sparse_moe|feed_forward)\.(?:gate|router)\.weight$"
)
_QUANTIZED_TYPES = ("F8_", "U8", "I8", "I32", "F4")
_WHOLE_TYPES = (
    "BF16",
    "F16",
    "F32",
    "F64",
    "F8_",
)  # a number a value, none packed
_SHOWN = 3
# A tensor that one side calls a buffer must not refuse a model.
_ENOUGH = 0.999
_ENOUGH_BYTES = 0.9

Tensors = Mapping[str, Tensor]


class MissingWeights(Failure):
    """The weights are not on this machine, or not all of them."""


class WrongWeights(Failure):
    """The folder holds another model."""


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a folder, by their headers.

    Attributes:
        files: name of a tensor -> file that holds it.
    """

    folder: Path
    tensors: Tensors
    files: Mapping[str, str]


def read_checkpoint(folder: Path) -> Checkpoint:
    """The headers of all weights in a folder.

    Raises:
        MissingWeights: files are missing, or there are none.
        WrongWeights: the weights have another format, or index and files differ.
        BrokenFile: a file is cut short or contradicts itself.

    """
    index = _read_index(folder)
    names = sorted(set(index.values())) or _files_without_index(folder)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise _missing_files(folder, names, missing)
    if not names:
        _refuse_format(folder)
    tensors: dict[str, Tensor] = {}
    files: dict[str, str] = {}
    for name in names:
        header = read_header(folder / name)
        tensors |= header
        files |= dict.fromkeys(header, name)
    for tensor, file in index.items():
        if files.get(tensor) != file:
            _refuse(
                folder,
                f"{file} lacks {tensor}, which {INDEX_FILE} places there",
                "copy or download the folder again, both files from one revision",
            )
    return Checkpoint(folder, tensors, files)


def check_tokenizer(folder: Path) -> None:
    """The folder holds a tokenizer, which both engines load.

    Raises:
        MissingWeights: it holds none.

    """
    if any(any(folder.glob(pattern)) for pattern in _TOKENIZERS):
        return
    raise MissingWeights(
        tried=f"looking for a tokenizer in {folder}",
        seen="there is none: neither tokenizer.json nor another vocabulary",
        remedy="copy the model's tokenizer files beside its config.json",
    )


def check_against_config(
    checkpoint: Checkpoint, architecture: Architecture
) -> None:
    """The tensors are as many, and as large, as config.json says.

    Args:
        architecture: that config.json describes.

    Raises:
        WrongWeights: a layer, experts, the vocabulary or sizes differ; the file and the
            tensor are named.

    """
    _check_layers(checkpoint, architecture.num_hidden_layers)
    if architecture.is_moe:
        _check_experts(checkpoint, architecture.num_local_experts)
    _check_vocabulary(checkpoint, architecture.vocab_size)
    if architecture.quantization is None:
        _check_types(checkpoint)
        _check_count(checkpoint, architecture)
    else:
        _check_bytes(checkpoint, architecture)


def check_against_list(
    checkpoint: Checkpoint,
    listed: Mapping[str, tuple[int, ...]],
    may_be_packed: bool,
) -> None:
    """The tensors have the shapes that the engine's transformers lists.

    A listed tensor is missing if the checkpoint names others of its kind, or belongs to
    no kind that it names; a checkpoint with names of its own is left to the engine.

    Args:
        listed: name -> shape.
        may_be_packed: weights are quantized: tensors may be stored under other names.

    Raises:
        WrongWeights: a tensor is missing or has another shape; file and tensor are
            named.

    """
    kinds = {_kind(name) for name in checkpoint.tensors}
    for name, shape in listed.items():
        tensor = checkpoint.tensors.get(name)
        if tensor is None:
            if _kind(name) in kinds and not may_be_packed:
                _refuse_missing_tensor(checkpoint, name, shape)
        elif tensor.dtype.startswith(_WHOLE_TYPES) and tensor.shape != shape:
            _refuse_shape(checkpoint, name, shape)


def _kind(name: str) -> str:
    """The name without its numbers: tensors of all layers and experts are one kind."""
    return re.sub(r"\.\d+\.", ".N.", name)


def _read_index(folder: Path) -> dict[str, str]:
    """Tensor -> file by the index; empty without one."""
    path = folder / INDEX_FILE
    if not path.is_file():
        return {}
    try:
        index = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        return msgspec.convert(index["weight_map"], dict[str, str])
    except (OSError, *NOT_JSON) as error:
        seen = str(error)
    except KeyError:
        seen = "it has no weight_map of tensors and their files"
    _refuse(
        folder,
        f"{INDEX_FILE} cannot be read: {seen}",
        f"copy or download {INDEX_FILE} again",
    )


def _files_without_index(folder: Path) -> list[str]:
    """The safetensors files, and those that their numbers promise ("-00001-of-00019")."""
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        names.add(path.name)
        found = _SHARD.match(path.name)
        if found is None:
            continue
        start, number, of, count, end = found.groups()
        for shard in range(1, int(count) + 1):
            names.add(f"{start}{shard:0{len(number)}d}{of}{count}{end}")
    return sorted(names)


def _missing_files(
    folder: Path, names: list[str], missing: list[str]
) -> MissingWeights:
    present = len(names) - len(missing)
    be = "is" if present == 1 else "are"
    return MissingWeights(
        tried=f"looking for the weights in {folder}",
        seen=(
            f"{present} of {formatting.count(len(names), 'shard')} {be} here; "
            f"{len(missing)} missing: {_some(missing)}"
        ),
        remedy="copy or download the missing files",
    )


def _some(names: list[str]) -> str:
    """The first names, and how many more."""
    shown = ", ".join(names[:_SHOWN])
    if len(names) > _SHOWN:
        shown += f" and {len(names) - _SHOWN} more"
    return shown


def _refuse_format(folder: Path) -> NoReturn:
    """There is no safetensors file: say what there is."""
    remedy = "name a folder with the model's safetensors files"
    if not folder.is_dir():
        raise MissingWeights(
            tried=f"looking for the weights in {folder}",
            seen="there is no such folder",
            remedy=remedy,
        )
    for path in sorted(folder.iterdir()):
        kind = _OTHER_FORMATS.get(path.suffix)
        if kind is not None:
            _refuse(
                folder,
                f"{path.name} is {kind}; there are no safetensors files, and no other "
                "format can be checked",
                f"convert the weights to safetensors, or {remedy}",
            )
    raise MissingWeights(
        tried=f"looking for the weights in {folder}",
        seen="it holds config.json, but no weights",
        remedy=f"{remedy}, or measure without weights: --weights dummy",
    )


def _check_layers(checkpoint: Checkpoint, expected: int) -> None:
    """Each layer has tensors; layers beyond them predict further tokens."""
    layers = {int(found[1]) for found in _found(_LAYER, checkpoint.tensors)}
    missing = sorted(set(range(expected)) - layers)
    if layers and missing:
        names = [f"layers.{number}" for number in missing]
        _refuse_fields(
            checkpoint,
            f"it describes {expected} layers, but {len(missing)} are missing: "
            f"{_some(names)}",
        )


def _check_experts(checkpoint: Checkpoint, expected: int) -> None:
    """Each sparse layer has all experts, one by one or in one tensor, and a router for them."""
    experts: dict[str, set[int]] = {}
    for found in _found(_EXPERT, checkpoint.tensors):
        experts.setdefault(found[1], set()).add(int(found[2]))
    for group, numbers in experts.items():
        missing = sorted(set(range(expected)) - numbers)
        if missing:
            names = [f"{group}.{number}" for number in missing]
            _refuse_fields(
                checkpoint,
                f"it describes {expected} experts, but {len(missing)} are missing: "
                f"{_some(names)}",
            )
    for name, tensor in checkpoint.tensors.items():
        is_router = _ROUTER.search(name) is not None
        is_fused = _FUSED_EXPERTS.search(name) is not None
        rows = tensor.shape[0] if tensor.shape else 0
        if (is_router and rows != expected) or (is_fused and rows % expected):
            _refuse_fields(
                checkpoint,
                f"it describes {expected} experts, but {name} in "
                f"{checkpoint.files[name]} has shape {list(tensor.shape)}",
            )


def _check_vocabulary(checkpoint: Checkpoint, expected: int) -> None:
    """One embedding has a row for each token; other parts may have embeddings of their own."""
    rows = {}
    for name, tensor in checkpoint.tensors.items():
        if name.endswith("embed_tokens.weight"):
            rows[name] = tensor.shape[0] if tensor.shape else 0
    if not rows or expected in rows.values():
        return
    name = min(rows)
    _refuse_fields(
        checkpoint,
        f"vocab_size is {expected}, but {name} in {checkpoint.files[name]} has "
        f"{rows[name]} rows",
    )


def _check_types(checkpoint: Checkpoint) -> None:
    """No quantized tensors where config.json tells of no quantization."""
    for name, tensor in checkpoint.tensors.items():
        is_matrix = len(tensor.shape) > 1
        if is_matrix and tensor.dtype.startswith(_QUANTIZED_TYPES):
            _refuse_fields(
                checkpoint,
                f"it tells of no quantization, but {name} in {checkpoint.files[name]} "
                f"is {tensor.dtype}",
            )


def _check_count(checkpoint: Checkpoint, architecture: Architecture) -> None:
    """As many numbers as the architecture has parameters; other parts may add to them."""
    count = sum(tensor.count for tensor in checkpoint.tensors.values())
    expected = architecture.parameters
    if count < _ENOUGH * expected:
        _refuse_fields(
            checkpoint,
            f"it describes {expected / 1e9:.3f} B parameters, but the files hold "
            f"{count / 1e9:.3f} B",
        )


def _check_bytes(checkpoint: Checkpoint, architecture: Architecture) -> None:
    """As many bytes as the quantized architecture needs; methods differ in their scales."""
    held = 0
    for tensor in checkpoint.tensors.values():
        begin, end = tensor.data_offsets
        held += end - begin
    expected = architecture.weights_bytes("bfloat16")
    if held < _ENOUGH_BYTES * expected:
        _refuse_fields(
            checkpoint,
            f"it describes {expected / 1e9:.1f} GB of weights "
            f"({architecture.quantization}), but the files hold {held / 1e9:.1f} GB",
        )


def _found(
    pattern: re.Pattern[str], names: Iterable[str]
) -> list[re.Match[str]]:
    found = []
    for name in names:
        match = pattern.search(name)
        if match is not None:
            found.append(match)
    return found


def _refuse_missing_tensor(
    checkpoint: Checkpoint, name: str, shape: tuple[int, ...]
) -> NoReturn:
    _refuse_fields(
        checkpoint,
        f"it describes {name} of shape {list(shape)}, which no file holds",
    )


def _refuse_shape(
    checkpoint: Checkpoint, name: str, shape: tuple[int, ...]
) -> NoReturn:
    _refuse_fields(
        checkpoint,
        f"it describes {name} of shape {list(shape)}, but in {checkpoint.files[name]} "
        f"its shape is {list(checkpoint.tensors[name].shape)}",
    )


def _refuse_fields(checkpoint: Checkpoint, seen: str) -> NoReturn:
    """The config.json and the tensors differ."""
    _refuse(
        checkpoint.folder,
        f"config.json: {seen}",
        "use config.json and weights of one model and revision: copy or download both "
        "again",
    )


def _refuse(folder: Path, seen: str, remedy: str) -> NoReturn:
    raise WrongWeights(
        tried=f"checking the weights in {folder}", seen=seen, remedy=remedy
    )
