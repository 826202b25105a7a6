"""A study of one's own: a model, a pair, a workload and a GPU kind, each one table, no Python.

Whole runs with the fake engine and a fake NVML.
"""

from __future__ import annotations

import re
import sys

import pytest

from perfgate.models.made import make_shell
from perfgate.results.schema import load
from tests.support.projects import ROOT
from tests.support.studies import SHIPPED

pytest_plugins = ["pytester"]

PAGE = (ROOT / "docs" / "how-to.md").read_text()
SECTIONS = ("A model", "A pair", "A workload", "A GPU kind")


def tables() -> str:
    """The tables of docs/how-to.md, in the order of the page."""
    found = []
    for heading in SECTIONS:
        section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        found += re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    return "\n".join(found)


@pytest.fixture
def own(project, pytester, monkeypatch):
    """A project with the tables of the how-to on top of the shipped study."""
    monkeypatch.setenv("FAKE_GPUS", "1")
    monkeypatch.setenv("FAKE_GPU_KIND", "b200")
    folder = pytester.path / "models" / "my-moe"
    make_shell(SHIPPED.models["qwen3-30b-a3b"], folder)
    text = tables().replace("/models/my-moe", str(folder))
    (pytester.path / "study.toml").write_text(f'like = "shipped"\n{text}')
    return lambda *args: project(
        "--study", "study.toml", "-m", "b200", "--tp", "1", *args
    )


def without_folders(text):
    """The text without the folders of models, which the test's own command names."""
    return re.sub(r"models/\S+|--model-dir \S+", "", text)


def test_tables_of_the_how_to_are_a_study(own, pytester):
    """All questions are asked of the new pair on the new GPU, as a dry run says."""
    result = own("--plan", "--weights", "dummy")

    assert 0 == result.ret, result.stderr.str()
    shown = result.stdout.str()
    for server in ("fake-my-moe-tp1", "fake-qwen3-8b-tp1"):
        assert server in shown
    assert "mixtral" not in without_folders(shown)
    assert "chat" in shown


def test_a_session_measures_the_new_pair(own, pytester):
    """The workload's metrics are judged, of each model and as a ratio, with all outputs."""
    result = own(
        "--weights",
        "dummy",
        "-k",
        "test_workload",
        "--run-dir",
        "run",
        "--perf-report=yes",
        "--gate=required",
    )

    run = load(pytester.path / "run")
    case = "fake-my-moe-tp1--over--fake-qwen3-8b-tp1/chat/itl_median_ms"
    assert 1 == result.ret  # nothing is recorded yet
    assert {"NO_BASELINE"} == {row.outcome for row in run.verdicts}
    assert case in {row.case for row in run.verdicts}
    assert ("b200", {"fake-my-moe-tp1", "fake-qwen3-8b-tp1"}) == (
        run.hardware.kind,
        set(run.servers),
    )
    page = (pytester.path / "run" / "report.html").read_text()
    summary = (pytester.path / "run" / "summary.md").read_text()
    for text in (page, summary, result.stdout.str()):
        assert "my-moe" in text
        own_words = without_folders(text)
        assert not re.search("mixtral|llama", own_words, re.IGNORECASE)


def test_a_base_build_of_the_new_pair_is_compared(own, pytester):
    """The mode that fits a pull request: base and candidate in turn, all required."""
    options = ("-k", "test_workload", "--weights", "dummy")
    result = own(
        *options,
        "--against-engine",
        f"fake={sys.executable}",
        "--gate=required",
        "--run-dir",
        "run",
        "--perf-report=yes",
    )

    run = load(pytester.path / "run")
    assert {"PASSED"} == {row.outcome for row in run.verdicts}, result.stdout
    assert 6 == len([row for row in run.launches if "my-moe" in row.server])
    assert (pytester.path / "run" / "report.html").is_file()


def test_one_model_alone(own, pytester):
    """Every question that needs one server, and no ratio of two models."""
    result = own(
        "--model", "qwen3-8b", "--weights", "dummy", "--collect-only", "-q"
    )

    shown = result.stdout.str()
    assert "fake-qwen3-8b-tp1/steady-c32/steady_output_throughput" in shown
    assert "--over--" in shown  # one load over another of the same server
    assert "my-moe" not in shown
    assert "over_reference" not in shown


def test_any_two_models_make_a_pair(own, pytester):
    """Also two dense ones: nothing is asked of experts."""
    result = own(
        "--pair",
        "qwen3-8b:llama-3.1-8b",
        "--weights",
        "dummy",
        "--collect-only",
        "-q",
    )

    shown = result.stdout.str()
    assert "fake-qwen3-8b-tp1--over--fake-llama-3.1-8b-tp1" in shown
    assert "routing" not in shown
    assert "-ep" not in shown


def test_pairs_that_share_a_model_ask_its_cases_once(own, pytester):
    """One launch of the shared model serves both pairs."""
    pairs = ("--pair", "mine", "--pair", "my-moe:llama-3.1-8b")
    result = own(*pairs, "--weights", "dummy", "--collect-only", "-q")

    lines = [line for line in result.outlines if "::" in line]
    assert len(lines) == len(set(lines))
    shared = "b200-fake-my-moe-tp1/steady-c32/steady_output_throughput]"
    assert 1 == len([line for line in lines if shared in line])


def test_metrics_are_left_report_only(own, pytester):
    """By a table of the file; the question says otherwise."""
    file = pytester.path / "study.toml"
    file.write_text(file.read_text() + '\n[judged]\nreport_only = ["itl"]\n')
    own("-k", "test_workload", "--weights", "dummy", "--run-dir", "run")

    gates = {}
    for case in load(pytester.path / "run").cases:
        gates[case.metric] = case.gate
    assert {"itl_median_ms": "report", "output_throughput": "hard"} == gates


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--pair", "mien"], "did you mean mine?"),
        (["--pair", "my-moe:qwen3-8"], "did you mean qwen3-8b?"),
        (["--model", "my-mo"], "did you mean my-moe?"),
    ],
)
def test_an_unknown_name_is_a_usage_error(own, options, told):
    """As any other mistake on the command line."""
    result = own(*options)

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    assert told in result.stderr.str()
