"""Catalogue: the models that this process knows by name.

It is empty until a study is read (`perfgate.study`), a plugin adds models
(`pytest_perfgate_models`), or a run that carries its models is loaded. It also exports
`architecture`, the arithmetic, and `config_files`, the reader of config.json.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from perfgate import formatting
from perfgate.errors import Failure
from perfgate.models.architecture import (
    BYTES_PER_PARAMETER,
    Architecture,
    LatentAttention,
)
from perfgate.models.config_files import (
    UnknownArchitecture,
    load_config,
    parse_config,
    read_config,
)

__all__ = [
    "BYTES_PER_PARAMETER",
    "CATALOGUE",
    "Architecture",
    "LatentAttention",
    "Model",
    "UnknownArchitecture",
    "UnknownModel",
    "load_config",
    "lookup",
    "parse_config",
    "read_config",
    "register",
]


class UnknownModel(Failure):
    """The catalogue has no model of that name."""


class Model(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """An entry of the catalogue.

    Attributes:
        name: used in server keys and baselines.
        config: its config.json, whole. Folders that the suite makes get it back; it is
            empty where only the arithmetic is known.
        hub_id: repository on the Hugging Face hub; None for models that the suite makes
            or that are in a folder.
        folder: of its weights; None where an option or the hub's cache names it.
        served: False for a model that only the arithmetic compares.

    """

    name: str
    architecture: Architecture
    config: dict[str, Any] = {}
    hub_id: str | None = None
    folder: str | None = None
    served: bool = True


CATALOGUE: dict[str, Model] = {}


def register(models: Iterable[Model]) -> None:
    """Add models; one of the same name is replaced."""
    for model in models:
        CATALOGUE[model.name] = model


def lookup(name: str) -> Model:
    """The model of that name.

    Raises:
        UnknownModel: there is none; the message suggests the nearest name.

    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    names = ", ".join(CATALOGUE) or "no model"
    suggestion = formatting.suggestion(name, CATALOGUE)
    raise UnknownModel(
        tried=f"looking up the model {name!r}",
        seen=f"the catalogue has {names}",
        remedy=(
            f"{suggestion}use one of these, or add a table [models.{name}] to the "
            "study file"
        ),
    )
