"""Compared: engine, machine and day of a run, of other runs, of the baselines."""

import msgspec
import pytest

from perfgate.judge.baseline_store import Store
from perfgate.report import compared
from perfgate.report.notices import SHORT_COMMIT
from perfgate.results import schema
from tests.support import builders as m
from tests.support.goldens import ROOT


@pytest.fixture(scope="module")
def recorded():
    """A stored run of one H200, and the baselines of the repository."""
    run = schema.load(ROOT / "docs/runs/h200x1-planted/eager/01")
    return run, Store(ROOT / "baselines")


def test_a_run_stands_beside_its_baselines(recorded):
    """Both name engine and version, and the baselines their days and number of runs."""
    run, store = recorded
    this, baseline = compared.sides([run], store)

    assert ("this run", "baseline") == (this.name, baseline.name)
    assert "vllm 0.26.0" == this.facts["engine"] == baseline.facts["engine"]
    assert "25 Nov 2026" == this.facts["measured"]
    assert "arguments --enforce-eager" == this.facts["injected"]
    assert baseline.facts["from"].startswith("launches of ")


def test_a_machine_without_baselines_says_so(recorded, tmp_path):
    """The column of the baselines is there, and says that there is none."""
    run, _ = recorded
    (_, baseline) = compared.sides([run], Store(tmp_path))

    assert {"engine": "none recorded on this machine"} == baseline.facts


def test_pairs_name_the_base_build():
    """Of pairs both builds are sides, and no baseline is."""
    run = schema.load(ROOT / "docs/runs/h100x1-pairs/delay")
    names = [side.name for side in compared.sides([run], None)]

    assert ["this run", "base build"] == names


def test_other_runs_have_letters():
    """Of three runs the last one is this run."""
    names = [compared.run_name(number, 3) for number in range(3)]

    assert ["run A", "run B", "this run"] == names


def test_the_commit_of_an_engine_is_shown():
    """Where its environment has one, in its first characters."""
    load = m.MOE_LOAD
    run = m.run({load: {"output_throughput": [1.0]}}, [m.THROUGHPUT])
    server = run.servers[load.server.key]
    environment = {"vllm commit": "0123456789abcdef"}
    run = msgspec.structs.replace(
        run, environments={server.python: environment}
    )
    (side,) = compared.sides([run], None)

    assert "0123456789abcdef"[:SHORT_COMMIT] == side.facts["commit"]


def test_facts_of_one_side_leave_a_dash():
    """A table has a cell for each side."""
    sides = [compared.Side("a", {"engine": "x"}), compared.Side("b", {})]

    assert [("engine", "x", "-")] == compared.table(sides)


def test_more_runs_than_letters_have_names():
    """Of two letters, as columns of a spreadsheet."""
    names = [compared.run_name(number, 60) for number in (25, 26, 52, 59)]

    assert ["run Z", "run AA", "run BA", "this run"] == names
