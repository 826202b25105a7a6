"""Duels: both builds of a held engine alive at once, judged without a baseline.

Whole runs of pytest in a project of their own, with fake engines in place of real ones.
"""

import sys
from collections import Counter

import pytest

from perfgate.report.verdict_text import render
from perfgate.results.schema import load
from tests.support.projects import outcomes, perfgate, verdicts

pytest_plugins = ["pytester"]
AGAINST = ("--against-engine", f"fake={sys.executable}", "--pairs", "suspect")
RUN = ("-m", "cpu", "-k", "test_time_of_a_batch", "--run-dir", "mine")


@pytest.fixture(autouse=True)
def held(monkeypatch):
    """The fake engine can be held in one process."""
    monkeypatch.setenv("FAKE_HELD_ON", "cpu")


def test_equal_builds_pass_and_a_slower_model_alone_fails(project, pytester):
    """No baseline is needed; a delay in one model fails its batches and no others.

    The verdicts are decided again from the data, and a resumed run measures nothing more.
    """
    same = project(*RUN, *AGAINST)
    slowed = project(
        *RUN[:-1], "slowed", *AGAINST, "--inject-delay", "llama-tiny=0.1"
    )

    assert (0, {"passed": 8}) == (same.ret, outcomes(same)), same.stdout.str()
    assert (1, {"failed": 4, "passed": 4}) == (slowed.ret, outcomes(slowed)), (
        slowed.stdout.str()
    )
    assert {"PASSED"} == set(verdicts(pytester.path / "mine").values())
    for case, outcome in verdicts(pytester.path / "slowed").items():
        assert ("REGRESSED" if "llama-tiny" in case else "PASSED") == outcome
    # The slower model has two launches more of each build; so has nobody else.
    launched = Counter(
        row.server for row in load(pytester.path / "slowed").launches
    )
    for server, count in launched.items():
        assert (4 if "llama-tiny" in server else 2) == count
    groups = {"llama-tiny": set(), "mixtral-tiny": set()}
    for row in load(pytester.path / "slowed").measurements:
        group = row.repetitions[0].client_values["group_unix_s"]
        groups[row.server.removeprefix("fake-").partition("-tp1")[0]].add(group)
    assert (2, 1) == tuple(len(found) for found in groups.values())
    results = load(pytester.path / "mine")
    row = results.verdicts[0]
    assert "asked in turns" in render(row)
    assert "Base and candidate are the same build" in render(row)
    assert 8 == len(results.launches)
    judged = perfgate(pytester, "judge", "slowed")
    assert "REGRESSED" in judged.stdout.str()
    again = project(*RUN, *AGAINST, "--resume")
    assert (0, {"passed": 8}) == (again.ret, outcomes(again))
    assert 8 == len(load(pytester.path / "mine").launches)


def test_nothing_of_a_duel_becomes_a_baseline(project, pytester):
    """Its base build decides it: accept finds no measured case."""
    project(*RUN, *AGAINST)

    refused = perfgate(pytester, "accept", "mine")

    assert "they contain no measured case" in refused.stderr.str()


def test_an_engine_that_dies_fails_its_cases(project, pytester, monkeypatch):
    """The message names the launch and how it ended; the other model is still judged."""
    monkeypatch.setenv(
        "FAKE_MISBEHAVIOUR", "llama-tiny-candidate: --die-at-batch 9"
    )

    result = project(*RUN, *AGAINST)

    assert {"failed": 4, "passed": 4} == outcomes(result), result.stdout.str()
    assert "exited with status 3" in result.stdout.str()
    results = load(pytester.path / "mine")
    assert [] == [
        launch.server
        for launch in results.launches
        if launch.start.stop is None
    ]
    # Twice four of the one that dies, and four of the other model.
    assert 12 == len(results.launches)
    assert 1 == result.stdout.str().count("launching all of them again")
    assert () == results.cut_off


def test_an_engine_that_dies_once_is_launched_again(
    project, pytester, monkeypatch
):
    """With the other launches of its duel: those that ended with it measured nothing."""
    once = f"--die-at-batch 9 --die-once {pytester.path / 'died'}"
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", f"llama-tiny-candidate: {once}")

    result = project(*RUN, *AGAINST)

    assert (0, {"passed": 8}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    result.stdout.fnmatch_lines(["*status 3*launching all of them again*"])
    results = load(pytester.path / "mine")
    assert results.is_whole
    assert {} == results.failures
    assert 12 == len(results.launches)
    lost = [row for row in results.measurements if row.failure is not None]
    assert {0, 1} == {row.launch for row in lost}
    others = [
        row for row in lost if row.failure.seen.startswith("ended, because")
    ]
    assert 3 * len(lost) == 4 * len(others)
    judged = perfgate(pytester, "judge", "mine")
    assert 0 == judged.ret, judged.stdout.str()
    again = project(*RUN, *AGAINST, "--resume")
    assert (0, {"passed": 8}) == (again.ret, outcomes(again))
    assert 8 == len(load(pytester.path / "mine").launches)


def test_without_a_base_build_the_cases_are_skipped(project):
    """The reason says how to get one."""
    result = project(*RUN, "-rs")

    assert {"skipped": 8} == outcomes(result), result.stdout.str()
    assert "needs a base build of fake" in result.stdout.str()


def test_the_plan_counts_both_builds(project):
    """Two launches of each build of each model; no baseline is missing for them."""
    result = project(*RUN[:4], *AGAINST, "--plan")

    assert "At most 8 launches" in result.stdout.str()
    assert "No baseline here" not in result.stdout.str()


HELD_ON_GPUS = """
like = "shipped"
[platforms.h200]
like = "gpu"
about = "H200s that hold their models"
gpu = "h200"
[platforms.h200.held]
workloads = "held"
counted = false
"""


def test_launches_share_a_gpu_where_they_fit(project, pytester, monkeypatch):
    """Four of the dense model; the sparse one is skipped, and its work is not counted."""
    monkeypatch.setenv("FAKE_HELD_ON", "cpu cuda")
    monkeypatch.setenv("FAKE_GPUS", "1")
    (pytester.path / "held.toml").write_text(HELD_ON_GPUS)
    asked = ("-m", "h200", "--tp", "1", "--study", "held.toml", "-rs")
    builds = (*asked, "-k", "test_builds or test_work_of", "--run-dir", "mine")

    result = project(*builds, *AGAINST)
    slowed = project(
        *builds[:-1], "slowed", *AGAINST, "--inject-delay", "llama-3.1-8b=1"
    )

    assert {"passed": 2, "skipped": 2} == outcomes(result), result.stdout.str()
    result.stdout.fnmatch_lines(["*4 launches that are alive at once*"])
    results = load(pytester.path / "mine")
    assert {"batch_active_ms"} == {row.metric for row in results.verdicts}
    assert 4 == len(results.launches)
    assert {"0"} == {
        row.start.env["CUDA_VISIBLE_DEVICES"] for row in results.launches
    }
    assert {"failed": 2, "skipped": 2} == outcomes(slowed)
