"""Verdict upgrade: read the verdicts of schema 1, which held their text in one message.

Only this module takes the message of a verdict apart. Its lines were: what was tried; "seen:";
facts, one a line; "do:"; what was injected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perfgate.cases import parse_id
from perfgate.results.verdict import unit_of

_RENAMED = {
    "alarm_line": "threshold",
    "delta": "target_effect",
    "detectable": "mde",
    "demoted": "report_only_reason",
}
_NEEDED = {"message", "case", "metric"}
_FINDING, _ADVICE, _INJECTED = "seen:", "do:", "planted:"
_REPORT_ONLY = "reported only:"  # a field, and said in the message, too
_INJECTED_END = "; such a run becomes no baseline"
_NOTHING = "nothing"  # the advice where there was nothing to do
_ONE_MOVED, _BOTH_MOVED = "so it is ", "so both moved"


def upgrade_verdicts(rows: Any) -> Any:
    """Verdicts of schema 1 as those of schema 2; what it cannot read, unchanged."""
    if not isinstance(rows, list):
        return rows
    return [_upgraded(row) for row in rows]


def _upgraded(row: Any) -> Any:
    if not isinstance(row, dict) or not row.keys() >= _NEEDED:
        return row
    if not row["message"]:
        return row
    fields = {}
    for name, value in row.items():
        fields[_RENAMED.get(name, name)] = value
    message = str(fields.pop("message"))
    fields["unit"] = unit_of(str(row["case"]), str(row["metric"]))
    fields["reference"] = _reference(message, row.get("baseline"))
    return fields | _parsed(message, str(row["case"]))


def _reference(message: str, baseline: object) -> str:
    if "candidate against base" in message:
        return "paired"
    if baseline is None:
        return "none"
    if "beside the published" in message:
        return "published"
    return "recorded"


def _parsed(message: str, case_id: str) -> dict[str, Any]:
    tried, *lines = [line.strip() for line in message.splitlines()]
    fields: dict[str, Any] = {"summary": tried}
    details = []
    source = tried.partition(": ")[2]
    if source:
        details.append(source)
    for line in lines:
        if line.startswith(_FINDING):
            fields["summary"] = line.removeprefix(_FINDING).strip()
        elif line.startswith(_ADVICE):
            advice = line.removeprefix(_ADVICE).strip()
            if advice == _NOTHING:
                advice = ""
            fields["advice"] = advice
        elif line.startswith(_INJECTED):
            text = line.removeprefix(_INJECTED).strip()
            fields["injected"] = text.removesuffix(_INJECTED_END)
        elif not line.startswith(_REPORT_ONLY):
            details.append(line)
    fields["details"] = details
    fields["moved"] = _moved(details, case_id)
    return fields


def _moved(details: Sequence[str], case_id: str) -> str | None:
    for line in details:
        if line.startswith(_BOTH_MOVED):
            return "both"
        if line.startswith(_ONE_MOVED):
            load = line.removeprefix(_ONE_MOVED).removesuffix(" that moved")
            return _side(load, case_id)
    return None


def _side(load: str, case_id: str) -> str:
    """Which side of the case's ratio the load is; its text is "SERVER under WORKLOAD"."""
    servers, workloads, _ = parse_id(case_id)
    server = servers[0]
    numerator = f"{server} under {workloads[0]}"
    if load in (numerator, server):
        return "numerator"
    return "denominator"
