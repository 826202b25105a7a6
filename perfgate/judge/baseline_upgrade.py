"""Upgrade of baseline files: schemas 1 and 2 to schema 3, on the decoded JSON.

Schema 2 renamed fields: `delta` is `target_effect`, the sides `of` and `over` of a ratio
are `numerator` and `denominator`, also as prefixes in identity and context.

Schema 3 took what the engine chose by itself out of the identity, into `chosen`. A target
effect without a reason is no longer stored: it follows from the noise.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

OLDEST: Final = 1
_METRIC = {"delta": "target_effect"}
_LAUNCH = {"of": "numerator", "over": "denominator"}
_SIDES = ("numerator.", "denominator.")
# What a person fixes, by its names in schema 2. Every other field was the engine's.
_FIXED = frozenset(
    {
        "hardware",
        "hardware_name",
        "gpu_count",
        "mig",
        "engine",
        "model",
        "weights",
        "dtype",
        "tensor_parallel_size",
        "expert_parallel",
        "max_model_len",
        "server_args",
        "server_env",
        "variant",
        "routing",
        "workload",
    }
)


def upgraded(tree: Any, schema: int, is_recorded: bool = True) -> Any:
    """The tree of a file of an older schema as schema 3.

    What has the wrong type stays as it is: the decoder names it.

    Args:
        is_recorded: a published file has no choices of an engine and no target effects.

    Raises:
        msgspec.ValidationError: a field of a newer schema stands in the file, or a
            target effect is missing.
    """
    if not isinstance(tree, dict):
        return tree
    if schema == 1:
        tree = _to_schema_2(tree)
    if is_recorded:
        tree = _to_schema_3(tree)
    return tree | {"schema": 3}


def _to_schema_2(tree: dict[str, Any]) -> dict[str, Any]:
    new = dict(tree)
    for name in ("identity", "context"):
        if isinstance(new.get(name), dict):
            new[name] = with_new_prefixes(new[name])
    metrics = new.get("metrics")
    if isinstance(metrics, dict):
        new_metrics = {}
        for name, metric in metrics.items():
            new_metrics[name] = _metric(metric, f"$.metrics.{name}")
        new["metrics"] = new_metrics
    return new


def _to_schema_3(tree: dict[str, Any]) -> dict[str, Any]:
    if "chosen" in tree:
        raise msgspec.ValidationError(
            "'chosen' is a field of schema 3 - at `$`"
        )
    new = dict(tree)
    if isinstance(new.get("identity"), dict):
        new["identity"], new["chosen"] = _without_choices(new["identity"])
    metrics = new.get("metrics")
    if isinstance(metrics, dict):
        new_metrics = {}
        for name, metric in metrics.items():
            new_metrics[name] = _own_target(metric, f"$.metrics.{name}")
        new["metrics"] = new_metrics
    return new


def _without_choices(
    identity: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a person fixed, and what the engine chose."""
    fixed = {}
    chosen = {}
    for field, value in identity.items():
        name = field
        for prefix in _SIDES:
            name = name.removeprefix(prefix)
        if name in _FIXED:
            fixed[field] = value
        else:
            chosen[field] = value
    return fixed, chosen


def _own_target(metric: Any, path: str) -> Any:
    """The metric without a target effect that nobody gave a reason for.

    One that is out of its range stays, so that the error names it.
    """
    if not isinstance(metric, dict):
        return metric
    if "target_effect" not in metric:
        problem = "Object missing required field `target_effect`"
        raise msgspec.ValidationError(f"{problem} - at `{path}`")
    limit = math.inf
    if metric.get("better") == "higher":
        limit = 1
    effect = metric["target_effect"]
    is_number = isinstance(effect, int | float)
    if metric.get("reason") or not is_number or not 0 < effect < limit:
        return metric
    derived = dict(metric)
    del derived["target_effect"]
    return derived


def with_new_prefixes(fields: dict[str, Any]) -> dict[str, Any]:
    """Identity or context with "numerator." for "of." and "denominator." for "over."."""
    renamed = {}
    for name, value in fields.items():
        side, dot, rest = name.partition(".")
        if dot and side in _LAUNCH:
            renamed[f"{_LAUNCH[side]}.{rest}"] = value
        else:
            renamed[name] = value
    return renamed


def old_names(text: str) -> str:
    """An error about an upgraded tree, with the field names that stand in a schema-1 file."""
    for old, new in (_METRIC | _LAUNCH).items():
        text = text.replace(f"`{new}`", f"`{old}`")
        text = text.replace(f".{new}", f".{old}")
    return text


def _metric(metric: Any, path: str) -> Any:
    if not isinstance(metric, dict):
        return metric
    renamed = _renamed(metric, _METRIC, path)
    launches = renamed.get("launches")
    if isinstance(launches, list):
        new_launches = []
        for number, launch in enumerate(launches):
            place = f"{path}.launches[{number}]"
            new_launches.append(_renamed(launch, _LAUNCH, place))
        renamed["launches"] = new_launches
    return renamed


def _renamed(fields: Any, names: dict[str, str], path: str) -> Any:
    if not isinstance(fields, dict):
        return fields
    renamed = {}
    for name, value in fields.items():
        if name in names.values():
            problem = f"{name!r} is a field of schema 2 - at `{path}`"
            raise msgspec.ValidationError(problem)
        renamed[names.get(name, name)] = value
    return renamed
