"""Fronts: whole runs at a server whose chunks come in other pieces than its tokens.

The figures are measured, so these sessions do without the fake suite.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from perfgate.results.schema import load
from tests.support.fake_suite import FAKE_ENGINE
from tests.support.fronts import holding
from tests.support.projects import PROJECT_FILE, ROOT
from tests.support.small_project import SETTINGS

CONFTEST = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
pytest_plugins = ["perfgate.plugin"]
"""
QUESTIONS = """
import pytest
from perfgate.load.workload import Synthetic, Workload

WORKLOAD = Workload(name="closed", num_prompts=8, max_concurrency=2, repetitions=3,
                    prompts=Synthetic(input_len_tokens=8, output_len_tokens=48))

def each(study):
    for metric in ("itl_median_ms", "tpot_median_ms", "ttft_median_ms"):
        yield study.value("E1", metric, study.dense, WORKLOAD)

@pytest.mark.perf(cases=each)
def test_each(check, case):
    check(case)
"""
USUAL = {"ttft_s": 0.03, "itl_s": 0.015}
PIECES = {
    "five-tokens-a-chunk": USUAL | {"itl_s": 0.075, "tokens_per_chunk": 5},
    "two-tokens-a-chunk": USUAL | {"itl_s": 0.03, "tokens_per_chunk": 2},
    "bursts-of-three": USUAL | {"gaps_s": [0.001, 0.001, 0.043]},
}
CHANGED = {"IMPROVED", "REGRESSED"}


@contextmanager
def server(behaviour):
    """A fake engine that does so; its address."""
    command = [sys.executable, FAKE_ENGINE, "--served-model", "llama-small"]
    for name, value in behaviour.items():
        command += ["--set", f"{name}={json.dumps(value)}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield "http://" + process.stdout.readline().split()[-1]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Measures a server at an address; returns the verdicts by metric."""
    folder = tmp_path_factory.mktemp("fronts")
    tests = folder / "tests" / "perf"
    tests.mkdir(parents=True)
    (folder / "baselines").mkdir()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text(SETTINGS)
    (folder / "perfgate.toml").write_text(PROJECT_FILE)
    (tests / "test_each.py").write_text(QUESTIONS)
    away = {"CI", "GITHUB_ACTIONS", "PERFGATE_GATE"}
    env = {name: os.environ[name] for name in os.environ.keys() - away}
    env |= {
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PERFGATE_LEASES_DIR": str(folder / "leases"),
    }

    def run(*arguments):
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(
            command, cwd=folder, env=env, capture_output=True, check=False
        ).stdout.decode()

    def measure(name, url):
        options = ["-m", "cpu", "--engine", "vllm", "--attach", f"vllm={url}"]
        said = run(
            *("pytest", "-p", "no:cacheprovider", *options),
            *("--perf-report", "no", "--run-dir", f"runs/{name}"),
        )
        assert (folder / "runs" / name).is_dir(), said
        rows = load(folder / "runs" / name).verdicts
        return {row.case.rpartition("/")[2]: row for row in rows}

    for number in range(2):
        with server(USUAL) as url:
            measure(f"usual-{number}", url)
    runs = ["runs/usual-0", "runs/usual-1"]
    run("perfgate", "accept", *runs, "--baselines", "baselines")
    assert list((folder / "baselines").rglob("closed.json"))
    return measure


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", PIECES.values(), ids=PIECES)
def test_other_pieces_are_no_change_of_itl(measured, behaviour, request):
    """Neither a gain nor a loss: INVALID, whatever the gap is."""
    with server(behaviour) as url:
        rows = measured(request.node.callspec.id, url)

    assert "INVALID" == rows["itl_median_ms"].outcome, rows


@pytest.mark.slow
def test_a_front_that_buffers_changes_no_itl_and_gains_nothing(measured):
    """Its first token is late: TPOT is no gain for that, and TTFT is never better."""
    with server(USUAL) as url, holding(5, url) as front:
        rows = measured("buffered", front)

    assert "INVALID" == rows["itl_median_ms"].outcome
    assert rows["tpot_median_ms"].outcome not in CHANGED
    assert "PASSED" != rows["ttft_median_ms"].outcome
    assert "IMPROVED" != rows["ttft_median_ms"].outcome
