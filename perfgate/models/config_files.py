"""config.json: read a model's architecture and how its weights are quantized.

An unknown family, or an unsupported field that would change the arithmetic, is an error
that names it: a wrong parameter count would make every memory gate a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from perfgate.errors import NOT_JSON, Failure
from perfgate.models.architecture import Architecture
from perfgate.models.families.fields import (
    FieldInvalid,
    FieldMissing,
    Fields,
    Unsupported,
)
from perfgate.models.families.registry import READERS, TEXT_PARTS
from perfgate.models.quantization import quantized
from perfgate.models.quantization_files import BESIDE, read_quantization


class UnknownArchitecture(Failure):
    """A config.json that the arithmetic does not support."""


_PUBLISHED = "use the config.json that was published with the model"


def parse_config(
    config: dict[str, Any], origin: str, beside: Mapping[str, Any] | None = None
) -> Architecture:
    """The architecture that a decoded config.json describes.

    Of a model that also sees pictures or hears it is the text part.

    Args:
        config: the decoded file.
        origin: its path, for messages.
        beside: content of quantization files in the same folder, by name.

    Raises:
        UnknownArchitecture: another family, an unsupported field that changes the
            arithmetic, a missing or an impossible field; the file and the field are
            named.

    """
    tried = f"reading the architecture in {origin}"
    try:
        fields = Fields(config)
        quantization = read_quantization(fields, beside or {})
        architecture = _read(_text_part(fields))
        if quantization is None:
            return architecture
        return quantized(architecture, quantization)
    except FieldMissing as error:
        raise UnknownArchitecture(
            tried=tried, seen=str(error), remedy=_PUBLISHED
        ) from error
    except Unsupported as error:
        raise UnknownArchitecture(
            tried=tried,
            seen=str(error),
            remedy=(
                "to estimate the model without this field, remove it from a copy of "
                "the file; to support it, extend perfgate/models/families"
            ),
        ) from error
    except (FieldInvalid, msgspec.ValidationError) as error:
        raise UnknownArchitecture(
            tried=tried, seen=str(error), remedy=_PUBLISHED
        ) from error


def _text_part(fields: Fields) -> Fields:
    """The part that decodes text, with its family."""
    text_config = fields.table("text_config")
    if text_config is None or not text_config.values:
        return fields
    family = fields.text("model_type", "")
    merged = dict(text_config.values)
    if merged.get("model_type") is None:
        merged["model_type"] = TEXT_PARTS.get(family, family)
    if merged.get("tie_word_embeddings") is None:
        tied = fields.values.get("tie_word_embeddings")
        merged["tie_word_embeddings"] = tied
    return Fields(merged, "text_config.")


def _read(fields: Fields) -> Architecture:
    model_type = fields.values.get("model_type")
    if not isinstance(model_type, str) or model_type not in READERS:
        known = ", ".join(READERS)
        raise Unsupported(
            f"{fields.prefix}model_type is {model_type!r}; supported are {known}"
        )
    if fields.flag("is_encoder_decoder"):
        fields.unsupported("is_encoder_decoder")
    return READERS[model_type](fields)


def read_config(path: Path) -> Architecture:
    """The architecture in a config.json, given the file or its folder.

    Quantization files in the same folder are read too.

    Raises:
        UnknownArchitecture: as `parse_config`, and for a file that cannot be read.

    """
    file = _config_file(path)
    return parse_config(load_config(file), str(file), load_beside(file))


def load_beside(path: Path) -> dict[str, Any]:
    """Content of the files beside a config.json that tell a quantization, by name.

    Raises:
        UnknownArchitecture: one of them cannot be read.

    """
    folder = _config_file(path).parent
    beside = {}
    for name in BESIDE:
        file = folder / name
        if file.is_file():
            beside[name] = load_config(file)
    return beside


def load_config(path: Path) -> dict[str, Any]:
    """The whole content of a config.json, given the file or its folder.

    Raises:
        UnknownArchitecture: the file cannot be read.

    """
    file = _config_file(path)
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, *NOT_JSON) as error:
        raise UnknownArchitecture(
            tried=f"reading {file}",
            seen=f"{type(error).__name__}: {error}",
            remedy="name a folder that holds the model's config.json",
        ) from error


def _config_file(path: Path) -> Path:
    if path.suffix == ".json":
        return path
    return path / "config.json"
