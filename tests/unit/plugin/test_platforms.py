"""Platforms: `-m gpu` is whatever GPU is here; a product's name asserts it."""

from __future__ import annotations

import pytest

from perfgate.results.schema import load
from tests.support.projects import GPU_QUESTIONS, H200, outcomes, perfgate

pytest_plugins = ["pytester"]
ONE = ("--tp", "1", "-k", "test_closed")


def test_any_gpu_is_measured_and_judged_by_its_product(
    gpus, pytester, monkeypatch
):
    """On an L40S -m gpu runs; what it records lies in its own folder and is judged next time."""
    monkeypatch.setenv("FAKE_GPU_KIND", "l40s")
    first = gpus("-m", "gpu", *ONE, "--weights", "dummy", "--run-dir", "run")
    accepted = perfgate(pytester, "accept", "run", "--baselines", "baselines")
    again = gpus("-m", "gpu", *ONE, "--weights", "dummy")

    assert {"skipped": 2} == outcomes(first)
    assert "l40s" == load(pytester.path / "run").hardware.kind
    assert 0 == accepted.ret, accepted.outlines
    assert ["l40sx1"] == [
        path.name for path in (pytester.path / "baselines").iterdir()
    ]
    # The sparse model does not fit its 48 GB.
    assert {"passed": 1, "skipped": 1} == outcomes(again)
    again.stdout.fnmatch_lines(["*93.4 GB of weights*"])


@pytest.mark.parametrize(
    ("kind", "platform", "expected"),
    [
        ("h100", "h100", "ran"),
        ("h100", "h200", "skipped"),
        ("l40s", "a100", "skipped"),
    ],
)
def test_a_product_is_asserted(gpus, monkeypatch, kind, platform, expected):
    """On other GPUs every test is skipped with what it needs and what was found."""
    monkeypatch.setenv("FAKE_GPU_KIND", kind)
    result = gpus("-m", platform, *ONE, "--weights", "dummy")

    found = "needs 1x" in result.stdout.str()
    assert (expected == "skipped") == found
    if found:
        line = f"*needs 1x {platform.upper()}, found 1x NVIDIA {kind.upper()}*"
        result.stdout.fnmatch_lines([line])


def test_both_are_selected_together(gpus, monkeypatch, pytester):
    """A name and "gpu" in one expression ask the same servers, which are launched once."""
    monkeypatch.setenv("FAKE_GPU_KIND", "h200")
    result = gpus("-m", "gpu or h200", *ONE, "--run-dir", "run")

    assert {"skipped": 4} == outcomes(result)
    assert [0, 0] == [
        launch.index for launch in load(pytester.path / "run").launches
    ]


def test_two_servers_of_one_key_are_refused_before_anything_starts(
    gpus, pytester
):
    """Also by --plan: the message names both and says how to tell them apart."""
    file = pytester.path / "tests" / "perf" / "test_small.py"
    file.write_text(
        file.read_text()
        + """
import msgspec

def twins(study):
    eager = msgspec.structs.replace(study.dense, extra_args=("--enforce-eager",))
    for server in (study.dense, eager):
        yield study.value("E1", "itl_median_ms", server, workload("closed", 20))

@pytest.mark.perf(cases=twins)
def test_twins(check, case):
    check(case)
"""
    )
    for options in (["--plan"], []):
        result = gpus("-m", "h200", "--tp", "1", "-k", "twins", *options)

        assert pytest.ExitCode.USAGE_ERROR == result.ret
        result.stderr.fnmatch_lines(
            ["*two configurations have this key*", '*variant="eager"*']
        )
    assert [] == list(pytester.path.glob("runs/*/logs/*"))


def test_paths_are_the_suite_of_a_project_that_names_none(gpus, pytester):
    """What lies in the package is then not missing from the run."""
    file = pytester.path / "perfgate.toml"
    file.write_text(file.read_text().replace('tests = ["tests/perf"]\n', ""))
    gpus("-m", "h200", "--tp", "1", "tests/perf", "--run-dir", "run")

    assert () == load(pytester.path / "run").left_out


def test_a_misspelt_metric_is_refused_before_anything_is_measured(
    gpus, pytester
):
    """By a question of the suite: the nearest name is suggested."""
    file = pytester.path / "tests" / "perf" / "test_small.py"
    file.write_text(file.read_text().replace("itl_median_ms", "itl_medain_ms"))
    result = gpus("-m", "h200", "--tp", "1", "--plan")

    assert 0 != result.ret
    shown = result.stdout.str() + result.stderr.str()
    assert (
        "no such metric: 'itl_medain_ms'; did you mean itl_median_ms?" in shown
    )
    assert "perf_tests.py" not in shown


@pytest.mark.parametrize("options", [(), H200])
def test_a_question_whose_cases_no_test_takes_is_refused(
    gpus, pytester, options
):
    """No platform would ever select such a test, and nothing would tell."""
    text = GPU_QUESTIONS.replace("test_long(check, case)", "test_long(check)")
    (pytester.path / "tests" / "perf" / "test_small.py").write_text(text)

    result = gpus(*options, "tests/perf")

    assert pytest.ExitCode.INTERRUPTED == result.ret
    shown = result.stdout.str()
    assert "test_long: @pytest.mark.perf(cases=...) makes a test of" in shown
    assert "perf_tests.py" not in shown


def test_an_empty_set_of_cases_is_no_error_of_strict_projects(gpus):
    """Without a platform no test has a case, whatever pytest says of others."""
    strict = ("-o", "empty_parameter_set_mark=fail_at_collect")

    assert pytest.ExitCode.OK == gpus(*strict).ret
    assert pytest.ExitCode.OK == gpus(*strict, *H200, "--plan").ret


def test_a_packed_run_is_not_written_over(gpus, pytester):
    """A folder that holds results.json.gz holds a run, also with --resume."""
    run = pytester.path / "run"
    run.mkdir()
    (run / "results.json.gz").write_bytes(b"")
    for options in ([], ["--resume"]):
        result = gpus("-m", "h200", "--tp", "1", "--run-dir", "run", *options)

        assert pytest.ExitCode.USAGE_ERROR == result.ret
        result.stderr.fnmatch_lines(
            ["*it holds a packed run*", "*gunzip*--resume*"]
        )
