"""Catalogue: the models that this process knows by name.

It is empty until a study is read (`perfgate.study`), a plugin adds models
(`pytest_perfgate_models`) or a run that carries its models is loaded. `architecture`
has the arithmetic of a model's shape, `config_files` reads a config.json; both are
found here too.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    config_json,
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
    "config_json",
    "lookup",
    "parse_config",
    "read_config",
    "register",
]


class UnknownModel(Failure):
    """A model name that is not in the catalogue."""


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of the catalogue.

    Attributes:
        name: used in server keys and baselines.
        hub_id: where engines download the weights from; None for models that the suite
            makes itself, or that lie in a folder.
        folder: where its weights lie; None: an option or the hub's cache says.
        served: False for a model that is compared by arithmetic alone.

    """

    name: str
    architecture: Architecture
    hub_id: str | None = None
    folder: str | None = None
    served: bool = True


CATALOGUE: dict[str, Model] = {}


def register(models: Iterable[Model]) -> None:
    """Enter models under their names; one of the same name is replaced."""
    for model in models:
        CATALOGUE[model.name] = model


def lookup(name: str) -> Model:
    """The catalogue's entry.

    Raises:
        UnknownModel: there is none of that name; the nearest name is suggested.

    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = formatting.suggestion(name, CATALOGUE)
    raise UnknownModel(
        tried=f"looking up the model {name!r}",
        seen=f"the catalogue has {', '.join(CATALOGUE) or 'no model'}",
        remedy=f"{near}use one of these, or add a table [models.{name}] to the study file",
    )
