"""Baseline store: whose noise table counts, and what a table is learned from."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import msgspec
import pytest

from perfgate.judge import noise_learning, noise_table
from perfgate.judge.baseline_schema import Provenance, to_text
from perfgate.judge.baseline_store import Store
from perfgate.judge.noise import MachinesLaunches
from perfgate.judge.noise_table import (
    BadNoiseTable,
    GroupNoise,
    NoiseTable,
    Spread,
)
from perfgate.judge.policy import GPU_RATE
from perfgate.results.samples import Sample
from tests.support import builders as m
from tests.support.baseline_files import STEADY, published_file, recorded_file

NAME = "gpu/output_throughput/closed"


def table_of(cv):
    """A table with the throughput of closed loads on GPUs."""
    group = GroupNoise(
        launches=Spread(cv=cv, degrees_of_freedom=12.0),
        machines=Spread(cv=10 * cv, degrees_of_freedom=4.0),
        series=5,
    )
    return NoiseTable(learned="2026-11-28", launches=30, groups={NAME: group})


@pytest.fixture
def folders(tmp_path):
    """Folders of the store, of the one behind it, and of the shipped table."""
    names = ("own", "behind", "shipped")
    for name in names:
        (tmp_path / name).mkdir()
    return [tmp_path / name for name in names]


@pytest.mark.parametrize(
    ("present", "expected"),
    [((0, 1, 2), 0.01), ((1, 2), 0.02), ((2,), 0.03), ((), None)],
    ids=["own", "behind", "shipped", "none"],
)
def test_the_nearest_noise_table_counts(folders, present, expected):
    """That of the store, else of the store behind, else the shipped one."""
    for place in present:
        table = table_of(0.01 * (place + 1))
        noise_table.write(folders[place] / noise_table.FILE, table)

    found = Store(*folders).noise_table

    assert expected == (found and found.groups[NAME].launches.cv)


def test_what_a_table_does_not_know_the_next_one_tells(folders):
    """A young store that learned its own noise keeps what is shipped."""
    own, _, shipped = folders
    bare = NoiseTable(learned="2026-11-28", launches=0, groups={})
    shift = "gpu/throughput/shift"
    groups = {**table_of(0.03).groups, shift: table_of(0.02).groups[NAME]}
    full = msgspec.structs.replace(bare, groups=groups)
    noise_table.write(own / noise_table.FILE, bare)
    noise_table.write(shipped / noise_table.FILE, full)
    store = Store(*folders)

    assert groups[NAME] == store.group(m.THROUGHPUT, "h200x2")
    assert groups[shift] == store.contrast_group(
        "h200x2", "shift", "throughput"
    )
    assert None is store.group(m.ITL, "h200x2")


def test_a_recorded_baseline_has_the_noise_of_its_group(folders):
    """Its launches count beside it."""
    own, behind, shipped = folders
    noise_table.write(shipped / noise_table.FILE, table_of(0.01))
    store = Store(own, behind, shipped)
    store.write(store.path(m.THROUGHPUT, "h200x2"), recorded_file())

    found = store.find(m.THROUGHPUT, "h200x2")

    assert table_of(0.01).groups[NAME] == found.group
    # Six launches of six runs: 5 degrees of freedom.
    assert 17.0 == found.noise(GPU_RATE).degrees_of_freedom


def test_a_baseline_of_the_store_behind_is_judged_by_its_own_table(folders):
    """It knows no other one."""
    own, behind, _ = folders
    noise_table.write(own / noise_table.FILE, table_of(0.01))
    noise_table.write(behind / noise_table.FILE, table_of(0.02))
    other = Store(behind)
    other.write(other.path(m.THROUGHPUT, "h200x2"), recorded_file())

    found = Store(own, behind).find(m.THROUGHPUT, "h200x2")

    assert 0.02 == found.group.launches.cv


def test_without_a_table_no_group_is_known(folders):
    """Nor for a metric that the table does not have."""
    assert Store(folders[0]).group(m.THROUGHPUT, "h200x2") is None
    noise_table.write(folders[0] / noise_table.FILE, table_of(0.01))
    store = Store(folders[0])
    assert store.group(m.TTFT, "h200x2") is None


def test_a_broken_table_is_named_when_it_is_asked_for(folders):
    """A baseline is not judged as if there were none."""
    (folders[0] / noise_table.FILE).write_text("{}")
    store = Store(folders[0])
    store.write(store.path(m.THROUGHPUT, "h200x2"), recorded_file())

    with pytest.raises(BadNoiseTable, match=r"noise\.json"):
        store.find(m.THROUGHPUT, "h200x2")


def test_machines_that_count_once_have_the_noise_between_machines(folders):
    """It does not average out over the launches of a session; what they have of their own does.

    The means of six launches have a sixth of the 1 % that launches vary by.
    """
    noise_table.write(folders[0] / noise_table.FILE, table_of(0.01))
    store = Store(folders[0])
    store.write(store.path(m.THROUGHPUT, "h200x2"), recorded_file())
    found = store.find(m.THROUGHPUT, "h200x2")
    machines = msgspec.structs.replace(
        found.metric, launches=found.metric.launches[:1]
    )

    within = MachinesLaunches(variation=None, in_means=1 / 6)
    noise = dataclasses.replace(
        found, metric=machines, machines_launches=within
    ).noise(GPU_RATE)

    assert (0.1, 4.0) == (pytest.approx(noise.sigma), noise.degrees_of_freedom)
    for launches in (1, 3):
        of_now = 1 / 2 - 1 / 6 + 1 / 2 / launches
        variance = 2 * 0.1**2 + of_now * 0.01**2
        assert noise.error(launches) == pytest.approx(math.sqrt(variance))


def recorded_on(machines):
    """A file whose runs were on these machines, in order."""
    metric = m.recorded(m.THROUGHPUT, STEADY).metric
    entries = []
    for number, machine in enumerate(machines):
        entry = Provenance(
            run=f"run-{number:02}",
            accepted="2026-06-01",
            suite_version="0.1.0",
            metrics=("output_throughput",),
            machine=machine,
        )
        entries.append(entry)
    file = recorded_file({"output_throughput": metric})
    return msgspec.structs.replace(
        file, provenance=tuple(entries), arrivals="closed"
    )


def test_series_has_the_logarithms_of_each_machine(tmp_path):
    """In order of time; a run whose machine nobody noted has none."""
    store = Store(tmp_path)
    machines = ("gpu-a", "gpu-b", "gpu-a", "gpu-b", None, "gpu-a")
    store.write(store.path(m.THROUGHPUT, "h200x2"), recorded_on(machines))

    rows = list(store.series())

    expected = {}
    for machine, value in zip(machines, STEADY, strict=True):
        expected.setdefault(machine, []).append(math.log(value))
    assert 1 == len(rows)
    logs = {name: found.logs for name, found in rows[0].machines.items()}
    assert expected == logs
    assert ("several-gpus", "output_throughput", "closed", False) == (
        rows[0].platform,
        rows[0].metric,
        rows[0].arrivals,
        rows[0].is_ratio,
    )


def test_series_tells_ratios_from_values(tmp_path):
    """By the folder of the file."""
    store = Store(tmp_path)
    for case in (m.THROUGHPUT, m.RATIO):
        metric = m.recorded(case, STEADY).metric
        file = recorded_file({case.metric: metric})
        store.write(store.path(case, "h200x2"), file)

    rows = store.series()

    assert [False, True] == sorted(row.is_ratio for row in rows)


def test_series_leaves_out_figures_of_others(tmp_path):
    """And the noise table itself, and what the store behind has."""
    store = Store(tmp_path / "own", tmp_path / "behind")
    path = store.published_path(m.THROUGHPUT, "h200x2")
    path.parent.mkdir(parents=True)
    path.write_text(to_text(published_file()))
    noise_table.write(store.root / noise_table.FILE, table_of(0.01))
    other = Store(tmp_path / "behind")
    other.write(other.path(m.THROUGHPUT, "h200x2"), recorded_file())

    assert [] == list(store.series())


def test_launches_without_a_value_tell_no_noise(tmp_path):
    """They have no logarithm."""
    samples = (
        Sample(run="run-00", launch=0, value=1000.0),
        Sample(run="run-00", launch=1, value=None),
    )
    metric = m.recorded(m.THROUGHPUT, STEADY).metric
    metric = msgspec.structs.replace(metric, launches=samples)
    store = Store(tmp_path)
    file = recorded_file({"output_throughput": metric})
    path = store.path(m.THROUGHPUT, "h200x2")
    store.write(path, file)

    (row,) = store.series()

    (launches,) = row.machines.values()
    assert [math.log(1000.0)] == launches.logs
    assert ["run-00"] == launches.runs


def test_the_shipped_baselines_tell_the_shipped_table():
    """Learned anew it is the same, but for the last digits of a fit."""
    root = Path(__file__).resolve().parents[3] / "baselines"
    store = Store(root)
    shipped = store.noise_table

    anew = noise_learning.learn(store.series(), shipped.learned)

    assert shipped.launches == anew.launches
    assert set(shipped.groups) == set(anew.groups)
    for name, group in shipped.groups.items():
        assert group.series == anew.groups[name].series
        cv = anew.groups[name].launches.cv
        assert group.launches.cv == pytest.approx(cv, rel=0.02), name


def test_rows_together_are_those_of_each_machine(tmp_path):
    """As single rows: what machines differ by is no noise of their launches."""
    store = Store(tmp_path)
    machines = ("gpu-a", "gpu-b", "gpu-a", "gpu-b", "gpu-a", "gpu-a")
    for streams in (2, 4, 8, 16):
        workload = m.Workload(
            name=f"batch-{streams}",
            num_prompts=8 * streams,
            max_concurrency=streams,
        )
        load = msgspec.structs.replace(m.MOE_LOAD, workload=workload)
        case = msgspec.structs.replace(m.THROUGHPUT, numerator=load)
        store.write(store.path(case, "h200x2"), recorded_on(machines))

    rows = [row for row in store.series() if row.contrast is not None]

    assert ["shift", *["outlier"] * 4] == [row.contrast for row in rows]
    assert [["gpu-a", "gpu-b"]] * 5 == [sorted(row.machines) for row in rows]
