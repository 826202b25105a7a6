"""Baseline store: lookup by path, and recordings that do not conflict."""

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from perfgate.judge.baseline_schema import BaselineError, read_recorded, to_text
from perfgate.judge.baseline_store import Published, Recorded, Store
from perfgate.judge.gate import judge_case
from perfgate.judge.verdict import Outcome
from tests.support import builders as m
from tests.support.baseline_files import STEADY, published_file, recorded_file


def test_paths():
    """One folder for hardware, one for the server or pair, one file for the workload or pair."""
    store = Store(Path("baselines"))
    assert "baselines/h200x2/vllm-mixtral-8x7b-tp2/closed-c32.json" == str(
        store.path(m.THROUGHPUT, "h200x2")
    )
    assert (
        "baselines/published/h200x2/vllm-llama-3.1-8b-tp2--over--vllm-mixtral-8x7b-tp2/closed-c32.json"
        == str(store.published_path(m.RATIO, "h200x2"))
    )


def test_recorded_goes_before_published(tmp_path):
    """With both, the recorded baseline judges; a metric only in the published file has that one."""
    store = Store(tmp_path)
    path = store.published_path(m.THROUGHPUT, "h200x2")
    path.parent.mkdir(parents=True)
    path.write_text(to_text(published_file()))
    assert isinstance(store.find(m.THROUGHPUT, "h200x2"), Published)
    store.write(store.path(m.THROUGHPUT, "h200x2"), recorded_file())
    assert isinstance(store.find(m.THROUGHPUT, "h200x2"), Recorded)
    assert store.find(m.ITL, "h200x2") is None
    assert store.find(m.THROUGHPUT, "h100x2") is None


def test_a_linked_file_is_written_where_it_lies(tmp_path):
    """Another store that links to the same file reads what was accepted."""
    store = Store(tmp_path / "store")
    path = store.path(m.THROUGHPUT, "h200x2")
    path.parent.mkdir(parents=True)
    shared = tmp_path / "shared.json"
    shared.write_text("")
    path.symlink_to(shared)

    store.write(path, recorded_file())

    assert path.is_symlink()
    assert to_text(recorded_file()) == shared.read_text()


def test_another_routing_has_baselines_of_its_own(tmp_path):
    """Those of the model's routers do not judge it, and the verdict says which they are."""
    store = Store(tmp_path)
    path = store.path(m.THROUGHPUT, "h200x2")
    store.write(path, recorded_file())
    server = msgspec.structs.replace(
        m.MOE, load_format="dummy", stated_routing="uniform"
    )
    load = msgspec.structs.replace(m.MOE_LOAD, server=server)
    case = msgspec.structs.replace(m.THROUGHPUT, numerator=load)
    results = m.run({load: {"output_throughput": [1000.0]}}, [case])

    verdict = judge_case(results, case, store)

    assert Outcome.NO_BASELINE == verdict.outcome
    assert any(
        str(path) in line and "(uniform), so it does not apply" in line
        for line in verdict.details
    )
    assert case.routed_by_model.id == m.THROUGHPUT.id


def test_recorded_ids_find_what_nobody_asks_for(tmp_path):
    """Ids of everything recorded for a kind of hardware, to compare with a run's cases."""
    store = Store(tmp_path)
    store.write(store.path(m.THROUGHPUT, "h200x2"), recorded_file())
    assert {m.THROUGHPUT.id} == store.recorded_ids("h200x2")
    assert set() == store.recorded_ids("h100x2")


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git on PATH")
def test_two_people_who_record_different_things_do_not_collide(tmp_path):
    """Two branches that change different metrics, and add different files, merge cleanly."""

    def git(*args):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *args],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            timeout=60,
        )

    def write(path, run, throughput, itl):
        metrics = {
            "output_throughput": m.recorded(m.THROUGHPUT, throughput).metric,
            "itl_median_ms": m.recorded(m.ITL, itl).metric,
        }
        file = msgspec.structs.replace(recorded_file(metrics))
        (tmp_path / path).write_text(to_text(file))

    git("init", "-q", "-b", "main")
    write("a.json", "run-00", STEADY, STEADY)
    git("add", ".")
    git("commit", "-qm", "base")
    git("checkout", "-qb", "one")
    write("a.json", "run-00", [*STEADY, 1002.0], STEADY)
    write("b.json", "run-00", STEADY, STEADY)
    git("add", ".")
    git("commit", "-qm", "one")
    git("checkout", "-q", "main")
    write("a.json", "run-00", STEADY, [*STEADY, 1002.0])
    write("c.json", "run-00", STEADY, STEADY)
    git("add", ".")
    git("commit", "-qm", "two")
    git("merge", "-q", "one", "-m", "both")
    merged = read_recorded(tmp_path / "a.json")
    assert [7, 7] == [
        len(metric.launches) for metric in merged.metrics.values()
    ]


@pytest.mark.parametrize("damage", ["text", "dangling link"])
def test_a_broken_file_fails_each_case_that_asks_it(tmp_path, damage):
    """The second one as the first: it never counts as a file that is not there."""
    store = Store(tmp_path)
    path = store.path(m.THROUGHPUT, "h200x2")
    path.parent.mkdir(parents=True)
    if damage == "text":
        path.write_text("<<<<<<< HEAD")
    else:
        path.symlink_to("nowhere.json")

    for _ in range(2):
        with pytest.raises(BaselineError, match="closed-c32"):
            store.find(m.THROUGHPUT, "h200x2")


def test_a_run_is_left_out_of_the_store_behind_too(tmp_path):
    """A run that was accepted is not held against itself, wherever that is shipped."""
    own, behind = tmp_path / "own", tmp_path / "behind"
    Store(behind).write(
        Store(behind).path(m.THROUGHPUT, "h200x2"),
        recorded_file(
            {"output_throughput": m.recorded(m.THROUGHPUT, STEADY).metric}
        ),
    )
    store = Store(own, behind)
    found = store.find(m.THROUGHPUT, "h200x2")

    left = store.without_run("run-00").find(m.THROUGHPUT, "h200x2")

    assert (6, 5) == (len(found.metric.launches), len(left.metric.launches))
    assert "run-00" not in {launch.run for launch in left.metric.launches}


def test_a_file_of_one_run_alone_has_nothing_without_it(tmp_path):
    """As if it had not been recorded."""
    store = Store(tmp_path)
    metric = m.recorded(m.THROUGHPUT, [1000.0]).metric
    file = recorded_file({"output_throughput": metric})
    store.write(store.path(m.THROUGHPUT, "h200x2"), file)

    assert set() == store.without_run("run-00").recorded_ids("h200x2")
