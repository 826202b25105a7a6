"""Exports of a run for other tools: JUnit XML and a pytest-benchmark file.

JUnit XML with one case for each server, workload and metric, and the file of
pytest-benchmark, which its `compare` and the services that follow benchmarks over time
read.
"""

from __future__ import annotations

import json
from typing import Any

from perfgate.cases import Case
from perfgate.foreign_text import printable
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import GREEN, Verdict, is_red
from perfgate.load.metrics import METRICS
from perfgate.report import diagnosis_text, verdict_text
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
PER_UNIT = {"tok/s": "s per token", "req/s": "s per request"}


def junit(results: RunResults) -> str:
    """JUnit XML: a suite for each server or pair, a case for each workload and metric.

    The numbers of a verdict are properties of its case.
    """
    from junitparser import JUnitXml, TestSuite

    cases = {case.id: case for case in results.cases}
    suites: dict[str, Any] = {}
    for row in results.verdicts:
        case = cases[row.case]
        suite = suites.setdefault(case.subject, TestSuite(case.subject))
        suite.add_testcase(_junit_case(case, row, results.gate))
    if results.group_verdicts:
        suites["groups of rows"] = suite = TestSuite("groups of rows")
        for group in results.group_verdicts:
            suite.add_testcase(_junit_group(group))
    if results.diagnoses:
        suites["causes"] = suite = TestSuite("causes")
        for diagnosis in results.diagnoses:
            suite.add_testcase(_junit_diagnosis(results, diagnosis))
    whole = JUnitXml("perfgate")
    for suite in suites.values():
        suite.timestamp = results.started
        whole.add_testsuite(suite)
    whole.update_statistics()
    # A stored run may hold what a server sent: XML has no control characters at all.
    return printable(bytes(whole.tostring()).decode(errors="replace"))


def _junit_diagnosis(results: RunResults, row: Diagnosis) -> Any:
    """A cause as a case that passes: the rows that it explains have failed."""
    from junitparser import TestCase

    name = f"{row.cause}, {', '.join(row.servers)}"
    entry = TestCase(name, classname="perfgate.causes")
    entry.system_out = diagnosis_text.render(results, row)
    return entry


def _junit_case(case: Case, row: Verdict, gate: Gate) -> Any:
    from junitparser import Failure, Properties, Property, Skipped, TestCase

    name = f"{case.workload}/{case.metric}"
    entry = TestCase(name, classname=f"perfgate.{case.subject}")
    properties = Properties()
    for field, text in _properties(row).items():
        properties.add_property(Property(field, printable(text)))
    entry.append(properties)
    result = None
    if is_red(row.outcome, row.gate, gate):
        result = Failure(row.outcome.value)
    elif row.outcome not in GREEN and row.gate == "hard":
        result = Skipped(row.outcome.value)
    if result is not None:
        result.text = printable(verdict_text.render(row))
        entry.result = [result]
    return entry


def _junit_group(row: GroupVerdict) -> Any:
    from junitparser import Failure, TestCase

    name = verdict_text.group_heading(row)
    entry = TestCase(name, classname="perfgate.groups")
    if is_red(row.outcome, row.gate, "advisory"):
        failure = Failure(row.outcome.value)
        failure.text = printable(verdict_text.render_group(row))
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


def pytest_benchmark(results: RunResults) -> str:
    """A file of pytest-benchmark: a benchmark a case, a round a launch, a group a metric.

    There everything is time and less is better: latencies are in seconds, rates become
    seconds per token or request (their unit is in extra_info). Ratios, memory and other
    values without a time stay as they are.
    """
    from importlib.metadata import version

    reader = RunReader(results)
    benchmarks = []
    for case in results.cases:
        values = reader.observe(case).values
        if values:
            benchmarks.append(_benchmark(case, values))
    machine = results.hardware
    content = {
        "machine_info": {
            "node": machine.description,
            "machine": machine.kind,
            "processor": machine.name,
            "python_version": "",
            "python_implementation": "",
            "system": "Linux",
            "cpu": {"brand_raw": machine.name, "count": machine.count},
        },
        "commit_info": {
            "id": results.run_id,
            "time": results.started,
            "dirty": False,
            "branch": "",
            "project": "perfgate",
        },
        "benchmarks": benchmarks,
        "datetime": results.started,
        "version": version("pytest-benchmark"),
    }
    return json.dumps(content, indent=1) + "\n"


def _benchmark(case: Case, values: list[float]) -> dict[str, Any]:
    from pytest_benchmark.stats import Stats

    unit = "ratio"
    if case.denominator is None:
        unit = METRICS[case.metric].unit or unit
    stats = Stats()
    for value in values:
        stats.update(_seconds(value, unit))
    exported_unit = "s" if unit == "ms" else PER_UNIT.get(unit, unit)
    return {
        "group": case.metric,
        "name": case.id,
        "fullname": case.id,
        "params": None,
        "param": None,
        "extra_info": {
            "unit": exported_unit,
            "experiment": case.experiment,
            "launches": values,
            "launches_unit": unit,
        },
        "options": {
            "disable_gc": False,
            "timer": "perf_counter",
            "min_rounds": 1,
            "max_time": 0.0,
            "min_time": 0.0,
            "warmup": False,
        },
        "stats": stats.as_dict() | {"data": list(stats.data), "iterations": 1},
    }


def _seconds(value: float, unit: str) -> float:
    """A latency in seconds, a rate as seconds per unit, anything else as it is."""
    if unit == "ms":
        return value / 1000
    if unit in PER_UNIT:
        return 1 / value
    return value
