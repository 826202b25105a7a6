"""In which forms do other tools read a run?

JUnit XML with one case for each server, workload and metric, and the file of
pytest-benchmark, which its `compare` and the services that follow benchmarks over time
read.
"""

from __future__ import annotations

import json
from typing import Any

from perfgate.cases import Case
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import GREEN, Outcome, is_red
from perfgate.load.metrics import METRICS
from perfgate.results.schema import RunResults, VerdictRow

_FIGURES = (
    "value",
    "baseline",
    "change",
    "worse_by",
    "alarm_line",
    "delta",
    "detectable",
    "noise",
    "launches",
)
PER_UNIT = {"tok/s": "s per token", "req/s": "s per request"}


def junit(results: RunResults) -> str:
    """JUnit XML: a suite for each server or pair, a case for each workload and metric, its figures as properties."""
    from junitparser import (
        Failure,
        JUnitXml,
        Properties,
        Property,
        Skipped,
        TestCase,
        TestSuite,
    )

    cases = {case.id: case for case in results.cases}
    suites: dict[str, Any] = {}
    for row in results.verdicts:
        case = cases[row.case]
        suite = suites.setdefault(case.subject, TestSuite(case.subject))
        entry = TestCase(
            f"{case.workload}/{case.metric}", classname=f"perfgate.{case.subject}"
        )
        properties = Properties()
        for name, value in _figures(case, row).items():
            properties.add_property(Property(name, value))
        entry.append(properties)
        if is_red(
            Outcome(row.outcome),
            "hard" if row.gate == "hard" else "report",
            results.gate == "required",
        ):
            entry.result = [_told(Failure(row.outcome), row)]
        elif row.outcome not in GREEN and row.gate == "hard":
            entry.result = [_told(Skipped(row.outcome), row)]
        suite.add_testcase(entry)
    whole = JUnitXml("perfgate")
    for name in suites:
        suites[name].timestamp = results.started
        whole.add_testsuite(suites[name])
    whole.update_statistics()
    return bytes(whole.tostring()).decode()


def _told(result: Any, row: VerdictRow) -> Any:
    result.text = row.message
    return result


def _figures(case: Case, row: VerdictRow) -> dict[str, str]:
    fields = {"outcome": row.outcome, "gate": row.gate, "experiment": row.experiment}
    fields["unit"] = "" if case.over is not None else METRICS[case.metric].unit
    return fields | {
        name: f"{value:.6g}"
        for name in _FIGURES
        if (value := getattr(row, name)) is not None
    }


def pytest_benchmark(results: RunResults) -> str:
    """The run as a file of pytest-benchmark: a benchmark a case, a round a launch, a group a metric.

    There all is time and less is better: latencies are in seconds, rates become seconds
    per token or request (their unit is in extra_info). Ratios, memory and what else has
    no time stand as they are.
    """
    from importlib.metadata import version

    reader = RunReader(results)
    benchmarks = [
        _benchmark(case, values)
        for case in results.cases
        if (values := reader.observe(case).values)
    ]
    machine = results.hardware
    return (
        json.dumps(
            {
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
            },
            indent=1,
        )
        + "\n"
    )


def _benchmark(case: Case, values: list[float]) -> dict[str, Any]:
    from pytest_benchmark.stats import Stats

    unit = "" if case.over is not None else METRICS[case.metric].unit
    stats = Stats()
    for value in values:
        stats.update(
            {"ms": value / 1000, "tok/s": 1 / value, "req/s": 1 / value}.get(
                unit, value
            )
        )
    shown = "s" if unit == "ms" else PER_UNIT.get(unit, unit or "ratio")
    return {
        "group": case.metric,
        "name": case.id,
        "fullname": case.id,
        "params": None,
        "param": None,
        "extra_info": {
            "unit": shown,
            "experiment": case.experiment,
            "launches": values,
            "launches_unit": unit or "ratio",
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
