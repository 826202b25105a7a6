"""TOML of a study file: tables as structs, inheritance, errors with file, table and key."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from perfgate import formatting, locations
from perfgate.errors import Failure, describe_error

Table = TypeVar("Table", bound=msgspec.Struct)


class BadStudy(Failure):
    """An invalid study file or project file; the message names file, table and key."""


@dataclass(frozen=True)
class StudyToml:
    """The decoded file, with its path for messages."""

    path: Path
    data: Mapping[str, Any]

    def refuse(self, table: str, seen: str, remedy: str) -> NoReturn:
        """Raise `BadStudy`; an empty table name is the top of the file."""
        place = f"[{table}]" if table else "the file"
        raise BadStudy(
            tried=f"reading the study {self.path}",
            seen=f"{place}: {seen}",
            remedy=remedy,
        )

    def place_of(self, path: str) -> Path:
        """A path that the file names; a relative one starts at the file's folder."""
        return (self.path.parent / locations.expanded(path)).resolve()

    def table(self, value: Any, name: str) -> dict[str, Any]:
        """The value, which must be a table."""
        if not isinstance(value, dict):
            self.refuse(
                name,
                f"is {value!r}, not a table",
                f"write [{name}] with keys below it",
            )
        return value

    def tables(self, name: str) -> dict[str, dict[str, Any]]:
        """The tables [name.KEY], by key."""
        tables = {}
        parent = self.table(self.data.get(name, {}), name)
        for key, value in parent.items():
            tables[key] = self.table(value, f"{name}.{key}")
        return tables

    def structs(self, name: str, kind: type[Table]) -> dict[str, Table]:
        """The tables [name.KEY], by key, each converted."""
        structs = {}
        for key, table in self.tables(name).items():
            structs[key] = self.convert(table, kind, f"{name}.{key}")
        return structs

    def convert(
        self, value: Mapping[str, Any], kind: type[Table], name: str
    ) -> Table:
        """The table as a struct; an unknown key or a wrong type is refused."""
        self.check_keys(value, kind.__struct_fields__, name)
        try:
            return msgspec.convert(value, kind)
        except (msgspec.ValidationError, ValueError) as error:
            seen = _validation_message(error)
        self.refuse(name, seen, "correct this key")

    def inherited(
        self, kind: str, name: str, replaces: Mapping[str, Collection[str]]
    ) -> dict[str, Any]:
        """The keys of [kind.name], and those that it inherits through ``like``.

        Args:
            kind: "models" or "platforms".
            replaces: key -> other keys that a table which gives it does not inherit.
        """
        tables = self.tables(kind)
        merged: dict[str, Any] = {}
        for ancestor in reversed(self._ancestors(kind, tables, name)):
            for key in tables[ancestor]:
                for replaced in replaces.get(key, ()):
                    merged.pop(replaced, None)
            merged |= tables[ancestor]
        merged.pop("like", None)
        return merged

    def _ancestors(
        self, kind: str, tables: Mapping[str, dict[str, Any]], name: str
    ) -> list[str]:
        """The table, the one that its ``like`` names, and so on."""
        chain = [name]
        while True:
            child = chain[-1]
            parent = tables[child].get("like")
            if parent is None:
                return chain
            if not isinstance(parent, str):
                self.refuse(
                    f"{kind}.{child}",
                    f"like is {parent!r}",
                    "write the name of a table in quotes",
                )
            self.check_name(parent, tables, f"{kind}.{child}", "like")
            if parent in chain:
                circle = " -> ".join([*chain, parent])
                self.refuse(
                    f"{kind}.{name}",
                    f"like: {circle}",
                    "remove one `like` of this circle",
                )
            chain.append(parent)

    def check_keys(
        self, keys: Iterable[str], known: Collection[str], table: str
    ) -> None:
        """Refuse an unknown key."""
        for key in keys:
            if key not in known:
                seen, remedy = unknown_key(key, known)
                self.refuse(table, seen, remedy)

    def check_name(
        self, name: str, declared: Collection[str], table: str, key: str
    ) -> None:
        """Refuse a name that is not declared; `table` and `key` are where it is used."""
        if name in declared:
            return
        names = ", ".join(declared) or "none is declared"
        suggestion = formatting.suggestion(name, declared)
        self.refuse(
            table,
            f"{key} names {name!r}, which is not declared",
            f"{suggestion}use one of: {names}",
        )


def _validation_message(error: Exception) -> str:
    """The message of msgspec, with the key in front."""
    message, _, place = str(error).partition(" - at `$.")
    if not place:
        return message
    key = place.rstrip("`")
    return f"{key}: {message}"


def unknown_key(key: str, known: Collection[str]) -> tuple[str, str]:
    """The problem, and the remedy, of a key that does not exist."""
    suggestion = formatting.suggestion(key, known)
    names = ", ".join(known)
    return f"unknown key {key!r}", f"{suggestion}the keys are: {names}"


def load_toml(path: Path, kind: str) -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        path: of the file.
        kind: of the file, for messages: "the study".

    Raises:
        BadStudy: the file cannot be read, or is not TOML; line and column are named.
    """
    tried = f"reading {kind} {path}"
    try:
        # Editors of Windows begin a file with a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadStudy(
            tried=tried,
            seen=describe_error(error),
            remedy="correct the path, or make the file readable",
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise BadStudy(
            tried=tried,
            seen=f"it is not TOML: {error}",
            remedy=_toml_remedy(error),
        ) from None


def _toml_remedy(error: tomllib.TOMLDecodeError) -> str:
    if "twice" in str(error):
        return (
            "two tables have the same name: rename one of them, or merge them"
        )
    return "correct that line"
