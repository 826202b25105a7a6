"""Upgrade of baseline files: schema 1 to schema 2, on the decoded JSON.

Schema 2 renamed fields and changed nothing else: `delta` is `target_effect`, the sides
`of` and `over` of a ratio are `numerator` and `denominator`, also as prefixes in
identity and context.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

OLDEST: Final = 1
_METRIC = {"delta": "target_effect"}
_LAUNCH = {"of": "numerator", "over": "denominator"}


def upgraded(tree: Any) -> Any:
    """The tree of a schema-1 file as schema 2.

    What has the wrong type stays as it is: the decoder names it.

    Raises:
        msgspec.ValidationError: a field of schema 2 stands in a file of schema 1.
    """
    if not isinstance(tree, dict):
        return tree
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
    new["schema"] = 2
    return new


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
    """An error about an upgraded tree, with the field names that stand in the file."""
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
