"""Schema upgrade: read a results.json of schema 1 as schema 2.

Schema 2 renames and splits fields, drops one and adds `mode`. `STEPS` lists, for each
top-level key, what changes under it. Everything else is copied. Measurements are
megabytes: of each row only the field that changes is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from perfgate.results.failure_upgrade import upgrade_failures
from perfgate.results.verdict_upgrade import upgrade_verdicts

OLD_SCHEMA, NEW_SCHEMA = 1, 2
Step = Callable[[Any], Any]
"""Returns the upgraded value of one top-level key; what it cannot read, unchanged."""


class _Head(msgspec.Struct):
    """What decides whether a file is upgraded."""

    schema: int = NEW_SCHEMA


def rename_field(old: str, new: str) -> Step:
    """A step that renames a field of each row of a list."""

    def rename(rows: Any) -> Any:
        if not isinstance(rows, list):
            return rows
        return [_renamed(row, old, new) for row in rows]

    return rename


def _renamed(row: Any, old: str, new: str) -> Any:
    if not isinstance(row, dict):
        return row
    if old not in row or new in row:
        return row
    renamed = {}
    for name, value in row.items():
        new_name = new if name == old else name
        renamed[new_name] = value
    return renamed


def drop_gpu_clock(hardware: Any) -> Any:
    """Drop a GPU's maximum clock, which nothing read."""
    if not isinstance(hardware, dict):
        return hardware
    gpus = hardware.get("gpus")
    if not isinstance(gpus, list):
        return hardware
    upgraded = [_drop_field(gpu, "sm_clock_max_mhz") for gpu in gpus]
    return {**hardware, "gpus": upgraded}


def _drop_field(row: Any, field: str) -> Any:
    if not isinstance(row, dict):
        return row
    remaining = dict(row)
    remaining.pop(field, None)
    return remaining


def rename_field_within(key: str, old: str, new: str) -> Step:
    """A step that renames a field of the object under `key` in each row of a list."""

    def rename(rows: Any) -> Any:
        if not isinstance(rows, list):
            return rows
        return [_renamed_within(row, key, old, new) for row in rows]

    return rename


def _renamed_within(row: Any, key: str, old: str, new: str) -> Any:
    if not isinstance(row, dict) or key not in row:
        return row
    renamed = _renamed(row[key], old, new)
    return {**row, key: renamed}


def split_python(servers: Any) -> Any:
    """Split "PATH (what named it)" of each server into two fields."""
    if not isinstance(servers, dict):
        return servers
    return {key: _split_python(server) for key, server in servers.items()}


def _split_python(server: Any) -> Any:
    if not isinstance(server, dict) or "python_origin" in server:
        return server
    path, opening, origin = str(server.get("python", "")).partition(" (")
    if not opening:
        return server
    origin = origin.removesuffix(")")
    return {**server, "python": path, "python_origin": origin}


RENAMED = {"against": "base_builds", "against_delta": "target_effect"}
"""Top-level keys that schema 2 names otherwise; renamed after the steps."""

STEPS: Mapping[str, tuple[Step, ...]] = {
    "hardware": (drop_gpu_clock,),
    "servers": (split_python,),
    "launches": (
        rename_field("planted", "injected"),
        rename_field_within("start", "index", "session_index"),
    ),
    "against": (),
    "cases": (
        rename_field("of", "numerator"),
        rename_field("over", "denominator"),
    ),
    "verdicts": (upgrade_verdicts,),
    "measurements": (upgrade_failures,),
}
"""Top-level key -> steps, applied in this order; keys with steps are decoded."""

_SHALLOW = {"measurements": list[dict[str, msgspec.Raw]]}


def upgrade_results(data: dict[str, Any]) -> dict[str, Any]:
    """The tree of a schema-1 results.json (decoded JSON) as schema 2.

    Args:
        data: left unchanged; keys without a step, and the fields of a measurement, may
            hold undecoded `msgspec.Raw`.
    """
    upgraded = {**data, "schema": NEW_SCHEMA}
    for key, steps in STEPS.items():
        if key not in upgraded:
            continue
        for step in steps:
            upgraded[key] = step(upgraded[key])
    for old, new in RENAMED.items():
        if old in upgraded:
            upgraded[new] = upgraded.pop(old)
    mode = "paired" if upgraded.get("base_builds") else "sequential"
    upgraded.setdefault("mode", mode)
    return upgraded


def upgrade_content(content: bytes) -> bytes:
    """A results.json as schema 2; any file but one of schema 1 as it is.

    Raises:
        msgspec.DecodeError: the content is no JSON object.
    """
    head = msgspec.json.decode(content, type=_Head)
    if head.schema != OLD_SCHEMA:
        return content
    fields: dict[str, Any] = msgspec.json.decode(
        content, type=dict[str, msgspec.Raw]
    )
    for key in STEPS:
        if key in fields:
            fields[key] = _decoded(key, fields[key])
    return msgspec.json.encode(upgrade_results(fields))


def _decoded(key: str, content: msgspec.Raw) -> Any:
    """A top-level value; a malformed one stays undecoded, and loading names the field."""
    try:
        return msgspec.json.decode(content, type=_SHALLOW.get(key, Any))
    except msgspec.ValidationError:
        return content
