"""Runs of servers with several loads, and stores that recorded some of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from perfgate.accept import accept as recording
from perfgate.accept.choice import Choice
from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.judge import joint, noise_table
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge_run
from perfgate.judge.noise_table import GroupNoise, NoiseTable, Spread
from perfgate.judge.observation import RunReader
from perfgate.load.workload import Workload
from perfgate.results import schema as rundata
from perfgate.results.schema import RunResults
from tests.support import builders as m

WORKLOADS = [
    Workload(name=f"batch-{n}", num_prompts=8 * n, max_concurrency=n)
    for n in (2, 4, 8, 16)
]
ITL_MS = 10.0
# One launch against one: a row's threshold is 7.8 %, that of their mean 1.6 %.
FREEDOM = 20.0
ROW_CV, SHIFT_CV, OUTLIER_CV = 0.015, 0.0025, 0.004
NOISE = {
    "gpu/itl": ROW_CV,
    "gpu/decode_speed/shift": SHIFT_CV,
    "gpu/itl/outlier": OUTLIER_CV,
}


def run(
    losses: Mapping[ServerConfig, list[float]], day: int = 1, **how: object
) -> RunResults:
    """A run whose loads have an ITL with these losses, as fractions."""
    values = {}
    cases = []
    for server, row in losses.items():
        for workload, loss in zip(WORKLOADS, row, strict=False):
            load = Load(server=server, workload=workload)
            values[load] = {"itl_median_ms": [ITL_MS * (1 + loss)]}
            cases.append(
                Case(experiment="E1", metric="itl_median_ms", numerator=load)
            )
    return m.run(values, cases, f"202606{day:02}-120000-1", **how)


def store_of(
    folder: Path, *runs: RunResults, noise: Mapping[str, float] = NOISE
) -> Store:
    """A store that accepted these runs, with this noise of groups."""
    store = Store(folder / "baselines")
    folders = []
    for results in runs:
        folders.append(folder / results.run_id)
        rundata.save(results, folders[-1])
    recording.accept(folders, store, Choice(), env={})
    groups = {}
    for name, cv in noise.items():
        spread = Spread(cv=cv, degrees_of_freedom=FREEDOM)
        groups[name] = GroupNoise(launches=spread, series=9)
    table = NoiseTable(learned="2026-06-01", launches=99, groups=groups)
    noise_table.write(store.root / noise_table.FILE, table)
    return Store(store.root)


def judged(results: RunResults, store: Store):
    """Verdicts of the rows, and of these together."""
    rows = judge_run(results, store)
    return rows, list(joint.check(RunReader(results), rows, store))
