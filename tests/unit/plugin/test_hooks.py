"""Hooks: what a project's conftest.py adds is launched, measured, judged, and known to commands.

Whole runs of pytest with the fake engine and a fake NVML.
"""

from __future__ import annotations

import sys

import pytest

from perfgate.results.schema import load
from tests.support.projects import CONFTEST, DENSE, H200, outcomes, perfgate

pytest_plugins = ["pytester"]

HOOKS = """
import dataclasses
from pathlib import Path

import msgspec
from perfgate.engines.registry import ENGINES
from perfgate.load.metrics import CustomMetric, Metric
from perfgate.load.workload import Synthetic, Workload
from perfgate.models.catalogue import Model, parse_config
from tests.support.checkpoints import hollow

CONFIG = dict(
    model_type="llama", hidden_size=1024, intermediate_size=4096, num_hidden_layers=8,
    num_attention_heads=16, num_key_value_heads=4, head_dim=64, vocab_size=4096,
    max_position_embeddings=4096,
)
SLOWEST = Metric(
    name="slowest_ttft_ms", unit="ms", better="lower", definition="largest TTFT of a repetition",
    family="ttft",
)

def slowest(requests, duration_s):
    return max(request.ttft_ms for request in requests)

def none(requests, duration_s):
    return None

def pytest_perfgate_engines(config):
    return [dataclasses.replace(ENGINES["fake"], name="house")]

def pytest_perfgate_models(config):
    folder = Path(config.rootpath, "models", "house-1b")
    shape = parse_config(CONFIG, "conftest.py")
    model = Model(name="house-1b", architecture=shape, config=CONFIG, folder=str(folder))
    hollow(model, folder)
    fake_suite.ITL_S["house-1b"] = 0.003
    return [model]

def pytest_perfgate_metrics(config):
    never = Metric(name="never_ms", unit="ms", better="lower", definition="cannot be had")
    return [CustomMetric(SLOWEST, slowest), CustomMetric(never, none)]

def pytest_perfgate_cases(subject, question, cases):
    if question == "test_closed":
        (dense,) = [case for case in cases if case.numerator.server == subject.dense]
        cases[:] = [msgspec.structs.replace(dense, gate="report")]
    if question == "test_ratio":
        cases.clear()
        server = msgspec.structs.replace(subject.dense, engine="house", model="house-1b")
        prompts = Synthetic(input_len_tokens=8, output_len_tokens=20)
        how = dict(num_prompts=8, max_concurrency=4, repetitions=2)
        workload = Workload(name="own", prompts=prompts, **how)
        for metric in ("itl_median_ms", "slowest_ttft_ms"):
            cases.append(subject.value("house", metric, server, workload))
"""
HOUSE = (
    "house-house-1b-tp1/own/itl_median_ms",
    "house-house-1b-tp1/own/slowest_ttft_ms",
)


@pytest.fixture
def house(gpus, pytester):
    """A project whose conftest.py has each hook."""
    pytester.makeconftest(CONFTEST + HOOKS)
    python = f"house={pytester.path / 'python'}"
    (pytester.path / "python").symlink_to(sys.executable)
    return lambda *options: gpus(*H200, "--engine-python", python, *options)


def decided(pytester, run: str) -> dict[str, str]:
    """What a run decided of each case, judged or only reported."""
    return {row.case: row.outcome for row in load(pytester.path / run).verdicts}


def test_what_hooks_add_is_judged(house, pytester):
    """An engine, a model and a metric are in the run's data, and get baselines as any other."""
    asked = ("-k", "test_ratio", "--run-dir")
    first = house(*asked, "recorded", "--baseline-record", "--launches", "3")
    accepted = perfgate(pytester, "accept", "recorded")
    same = house(*asked, "same")
    slower = house(*asked, "slower", "--inject-delay", "house-1b=3")

    assert {"skipped": 2} == outcomes(first), first.stdout.str()
    assert 0 == accepted.ret, accepted.errlines
    results = load(pytester.path / "recorded")
    assert 8 == results.models["house-1b"].num_hidden_layers
    assert (
        "largest TTFT of a repetition"
        == results.metrics["slowest_ttft_ms"].definition
    )
    assert dict.fromkeys(HOUSE, "PASSED") == decided(pytester, "same"), (
        same.stdout.str()
    )
    assert dict.fromkeys(HOUSE, "REGRESSED") == decided(pytester, "slower"), (
        slower.stdout.str()
    )


def test_commands_know_what_a_run_brings_along(house, pytester):
    """A process that has read no conftest.py judges and reports models and metrics of the run."""
    house("-k", "test_ratio", "--run-dir", "run")

    judged = perfgate(pytester, "judge", "run", "-v")
    reported = perfgate(pytester, "report", "run")

    assert 0 == judged.ret, judged.errlines
    assert "slowest_ttft_ms" in judged.stdout.str()
    assert 0 == reported.ret, reported.errlines
    assert (
        "slowest_ttft_ms" in (pytester.path / "run" / "report.html").read_text()
    )


def test_cases_of_a_question_are_changed(house, pytester):
    """What a hook leaves is asked, and how it says: here the dense model's alone, as a report."""
    result = house("-k", "test_closed", "--run-dir", "run")

    (case,) = load(pytester.path / "run").cases
    assert (f"{DENSE}/closed/itl_median_ms", "report") == (case.id, case.gate)
    assert {"passed": 1} == outcomes(result)


def test_a_hook_that_contradicts_what_is_built_in_is_refused(gpus, pytester):
    """A metric of a known name with another definition is a usage error that names it."""
    text = """
from perfgate.load.metrics import Metric

def pytest_perfgate_metrics(config):
    return [Metric(name="itl_median_ms", unit="s", better="lower", definition="mine")]
"""
    pytester.makeconftest(CONFTEST + text)

    result = gpus(*H200)

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    assert "declaring the metric itl_median_ms" in result.stderr.str()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("engines(config): return ENGINES['fake']", "it returns Engine("),
        ("models(config): return ['llama']", "it returns ['llama']"),
        ("metrics(config): return SLOWEST", "it returns Metric("),
        (
            "metrics(config): return [msgspec.structs.replace(SLOWEST, better='less')]",
            "declaring the metric slowest_ttft_ms",
        ),
        (
            "engines(config): return [dataclasses.replace(ENGINES['fake'], name='a-b')]",
            "registering the engine 'a-b'",
        ),
        (
            "models(config): return [Model(name='a/b', architecture="
            "parse_config(CONFIG, 'conftest.py'))]",
            "naming the model 'a/b'",
        ),
    ],
)
def test_a_hook_that_adds_what_cannot_be_is_refused(gpus, pytester, text, said):
    """No list, another kind, or a field or a name that no run could hold."""
    pytester.makeconftest(f"{CONFTEST}{HOOKS}\ndef pytest_perfgate_{text}\n")

    result = gpus(*H200)

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    assert said in result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "its question wrong returns None"),
        (
            "return study.value('E1', 'itl_median_ms', study.model, None)",
            "yield them",
        ),
        ("yield 'case'", "it is a str: 'case'"),
        ("yield study.value(12, 'itl_median_ms', study.model, None)", "`int`"),
    ],
)
def test_a_question_without_cases_is_refused(gpus, pytester, body, said):
    """The test and what is wrong with its cases, and no code of the plugin."""
    question = pytester.path / "tests" / "perf" / "test_wrong.py"
    question.write_text(f"""
import pytest

def wrong(study):
    {body}

@pytest.mark.perf(cases=wrong)
def test_wrong(check, case):
    check(case)
""")

    result = gpus(*H200, str(question))

    assert said in result.stdout.str()
    assert "perf_tests.py" not in result.stdout.str()


def test_a_progress_of_ones_own_takes_the_place_of_the_default(gpus, pytester):
    """A conftest.py is registered before the default one, and comes first all the same."""
    text = """
class Shouted:
    def line(self, text): print(f"SHOUTED {text}")
    def step(self, phase, done, total): pass
    def share(self, phase, done, of): pass

def pytest_perfgate_progress(config):
    return Shouted()
"""
    pytester.makeconftest(CONFTEST + text)

    result = gpus(*H200, "-k", "test_closed", "-s")

    result.stdout.fnmatch_lines([f"*SHOUTED {DENSE}: launching, server 1 of*"])
    assert f"0:00  {DENSE}" not in result.stdout.str()
