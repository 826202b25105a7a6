"""Export of a run for pytest-benchmark.

Its own `compare` reads it, and the services that follow benchmarks over time do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from perfgate.cases import Case
from perfgate.judge.observation import Observation, RunReader
from perfgate.load.metrics import METRICS
from perfgate.results.schema import RunResults

PER_UNIT = {"tok/s": "s per token", "req/s": "s per request"}


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
