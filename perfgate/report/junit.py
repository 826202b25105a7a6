"""JUnit XML of a run: valid, whatever a server said.

A suite for each server or pair, with a case for each workload and metric.
"""

from __future__ import annotations

from typing import Any

from perfgate.cases import Case
from perfgate.foreign_text import printable
from perfgate.judge.verdict import GREEN, Verdict, is_red, unjudged
from perfgate.report import diagnosis_text, notices, verdict_text
from perfgate.results.diagnosis import Diagnosis
from perfgate.results.gates import Gate
from perfgate.results.group_verdict import GroupVerdict
from perfgate.results.schema import RunResults

_NUMBERS = (
    "value",
    "baseline",
    "change",
    "worse_by",
    "threshold",
    "target_effect",
    "mde",
    "excluded",
    "allowed",
    "fail_over",
    "noise",
    "launches",
)
LONGEST_TEXT = 20_000  # characters of one message; all of it is in results.json


def junit(results: RunResults) -> str:
    """JUnit XML: a suite for each server or pair, a case for each workload and metric.

    The numbers of a verdict are properties of its case.
    """
    from junitparser import JUnitXml, TestSuite

    cases = {case.id: case for case in results.cases}
    suites: dict[str, Any] = {}
    for row in results.verdicts:
        case = cases[row.case]
        suite = suites.setdefault(case.subject, TestSuite(_text(case.subject)))
        suite.add_testcase(_case(case, row, results.gate))
    for name, entries in _other_entries(results).items():
        if entries:
            suites[name] = suite = TestSuite(name)
            suite.add_testcases(entries)
    whole = JUnitXml("perfgate")
    for suite in suites.values():
        suite.timestamp = results.started
        whole.add_testsuite(suite)
    whole.update_statistics()
    return bytes(whole.tostring()).decode()


def _text(text: str) -> str:
    """Text that XML can hold, whatever a server said, and that a CI service shows."""
    text = printable(text)
    if len(text) <= LONGEST_TEXT:
        return text
    rest = len(text) - LONGEST_TEXT
    return f"{text[:LONGEST_TEXT]}\n... and {rest:,} more characters"


def _other_entries(results: RunResults) -> dict[str, list[Any]]:
    """Suite -> what is no verdict of a case."""
    diagnoses = []
    for row in results.diagnoses:
        diagnoses.append(_diagnosis(results, row))
    return {
        "groups of rows": [_group(row) for row in results.group_verdicts],
        "servers": _failed_servers(results),
        "not measured": _not_measured(results),
        "the run": _as_a_whole(results),
        "causes": diagnoses,
    }


def _failed_servers(results: RunResults) -> list[Any]:
    from junitparser import Error, TestCase

    entries = []
    for key, row in results.failures.items():
        entry = TestCase(_text(key), classname="perfgate.servers")
        error = Error("server failed")
        error.text = _text(f"{row.seen}\n  do:   {row.remedy}")
        entry.result = [error]
        entries.append(entry)
    return entries


def _not_measured(results: RunResults) -> list[Any]:
    """Cases without a verdict: skipped where that is allowed, else failed."""
    from junitparser import Failure, Skipped, TestCase

    entries = []
    kind = Skipped if results.gate == "advisory" else Failure
    reasons = dict(results.lacking)
    for row in unjudged(results.cases, results.verdicts):
        why = results.why_without_verdict(row)
        reasons[row.id] = why or "it has neither a verdict nor a reason"
    for case, reason in reasons.items():
        entry = TestCase(_text(case), classname="perfgate.not_measured")
        result = kind("no verdict")
        result.text = _text(reason)
        entry.result = [result]
        entries.append(entry)
    return entries


def _as_a_whole(results: RunResults) -> list[Any]:
    """A case that failed where the run is not whole, though each of its rows passed."""
    from junitparser import Failure, TestCase

    reasons = notices.failing_as_a_whole(results)
    if not reasons:
        return []
    entry = TestCase("all of the suite", classname="perfgate.run")
    failure = Failure("not whole")
    failure.text = _text("\n".join(reasons))
    entry.result = [failure]
    return [entry]


def _diagnosis(results: RunResults, row: Diagnosis) -> Any:
    """A cause as a case that passes: the rows that it explains have failed."""
    from junitparser import TestCase

    name = f"{row.cause}, {', '.join(row.servers)}"
    entry = TestCase(_text(name), classname="perfgate.causes")
    entry.system_out = _text(diagnosis_text.render(results, row))
    return entry


def _case(case: Case, row: Verdict, gate: Gate) -> Any:
    from junitparser import Failure, Properties, Property, Skipped, TestCase

    name = f"{case.workload}/{case.metric}"
    entry = TestCase(_text(name), classname=_text(f"perfgate.{case.subject}"))
    properties = Properties()
    for field, text in _properties(row).items():
        properties.add_property(Property(field, _text(text)))
    entry.append(properties)
    result = None
    if is_red(row.outcome, row.gate, gate):
        result = Failure(row.outcome.value)
    elif row.outcome not in GREEN and row.gate == "hard":
        result = Skipped(row.outcome.value)
    if result is not None:
        result.text = _text(verdict_text.render(row))
        entry.result = [result]
    return entry


def _group(row: GroupVerdict) -> Any:
    from junitparser import Failure, TestCase

    name = verdict_text.group_heading(row)
    entry = TestCase(_text(name), classname="perfgate.groups")
    if is_red(row.outcome, row.gate, "advisory"):
        failure = Failure(row.outcome.value)
        failure.text = _text(verdict_text.render_group(row))
        entry.result = [failure]
    return entry


def _properties(row: Verdict) -> dict[str, str]:
    """What a machine reads: six digits, without thousands separators."""
    fields = {
        "outcome": row.outcome.value,
        "gate": row.gate,
        "experiment": row.experiment,
        "unit": row.unit,
    }
    if row.cause:
        fields["cause"] = row.cause
    if row.screen is not None:
        fields["reference"] = row.reference
        fields["screened"] = row.screen.outcome.value
    for name in _NUMBERS:
        value = getattr(row, name)
        if value is not None:
            fields[name] = f"{value:.6g}"
    return fields
