"""Machine scope on real runs: unchanged runs on machines with few or no launches.

No stub: the runs of docs/runs that were made on one GPU, each compared with what
others of its kind, or other runs, recorded. One of them was cut off with its
machine: what is of a launch that was cut off is left out.
"""

import itertools
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.injected_regressions import judged
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.gate import judge
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import ALWAYS_RED, Outcome
from perfgate.report.verdict_text import render
from perfgate.results import schema as rundata

ROOT = Path(__file__).resolve().parents[3]
RUNS = ROOT / "docs" / "runs"
FOLDERS = [
    *sorted(RUNS.glob("h[12]00x1-2*")),
    *sorted((RUNS / "h200x1-planted" / "unchanged").iterdir()),
]


def only(baseline, machines):
    """The baseline with the launches of these machines alone."""
    return baseline.with_launches(
        p
        for p in baseline.metric.launches
        if baseline.machines[p.run] in machines
    )


def judged_elsewhere():
    """Hard verdicts on every run, each vs every choice of other recorded machines."""
    store = Store(ROOT / "baselines")
    for results in map(rundata.load, FOLDERS):
        reader = RunReader(results)
        for case in results.cases:
            seen = reader.observe(case)
            baseline = store.find(case, seen.hardware_label)
            is_recorded = isinstance(baseline, Recorded)
            if not seen.samples or reader.cut_off(case) or not is_recorded:
                continue
            runs = {point.run for point in baseline.metric.launches}
            others = {baseline.machines[run] for run in runs} - {seen.machine}
            for count in range(1, len(others) + 1):
                for some in itertools.combinations(sorted(others), count):
                    verdict = judge(case, seen, only(baseline, some))
                    if verdict.gate == "hard":
                        yield verdict


def test_a_machine_does_not_fail_for_being_another_one():
    """Whichever of the others are recorded.

    One of them decodes a single stream 5 % slower than another.
    """
    verdicts = list(judged_elsewhere())
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    latencies = [row.worse_by for row in verdicts if "itl" in row.metric]

    assert outcomes[Outcome.PASSED] > 500
    assert set(outcomes).isdisjoint(ALWAYS_RED | {Outcome.INCOMPARABLE})
    assert max(latencies) == pytest.approx(0.052, abs=0.005)


def test_an_unchanged_run_never_fails_vs_the_rest():
    """Also where its machine had recorded one launch at most, and others lend their variation.

    Only a TTFT, a value close to the ceiling, or a side of a ratio leaves a loss open.
    """
    store, said, narrow = Store(ROOT / "baselines"), Counter(), 0
    for results in map(rundata.load, FOLDERS):
        cut_off = RunReader(results).cut_off
        rows = [
            row
            for row in judged(results, store)
            if row.verdict.gate == "hard" and not cut_off(row.case)
        ]
        said.update(row.verdict.outcome for row in rows)
        narrow += sum(
            "Launch-to-launch variation is pooled with " in render(row.verdict)
            for row in rows
        )

    assert said[Outcome.PASSED] > 150
    assert narrow > 50
    assert set(said).isdisjoint(ALWAYS_RED | {Outcome.INCOMPARABLE})
    assert said[Outcome.NOT_EXCLUDED] < 0.18 * said[Outcome.PASSED]
