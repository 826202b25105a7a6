"""Losses that one kind of load sees alone: long prompts, long answers, a steady state."""

from __future__ import annotations

import re

import pytest

from tests.support.projects import DENSE, H200, record, verdicts

pytest_plugins = ["pytester"]

QUESTIONS = """
import pytest
from perfgate.load.lengths import Drawn
from perfgate.load.workload import Synthetic, Workload

def load(name, prompts, streams, staggered=False):
    return Workload(name=name, prompts=prompts, num_prompts=3 * streams, repetitions=1,
                    max_concurrency=streams, staggered=staggered, warm_up_prompts=1)

LOADS = (
    load("short", Synthetic(input_len_tokens=16, output_len_tokens=16), 4),
    load("prefill", Synthetic(input_len_tokens=2048, output_len_tokens=8), 1),
    load("long", Synthetic(input_len_tokens=16, output_len_tokens=400), 2),
    load("steady", Synthetic(input_len_tokens=16, output_len_tokens=16), 8, True),
    load("mixed", Drawn(input_quantiles=(8, 1024), output_quantiles=(8, 24)), 4, True),
)

def each(study):
    for workload in LOADS:
        for metric in ("itl_mean_ms", "ttft_mean_ms"):
            yield study.value("E1", metric, study.dense, workload)

@pytest.mark.perf(cases=each)
def test_each(check, case):
    check(case)
"""
USUAL = "--set prefill_s_per_token=1e-5"


@pytest.fixture
def loads(gpus, pytester, monkeypatch):
    """Record an unchanged server; then a run with a loss: the cases that are red."""
    (pytester.path / "tests" / "perf" / "test_small.py").write_text(QUESTIONS)

    def run(loss):
        monkeypatch.setenv("FAKE_MISBEHAVIOUR", f"llama-3.1-8b: {USUAL}")
        record(gpus, pytester, *H200)
        monkeypatch.setenv("FAKE_MISBEHAVIOUR", f"llama-3.1-8b: {loss}")
        gpus(*H200, "--run-dir", "run")
        found = verdicts(pytester.path / "run")
        assert 10 == len(found)
        assert {"INVALID", "NO_BASELINE"}.isdisjoint(found.values()), found
        red = {case for case, word in found.items() if word == "REGRESSED"}
        return {re.sub(f"^{DENSE}/", "", case) for case in red}

    return run


def test_an_unchanged_server_passes(loads):
    """Under every load."""
    assert set() == loads(USUAL)


def test_a_slower_prefill_shows_in_long_prompts_alone(loads):
    """Two fifths more for each token of a prompt: of short ones that is nothing."""
    loss = "--set prefill_s_per_token=1.4e-5"

    assert {"prefill/ttft_mean_ms"} == loads(loss)


def test_slower_attention_shows_in_long_contexts_alone(loads):
    """What grows with the tokens before it: behind long prompts, and late in long answers."""
    red = loads(f"{USUAL} --set context_s_per_token=5e-7")

    assert {"long/itl_mean_ms", "prefill/itl_mean_ms"} <= red
    assert not {case for case in red if case.startswith(("short/", "steady/"))}


def test_a_prompt_that_stops_others_shows_where_slots_free_up_evenly(loads):
    """In lock-step nobody decodes while prompts are taken in."""
    red = loads(f"{USUAL} --set beside_s_per_token=4e-5")

    assert {"steady/itl_mean_ms", "mixed/itl_mean_ms"} <= red
    assert not {case for case in red if case.startswith(("short/", "long/"))}
