"""Headers of safetensors files: names, types and shapes of tensors, without their values.

A file begins with the length of its header (8 bytes) and the header, which is JSON. The
values follow, so the size of the file is known from the header alone.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NoReturn

import msgspec

from perfgate.errors import NOT_JSON, Failure

# The format allows no longer header.
LONGEST_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "F4": 4,
}


class BrokenFile(Failure):
    """A file of weights that is cut short, or contradicts itself."""


class Tensor(msgspec.Struct, frozen=True):
    """A tensor of a file.

    Attributes:
        dtype: as the format writes it: "BF16".
        data_offsets: first byte, and the one behind the last, after the header.
    """

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def count(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


def read_header(file: Path) -> dict[str, Tensor]:
    """Name -> tensor of a file, which is as long as its header says.

    Raises:
        BrokenFile: it cannot be read, is too short or too long, is no safetensors file,
            or a tensor's size is not that of its shape; file and tensor are named.

    """
    try:
        with file.open("rb") as stream:
            size_bytes = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            header_end = _LENGTH_BYTES + length
            if size_bytes < _LENGTH_BYTES:
                _refuse_short(file, size_bytes, "not even a header")
            if length > LONGEST_HEADER_BYTES:
                _refuse(file, f"its header would be {length:,} bytes long")
            if size_bytes < header_end:
                _refuse_short(file, size_bytes, "not the whole header")
            header = stream.read(length)
    except OSError as error:
        _refuse(file, error.strerror or str(error))
    try:
        rows = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        rows.pop("__metadata__", None)
        tensors = {}
        for name, row in rows.items():
            tensors[name] = msgspec.json.decode(row, type=Tensor)
    except NOT_JSON as error:
        _refuse(file, f"its header is not that of a safetensors file: {error}")
    _check_sizes(file, tensors, size_bytes - header_end)
    return tensors


def _check_sizes(
    file: Path, tensors: dict[str, Tensor], values_bytes: int
) -> None:
    """The tensors lie side by side, each as long as its shape, up to the end of the file."""
    end = 0
    in_order = sorted(tensors.items(), key=lambda item: item[1].data_offsets)
    for name, tensor in in_order:
        bits = _BITS.get(tensor.dtype)
        begin, stop = tensor.data_offsets
        if bits is not None and 8 * (stop - begin) != tensor.count * bits:
            shape = list(tensor.shape)
            _refuse(
                file,
                f"{name} is {tensor.dtype} of shape {shape}, but has {stop - begin:,} "
                "bytes",
            )
        if begin != end:
            _refuse(file, f"{name} begins at byte {begin:,}, not at {end:,}")
        end = stop
    if values_bytes < end:
        _refuse_short(
            file, values_bytes, f"{values_bytes:,} of {end:,} bytes of tensors"
        )
    if values_bytes > end:
        _refuse(file, f"{values_bytes - end:,} bytes follow its last tensor")


def _refuse_short(file: Path, size_bytes: int, held: str) -> NoReturn:
    if size_bytes == 0:
        _refuse(file, "it is empty")
    _refuse(file, f"it is cut short: it holds {held}")


def _refuse(file: Path, seen: str) -> NoReturn:
    raise BrokenFile(
        tried=f"reading the header of {file}",
        seen=seen,
        remedy=(
            "copy or download this file again; in the hub's cache, remove what "
            f"{file.name} links to first, or it is taken for whole"
        ),
    )
