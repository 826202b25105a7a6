"""examples/engine-repo: what another team's repository looks like, and that it works."""

from __future__ import annotations

import shutil

import pytest

from perfgate.engines import environment
from perfgate.results.schema import load
from tests.support.projects import ROOT

EXAMPLE = ROOT / "examples" / "engine-repo"
# The fake engine under the name of the study's own, and the speeds of the
# example's models.
FAKE = """
import dataclasses, sys
sys.path.insert(0, {fakes!r})
from tests.support import fake_suite
from perfgate.engines.registry import ENGINES

fake_suite.ITL_S |= {{"chat-sparse": 0.002, "chat-dense": 0.001}}

def pytest_perfgate_engines(config):
    fake_suite.enter()
    return [dataclasses.replace(ENGINES["fake"], name="vllm")]
"""
PAIR = "vllm-chat-sparse-tp2--over--vllm-chat-dense-tp2"
RATIOS = {f"{PAIR}/{workload}/itl_median_ms" for workload in ("alone", "chat")}
CHAT = {
    f"vllm-chat-sparse-tp2/chat/{name}"
    for name in ("itl_median_ms", "slowest_ttft_ms")
}


@pytest.fixture
def repository(tmp_path):
    """A copy of the example."""
    return shutil.copytree(EXAMPLE, tmp_path / "engine-repo")


@pytest.fixture
def faked(installed, repository, tmp_path):
    """Run pytest in it with the fake engine in place of vLLM, outside the checkout."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "fake_engine_plugin.py").write_text(
        FAKE.format(fakes=str(installed.fakes))
    )
    options = (
        "-p",
        "fake_engine_plugin",
        "--engine-python",
        f"vllm={installed.python}",
    )

    def run(*words: str):
        return installed.pytest(
            repository, *options, *words, PYTHONPATH=str(plugins)
        )

    return run


def outcomes(run) -> dict[str, str]:
    """What a run decided of each case, judged or only reported."""
    return {row.case: row.outcome for row in load(run).verdicts}


def test_the_example_is_as_small_as_promised():
    """The project file fits on half a screen, the introduction on one."""
    assert 20 >= len((EXAMPLE / "perfgate.toml").read_text().splitlines())
    assert 30 >= len((EXAMPLE / "README.md").read_text().splitlines())


def test_its_readme_holds(faked, installed, repository):
    """Plan, record, accept, judge, and see a slower server: its commands, with a smaller delay."""
    plain = faked("--perf-report", "no")
    plan = faked("-m", "cpu", "--plan")
    first = faked("-m", "cpu", "--baseline-record", "--run-dir=perf/runs/first")
    accepted = installed.perfgate(repository, "accept", "perf/runs/first")
    again = faked(
        "-m", "cpu", "--perf-report", "no", "--run-dir=perf/runs/again"
    )
    slow = ("--inject-delay", "chat-sparse=5", "--run-dir=perf/runs/slow")
    slower = faked("-m", "cpu", "--perf-report", "no", *slow)

    assert pytest.ExitCode.NO_TESTS_COLLECTED == plain.returncode, plain.stdout
    assert (0, 0, 0) == (
        plan.returncode,
        first.returncode,
        accepted.returncode,
    ), first.stdout
    assert "vllm-chat-sparse-tp2" in plan.stdout
    assert "1 test with servers of its own" in plan.stdout
    runs = repository / "perf" / "runs"
    assert dict.fromkeys(RATIOS | CHAT, "NO_BASELINE") == outcomes(
        runs / "first"
    )
    assert dict.fromkeys(RATIOS | CHAT, "PASSED") == outcomes(runs / "again"), (
        again.stdout
    )
    assert 1 == slower.returncode, slower.stdout
    assert dict.fromkeys(RATIOS, "REGRESSED") == {
        case: outcome
        for case, outcome in outcomes(runs / "slow").items()
        if case in RATIOS
    }
    assert (repository / "perf" / "baselines").is_dir()


@pytest.mark.engine
def test_it_measures_a_real_engine(installed, repository, tmp_path):
    """Vllm on the CPU with two ranks: all is measured, nothing fails, the ratio is above one."""
    try:
        python = environment.find_python("vllm", "cpu", {}).path
    except environment.EngineMissing as missing:
        pytest.skip(str(missing))
    options = ("--engine-python", f"vllm={python}", "--run-dir=perf/runs/first")

    done = installed.pytest(
        repository,
        *("-m", "cpu", *options),
        PERFGATE_MODELS_DIR=str(tmp_path / "models"),
    )

    assert 0 == done.returncode, done.stdout
    results = load(repository / "perf" / "runs" / "first")
    values = {row.case: row.value for row in results.verdicts}
    assert RATIOS | CHAT == set(values)
    assert all(values[case] > 1 for case in RATIOS), values
    assert [0, 0] == [launch.index for launch in results.launches]
