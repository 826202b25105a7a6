"""Failure upgrade: read how a server died in schema 1, one text, as fields.

Lines of the text were: what was tried; "seen:"; the end of the log; "log:"; "do:".
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_TEXT = re.compile(
    r"(?P<tried>.*?)\n  seen: (?P<seen>[^\n]*?)(?:; (?P<detail>its last .*?))?"
    r"(?:\n  log:  (?P<log>[^\n]*))?\n  do:   (?P<remedy>.*)",
    re.DOTALL,
)


def upgrade_failures(rows: Any) -> Any:
    """Measurements of schema 1 as those of schema 2; what it cannot read, unchanged.

    Args:
        rows: the values of a row's fields may be undecoded `msgspec.Raw`.
    """
    if not isinstance(rows, list):
        return rows
    return [_upgraded(row) for row in rows]


def _upgraded(row: Any) -> Any:
    if not isinstance(row, dict) or "error" not in row:
        return row
    fields = dict(row)
    error = fields.pop("error")
    if isinstance(error, msgspec.Raw):
        error = msgspec.json.decode(error)
    if error is None:
        return fields
    return {**fields, "failure": failure_fields(str(error))}


def failure_fields(text: str) -> dict[str, Any]:
    """A failure's text as the fields of `perfgate.errors.FailureRow`."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return {"tried": "measuring", "seen": text, "remedy": ""}
    fields = match.groupdict()
    return {**fields, "detail": fields["detail"] or ""}
