"""Layers: a study file on top of another one, as its ``like`` says.

A table of the upper file replaces the one of that name; all others are as below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perfgate.study.shipped import shipped
from perfgate.study.toml_file import StudyToml, load_toml

SHIPPED = "shipped"
# Keys with a table of tables.
_BY_NAME = ("models", "pairs", "servers", "datasets", "platforms")


def load_study(path: Path) -> StudyToml:
    """A study file, whole: with the tables of the files that it is based on.

    Raises:
        BadStudy: a file cannot be read, is not TOML, or is based on itself.
    """
    return _whole(path, [])


def _whole(path: Path, above: Sequence[Path]) -> StudyToml:
    """A file with the tables of those that it is based on.

    Args:
        above: the files that are based on this one, resolved.
    """
    file = StudyToml(path, load_toml(path, "the study"))
    below = _below(file, [*above, path.resolve()])
    if below is None:
        return file
    return StudyToml(path, _merged(below, file))


def _below(file: StudyToml, above: Sequence[Path]) -> StudyToml | None:
    """The file that this one is based on, whole; None if it stands alone.

    Args:
        above: this file and those that are based on it, resolved.
    """
    name = file.data.get("like")
    if name is None:
        return None
    if not isinstance(name, str):
        file.refuse("", f"like is {name!r}", f'write like = "{SHIPPED}"')
    path = shipped().study
    if name != SHIPPED:
        path = file.place_of(name)
    if path.resolve() in above:
        file.refuse("", f"like: {path} is based on this file", "remove `like`")
    below = _whole(path, above)
    return StudyToml(path, _with_whole_paths(below))


def _merged(below: StudyToml, file: StudyToml) -> dict[str, Any]:
    data: dict[str, Any] = dict(below.data)
    data.update(file.data)
    if "name" not in file.data:
        data.pop("name", None)
    for kind in _BY_NAME:
        tables = dict(below.tables(kind))
        tables.update(file.tables(kind))
        data[kind] = tables
    data["workloads"] = _merged_sets(below, file)
    claims = file.data.get("claims", [])
    below_claims = below.data.get("claims", [])
    if not isinstance(below_claims, list):
        data["claims"] = below_claims  # the reader refuses it
    elif isinstance(claims, list):
        data["claims"] = [*below_claims, *claims]
    return data


def _merged_sets(below: StudyToml, file: StudyToml) -> dict[str, Any]:
    """Sets of workloads; one of both files has the workloads of both."""
    sets: dict[str, Any] = dict(below.tables("workloads"))
    for name, members in file.tables("workloads").items():
        merged = dict(sets.get(name, {}))
        merged.update(members)
        sets[name] = merged
    return sets


def _with_whole_paths(file: StudyToml) -> dict[str, Any]:
    """The content, with the paths of models and data sets counted from this file."""
    data = dict(file.data)
    for kind in ("models", "datasets"):
        tables = {}
        for name, table in file.tables(kind).items():
            tables[name] = _with_whole_path(file, table)
        data[kind] = tables
    return data


def _with_whole_path(
    file: StudyToml, table: Mapping[str, Any]
) -> dict[str, Any]:
    whole = dict(table)
    for key in ("folder", "config", "file"):
        value = whole.get(key)
        if isinstance(value, str):
            whole[key] = str(file.place_of(value))
    return whole
