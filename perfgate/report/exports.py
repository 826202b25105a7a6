"""Exports of a run for other tools: JUnit XML and a pytest-benchmark file.

JUnit XML with one case for each server, workload and metric, and the file of
pytest-benchmark, which its `compare` and the services that follow benchmarks over time
read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from perfgate.cases import Case
from perfgate.foreign_text import printable
from perfgate.judge.observation import Observation, RunReader
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
    """A file of pytest-benchmark: a benchmark a case, a round a repetition, a group a metric.

    There less is better: what is better when it is higher is written as one over it, a
    rate as seconds per token or request. `extra_info` has the unit of the rounds, the
    value as it was measured, and its direction. A round of a ratio, or of a server
    itself, is a launch.
    """
    from importlib.metadata import version

    reader = RunReader(results)
    commits = _commits(results)
    benchmarks = []
    for case in results.cases:
        observed = reader.observe(case)
        if observed.values:
            rounds = _rounds(reader, case) or observed.values
            benchmarks.append(_benchmark(case, observed, rounds, commits))
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
            "id": _commit_of_run(results, commits),
            "time": results.started,
            "dirty": False,
            "branch": "",
            "project": "perfgate",
            "run": results.run_id,
        },
        "benchmarks": benchmarks,
        "datetime": results.started,
        "version": version("pytest-benchmark"),
    }
    return json.dumps(content, indent=1) + "\n"


def _commits(results: RunResults) -> dict[str, str]:
    """Server -> commit that its engine was built from, where that is known."""
    commits = {}
    for key in results.servers:
        commit = results.commit_of(key)
        if commit:
            commits[key] = commit
    return commits


def _commit_of_run(results: RunResults, commits: Mapping[str, str]) -> str:
    """The commit that the run is about; its id where there is none, or several."""
    judged = set()
    for case in results.cases:
        for load in case.loads:
            judged.add(commits.get(load.server.key, ""))
    if len(judged) == 1:
        return judged.pop() or results.run_id
    return results.run_id


def _rounds(reader: RunReader, case: Case) -> list[float]:
    """Each repetition of a load; none of a ratio, and of what has no load."""
    load = case.numerator
    if case.denominator is not None or load.workload is None:
        return []
    by_launch = reader.index.repetition_values(
        load.server.key, load.workload.name, case.metric
    )
    rounds = []
    for values in by_launch.values():
        # What is not positive is not judged, and has no inverse.
        rounds += [value for value in values if 0 < value < math.inf]
    return rounds


def _benchmark(
    case: Case,
    observed: Observation,
    rounds: Sequence[float],
    commits: Mapping[str, str],
) -> dict[str, Any]:
    from pytest_benchmark.stats import Stats

    metric = METRICS[case.metric]
    is_ratio = case.denominator is not None
    unit = "ratio" if is_ratio else metric.unit or "ratio"
    stats = Stats()
    for value in rounds:
        stats.update(_less_is_better(value, unit, metric.better))
    engines = [commits.get(load.server.key, "") for load in case.loads]
    return {
        "group": f"{case.metric}, ratios" if is_ratio else case.metric,
        "name": case.id,
        "fullname": case.id,
        "params": None,
        "param": None,
        "extra_info": {
            "unit": _exported_unit(unit, metric.better),
            "experiment": case.experiment,
            "value": observed.value,
            "better": metric.better,
            "either_way": is_ratio,
            "launches": observed.values,
            "launches_unit": unit,
            "commits": [commit for commit in engines if commit],
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


def _less_is_better(value: float, unit: str, better: str) -> float:
    """A value so that more of it is worse; a latency in seconds.

    Args:
        value: positive.
    """
    if better == "higher":
        return 1 / value
    if unit == "ms":
        return value / 1000
    return value


def _exported_unit(unit: str, better: str) -> str:
    if unit in PER_UNIT:
        return PER_UNIT[unit]
    if better == "higher":
        return f"1 / ({unit})"
    return "s" if unit == "ms" else unit
