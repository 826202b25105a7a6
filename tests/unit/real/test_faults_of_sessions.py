"""Faults of whole sessions with a real engine: what is measured again, and what is named.

One server of two ranks, one short workload. Skipped without vLLM for the CPU.
"""

from __future__ import annotations

import re
import signal

import pytest

from benchmarks.fault_table import itself, kill, servers, supervisors
from perfgate.engines import environment
from perfgate.errors import Failure
from perfgate.models import catalogue, weights
from perfgate.results.schema import load
from tests.support.checkpoints import quiet
from tests.support.projects import ROOT
from tests.support.small_project import Project, end_what_is_named, measures
from tests.support.survivors import tagged

pytestmark = pytest.mark.engine

CONFTEST = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
pytest_plugins = ["perfgate.plugin"]
"""
MODEL = "llama-small"
ONE = ("-k", "test_each", "--run-dir")
CPU = ("-m", "cpu", "--tp", "2")
# Report-only: what is judged gets two further launches after a death.
QUESTION = """
import pytest
from perfgate.load.workload import Synthetic, Workload

WORKLOAD = Workload(name="closed", num_prompts=4, max_concurrency=2, repetitions=3,
                    prompts=Synthetic(input_len_tokens=8, output_len_tokens=80))

def each(study):
    yield study.value("E1", "itl_median_ms", study.reference, WORKLOAD).report_only

@pytest.mark.perf(cases=each)
def test_each(check, case):
    check(case)
"""
START_UP_S = 300.0
WHOLE_S = 600.0  # two launches, and the load


@pytest.fixture
def small(tmp_path):
    """A small project, whose servers are vLLM's."""
    try:
        python = environment.find_python("vllm", "cpu", {}).path
    except Failure as failure:
        pytest.skip(f"{failure.seen}; {failure.remedy}")
    folder = weights.locate(catalogue.lookup(MODEL), "auto", {}, False, quiet)
    options = (
        *("--engine", "vllm", "--engine-python", f"vllm={python}"),
        *("--model-dir", f"{MODEL}={folder.path}", "--perf-report", "no"),
    )
    project = Project(tmp_path, options, CONFTEST)
    (tmp_path / "tests" / "perf" / "test_small.py").write_text(QUESTION)
    return project


def ranks(session):
    """Pids of one of its ranks."""
    workers = [who for who in tagged(session.tag) if "Worker" in who]
    return [int(workers[0].split()[1].rstrip(":"))]


@pytest.mark.parametrize(
    ("find", "words"),
    [
        (ranks, r"died unexpectedly \(exit code: -9\)"),
        (servers, "killed by SIGKILL"),
    ],
    ids=["rank", "front end"],
)
def test_a_killed_part_costs_one_more_launch(small, find, words):
    """Its death is named, and the second launch is measured to its end."""
    run = small.runs / "r"
    session = small.start(*ONE, str(run), platform=CPU)
    session.wait_for(run, measures, START_UP_S)
    kill(signal.SIGKILL, find)(session)
    session.wait(WHOLE_S)

    results = load(run)
    dead, *_, last = results.measurements
    assert re.search(words, repr(dead.failure))
    assert re.search(words, session.output), session.output
    assert "launching it again, because it died" in session.output
    assert results.is_whole, session.output
    assert last.is_sound
    assert 3 <= len(last.repetitions)
    assert 2 == len(results.launches)
    assert [] == session.survivors()


def test_what_outlives_session_and_supervisor_is_named(small):
    """The next session is refused; after the command that it shows it measures."""
    first = small.runs / "first"
    session = small.start(*ONE, str(first), platform=CPU)
    session.wait_for(first, measures, START_UP_S)
    kill(signal.SIGKILL, supervisors, itself)(session)
    session.process.wait()

    refused = small.start(*ONE, str(small.runs / "second"), platform=CPU)
    end_what_is_named(refused, session)
    third = small.start(*ONE, str(small.runs / "third"), platform=CPU)
    third.wait(WHOLE_S)
    assert load(small.runs / "third").is_whole, third.output
