"""Whole runs of the plugin in a temporary project.

The fixture `project` in conftest.py makes one; these are what is asked of it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from perfgate.results.schema import load
from tests.support import warm

ROOT = Path(__file__).resolve().parent.parent.parent
CONFTEST = f"""
import sys, os
sys.path[:0] = [{str(ROOT)!r}]
from tests.support import fake_suite
fake_suite.enter()
if "FAKE_GPUS" in os.environ:
    fake_suite.enter_gpus(int(os.environ["FAKE_GPUS"]), os.environ.get("FAKE_GPU_KIND", "h200"))
if "FAKE_DRIVER" in os.environ:
    fake_suite.enter_broken_driver(*os.environ["FAKE_DRIVER"].split("|"))
pytest_plugins = ["perfgate.plugin"]
"""
# The shipped study, and no baselines but the project's own.
PROJECT_FILE = f"""
study = {str(ROOT / "fixtures" / "study.toml")!r}
tests = ["tests/perf"]
shipped_baselines = false
"""
# Three questions on GPUs, for the fixture `gpus`: a study of two small workloads.
GPU_QUESTIONS = """
import pytest
from perfgate.cases import Load
from perfgate.load.workload import Synthetic, Workload

def workload(name, tokens, repetitions=2):
    return Workload(name=name, num_prompts=8, max_concurrency=4, repetitions=repetitions,
                    prompts=Synthetic(input_len_tokens=8, output_len_tokens=tokens))

def closed(study):
    for server in study.models:
        yield study.value("E1", "itl_median_ms", server, workload("closed", 20))

def long(study):
    yield study.value("E1", "itl_median_ms", study.dense, workload("long", 250, repetitions=4))

def ratio(study):
    of, over = (Load(server=server, workload=workload("closed", 20)) for server in study.models)
    yield study.ratio("E1", "itl_median_ms", of, over)

@pytest.mark.perf(cases=closed)
def test_closed(check, case):
    check(case)

@pytest.mark.perf(cases=long)
def test_long(check, case):
    check(case)

@pytest.mark.perf(cases=ratio)
def test_ratio(check, case):
    check(case)
"""
# What was recorded in this process, by the questions and the options.
_RECORDED: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[Path, str]] = {}
DENSE, MOE = "fake-llama-3.1-8b-tp1", "fake-mixtral-8x7b-tp1"
H200 = ("-m", "h200", "--tp", "1")


def outcomes(result) -> dict[str, int]:
    """Counts of pytest's own words, deselected ones left out."""
    return {
        word: n
        for word, n in result.parseoutcomes().items()
        if word not in ("deselected", "warnings")
    }


def newest_run(pytester) -> Path:
    """The run directory made last."""
    return max(
        path for path in (pytester.path / "runs").iterdir() if path.is_dir()
    )


def verdicts(run_dir: Path) -> dict[str, str]:
    """What a run decided: hard case -> outcome."""
    return {
        row.case: row.outcome
        for row in load(run_dir).verdicts
        if row.gate == "hard"
    }


def perfgate(pytester, *args: str) -> pytest.RunResult:
    """The command `perfgate`."""
    return run_warm(pytester, "perfgate", *args)


def run_warm(pytester, program: str, *args: str) -> pytest.RunResult:
    """Run pytest or perfgate in the project's folder."""
    ended = warm.shared().run(
        pytester.path, program, args, os.environ, timeout_s=300
    )
    texts = []
    for path in (ended.stdout, ended.stderr):
        text = path.read_text(encoding="utf-8")
        sys.stdout.write(text)
        texts.append(text.splitlines())
    return pytest.RunResult(ended.status, *texts, ended.duration_s)


def record(project, pytester, *options: str) -> None:
    """Take what a run with these options measures over as its baselines."""
    project(*options, "--baseline-record", "--run-dir", "recorded")
    accepted = perfgate(
        pytester, "accept", "recorded", "--baselines", "baselines"
    )
    assert 0 == accepted.ret, accepted.outlines + accepted.errlines


def record_once(project, pytester, *options: str) -> None:
    """As `record`, for a project that is alike in several tests: one of them measures."""
    folder = pytester.path / "baselines"
    questions = tuple(
        path.read_text()
        for path in sorted((pytester.path / "tests" / "perf").iterdir())
    )
    key = questions, options
    if key not in _RECORDED:
        record(project, pytester, *options)
        files = {}
        for path in folder.rglob("*.json"):
            files[path.relative_to(folder)] = path.read_text()
        _RECORDED[key] = files
    for name, text in _RECORDED[key].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
