"""Whole runs of the plugin: exit codes, verdicts, resuming, workers.

Whole runs of pytest in a project of their own, with the fake engine in place of
a real one.
"""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from perfgate.history.store import History
from perfgate.locations import HISTORY_FILE
from perfgate.report.verdict_text import render
from perfgate.results.schema import load, save
from tests.support import builders, fake_suite
from tests.support.projects import ROOT, newest_run, outcomes, record

pytest_plugins = ["pytester"]
RATIO = "test_reference_over_model_throughput"


def record_ratio(project, pytester) -> None:
    """Take the ratio's measurement over as its baseline."""
    record(project, pytester, "-m", "cpu", "-k", RATIO)


def test_plain_pytest_starts_no_server(project, pytester):
    """Without a platform in -m only unit tests run and nothing is written."""
    result = project()

    assert {"passed": 1} == outcomes(result)
    assert not (pytester.path / "runs").exists()


@pytest.mark.parametrize("expression", ["not slow", "not h200", ""])
def test_a_server_is_started_only_when_its_platform_is_named(
    project, pytester, expression
):
    """An expression that merely does not exclude the perf tests does not select them."""
    assert {"passed": 1} == outcomes(project("-m", expression))
    assert not (pytester.path / "runs").exists()


@pytest.mark.parametrize("expression", ["h2000", "cpu or h20"])
def test_misspelt_marker_is_an_error(project, expression):
    """A platform that does not exist is a usage error that lists the markers."""
    result = project("-m", expression)

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    result.stderr.fnmatch_lines(
        ["*no such marker; did you mean h200? markers:*h200*"]
    )


def test_marker_of_an_unknown_gpu_says_how_to_run_on_it(project):
    """`-m gpu`, or a platform of three lines in the study file."""
    result = project("-m", "b200")

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    result.stderr.fnmatch_lines(
        [
            "*no such marker*",
            "use -m gpu for the GPUs that are found*study.toml:",
            "    [[]platforms.b200[]]",
            '    like = "gpu"',
            '    gpu = "b200"',
        ]
    )


def test_those_three_lines_make_a_platform(project, pytester, monkeypatch):
    """The study runs on that product, under its name."""
    monkeypatch.setenv("FAKE_GPUS", "2")
    monkeypatch.setenv("FAKE_GPU_KIND", "b200")
    study = (ROOT / "fixtures" / "study.toml").read_text()
    lines = '[platforms.b200]\nlike = "gpu"\ngpu = "b200"\n'
    (pytester.path / "study.toml").write_text(f"{study}\n{lines}")
    shutil.copytree(ROOT / "fixtures" / "configs", pytester.path / "configs")

    result = project("-m", "b200", "--plan", "--study", "study.toml")

    assert 0 == result.ret
    result.stdout.fnmatch_lines(["*b200*"])
    result.stdout.no_fnmatch_line("*not on this machine*")


@pytest.mark.parametrize(("gate", "status"), [("advisory", 0), ("required", 1)])
def test_wrong_hardware_skips_and_says_so(project, gate, status):
    """On a machine without the GPUs every test skips with need and finding.

    Only required mode fails.
    """
    result = project("-m", "h200", f"--gate={gate}")

    assert status == result.ret
    assert {"skipped"} == set(outcomes(result))
    result.stdout.fnmatch_lines(["*needs 2x H200, found no GPU*"])


def test_workers_are_refused_on_the_cpu(project):
    """Servers side by side on the same cores would measure each other, so -n is a usage error."""
    result = project("-m", "cpu", "-n", "2", "-k", RATIO)

    assert 0 != result.ret
    assert (
        "-n is refused with -m cpu" in result.stdout.str() + result.stderr.str()
    )


@pytest.mark.parametrize(
    ("gate", "status", "word"),
    [
        ("advisory", 0, "skipped"),
        ("required", 1, "skipped"),
        ("strict", 1, "failed"),
    ],
)
def test_missing_baseline(project, pytester, gate, status, word):
    """Without a baseline a case is NO_BASELINE: skipped, and failed by a strict gate.

    A run without any baseline fails a required gate, too.

    Each server is launched once.
    """
    result = project(
        "-m", "cpu", "-k", RATIO, f"--gate={gate}", "--perf-report=yes"
    )

    assert (status, {word: 1}) == (result.ret, outcomes(result))
    results = load(newest_run(pytester))
    assert ["NO_BASELINE"] == [row.outcome for row in results.verdicts]
    assert [0, 0] == [launch.index for launch in results.launches]
    names = {path.name for path in newest_run(pytester).iterdir()}
    assert {
        "report.html",
        "summary.md",
        "junit.xml",
        "pytest-benchmark.json",
    } <= names
    result.stdout.fnmatch_lines(["report: *report.html*"])
    assert {results.run_id} == History(
        pytester.path / "runs" / HISTORY_FILE
    ).runs()
    assert 2 == len({launch.server for launch in results.launches})


def test_unchanged_passes_and_injected_slowdown_fails(project, pytester):
    """Recorded and unchanged passes; a delay injected in one model's tokens is REGRESSED."""
    record_ratio(project, pytester)

    unchanged = project("-m", "cpu", "-k", RATIO)
    slowed = project(
        "-m", "cpu", "-k", RATIO, "--inject-delay", "mixtral-small=12"
    )

    assert (0, {"passed": 1}) == (unchanged.ret, outcomes(unchanged))
    assert (1, {"failed": 1}) == (slowed.ret, outcomes(slowed))
    assert ["REGRESSED"] == [
        row.outcome for row in load(newest_run(pytester)).verdicts
    ]


def test_further_launches_are_sent_what_is_undecided_alone(project, pytester):
    """Memory of a server after a part of its load is no figure; the first launch alone has it."""
    record_ratio(project, pytester)
    reported = "mixtral-small-tp2/single-stream/itl_median_ms"

    project(
        "-m",
        "cpu",
        "-k",
        f"({RATIO} or {reported}) and not -ep",
        "--inject-delay",
        "mixtral-small=12",
    )

    results, sparse = load(newest_run(pytester)), "fake-mixtral-small-tp2"
    sent = [
        {
            m.workload
            for m in results.measurements
            if m.server == sparse and m.launch == n
        }
        for n in range(3)
    ]
    held = [
        "memory_peak_bytes" in launch.values
        for launch in results.launches
        if launch.server == sparse
    ]
    assert [
        {"closed-c16", "single-stream"},
        {"closed-c16"},
        {"closed-c16"},
    ] == sent
    assert [True, False, False] == held


def test_run_directory_is_not_overwritten(project, pytester):
    """A run directory that holds a run is refused; --resume continues it without launches."""
    first = project("-m", "cpu", "-k", RATIO, "--run-dir", "mine")
    again = project("-m", "cpu", "-k", RATIO, "--run-dir", "mine")
    resumed = project("-m", "cpu", "-k", RATIO, "--run-dir", "mine", "--resume")

    assert (0, pytest.ExitCode.USAGE_ERROR, 0) == (
        first.ret,
        again.ret,
        resumed.ret,
    )
    again.stderr.fnmatch_lines(["*it holds a run already*", "*--resume*"])
    assert "2 launches kept of 2" in resumed.stdout.str()
    assert 2 == len(load(pytester.path / "mine").launches)


def test_what_killed_workers_left_is_not_resumed_unasked(
    project, pytester, monkeypatch
):
    """Their folders count, too: a killed controller leaves no run of the whole session."""
    monkeypatch.setenv("FAKE_GPUS", "2")
    parts = pytester.path / "mine" / "workers" / "20260601-120000-1"
    for worker in ("gw0", "gw1"):
        save(builders.run({}, []), parts / worker)

    result = project("-m", "h200", "--tp", "1", "-n", "2", "--run-dir", "mine")

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    result.stderr.fnmatch_lines(["*it holds a run already*", "*--resume*"])


def test_broken_baseline_names_file_and_field(project, pytester):
    """A baseline that is not JSON, or lacks a field, is an error with file, field and remedy."""
    record_ratio(project, pytester)
    file = next((pytester.path / "baselines").rglob("*.json"))
    content = json.loads(file.read_text())
    del content["identity"]
    file.write_text(json.dumps(content))
    lacking = project("-m", "cpu", "-k", RATIO)
    file.write_text("{")
    broken = project("-m", "cpu", "-k", RATIO)

    for result, word in ((lacking, "identity"), (broken, "JSON")):
        assert 1 == result.ret
        result.stdout.fnmatch_lines([f"*{file.name}*"])
        assert word in result.stdout.str()


def test_unknown_engine_is_a_usage_error(project):
    """A misspelt engine is answered with those that exist."""
    result = project("-m", "cpu", "--engine", "vlm")

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    result.stderr.fnmatch_lines(["*no engine vlm*", "*use one of*vllm*"])


def test_missing_engine_says_how_to_get_it(project):
    """A Python that is not there is refused before anything starts, with the remedy."""
    result = project(
        "-m", "cpu", "-k", RATIO, "--engine-python", "fake=/nowhere/python"
    )

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    result.stderr.fnmatch_lines(
        ["*/nowhere/python is not an executable file*", "*correct the path*"]
    )


@pytest.mark.parametrize(
    ("misbehaviour", "launches", "said"),
    [
        ("mixtral-small: --exit-at-start 3", 0, "exit"),
        ("mixtral-small: --die-after-requests 100", 2, "launching it again"),
        (
            "mixtral-small: --die-after-requests 100 --linger 1.5",
            2,
            "exited with status 1, during: measuring; launching it again",
        ),
        ("mixtral-small: --stall-after-tokens 3000", 2, "launching it again"),
    ],
    ids=[
        "exits at start",
        "dies in the middle",
        "outlives its connections",
        "hangs in the middle",
    ],
)
def test_a_server_that_fails_spoils_only_its_own_cases(
    project, pytester, monkeypatch, misbehaviour, launches, said
):
    """The other model's cases are judged; a failing server that was ready is launched again."""
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", misbehaviour)

    result = project(
        "-m", "cpu", "-k", "test_output_throughput", "--stall-timeout", "5"
    )

    results = load(newest_run(pytester))
    launched = [launch.server for launch in results.launches]
    assert (1, launches) == (
        launched.count("fake-llama-small-tp2"),
        launched.count("fake-mixtral-small-tp2"),
    )
    assert said in result.stdout.str()
    judged = {row.case.split("/")[0]: row.outcome for row in results.verdicts}
    assert "NO_BASELINE" == judged["fake-llama-small-tp2"]
    assert "INVALID" == judged["fake-mixtral-small-tp2"]


def test_a_failed_start_is_told_whole_once_and_kept(
    project, pytester, monkeypatch
):
    """Four cases need that server: one shows the log, the others and the run's data refer to it."""
    monkeypatch.setenv("FAKE_GPUS", "1")
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", "mixtral-8x7b: --exit-at-start 3")

    result = project(
        "-m",
        "h200",
        "--tp",
        "1",
        "-k",
        "test_single_stream",
        "--perf-report=yes",
        "--run-dir",
        "run",
    )

    assert (1, {"failed": 6, "passed": 1, "skipped": 4}) == (
        result.ret,
        outcomes(result),
    )
    shown = result.stdout.str()
    assert (1, 5) == (
        shown.count("its last 40 lines"),
        shown.count("; details in tests/"),
    )
    assert "During handling" not in shown
    result.stdout.fnmatch_lines(
        [
            "*9 judged, 5 failed*",
            "*x1; failed: fake-mixtral-8x7b-tp1",
            "SKIPPED [[]4[]]*",
        ]
    )
    results = load(pytester.path / "run")
    assert ["fake-mixtral-8x7b-tp1"] == list(results.failures)
    assert (
        "its last 40 lines" in results.failures["fake-mixtral-8x7b-tp1"].detail
    )
    rows = [row for row in results.verdicts if "mixtral" in row.case]
    assert 6 * ["INVALID"] == [row.outcome for row in rows]
    assert all(
        "fake-mixtral-8x7b-tp1 failed: exited with status 3" in render(row)
        for row in rows
    )
    assert (
        "5 of 9 rows invalid"
        in (pytester.path / "run" / "summary.md").read_text()
    )


def test_a_failed_start_in_one_worker_stands_in_the_run(
    project, pytester, monkeypatch
):
    """What another worker could not launch is INVALID here too, and their one run says why."""
    monkeypatch.setenv("FAKE_GPUS", "2")
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", "mixtral-8x7b: --exit-at-start 3")

    result = project(
        "-m",
        "h200",
        "--tp",
        "1",
        "-n",
        "2",
        "-k",
        "test_single_stream",
        "--run-dir",
        "run",
    )

    assert (1, {"failed": 6, "passed": 1, "skipped": 4}) == (
        result.ret,
        outcomes(result),
    ), result.stdout.str()
    results = load(pytester.path / "run")
    assert ["fake-mixtral-8x7b-tp1"] == list(results.failures)
    assert 6 == sum(row.outcome == "INVALID" for row in results.verdicts)


def test_workers_share_launches_and_make_one_run(
    project, pytester, monkeypatch
):
    """With -n 2 on two GPUs each server is launched once on one GPU; their ratio is judged."""
    monkeypatch.setenv("FAKE_GPUS", "2")

    result = project(
        "-m",
        "h200",
        "--tp",
        "1",
        "-n",
        "2",
        "-k",
        "test_single_stream",
        "--run-dir",
        "run",
    )

    assert (0, {"passed": 2, "skipped": 9}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    results = load(pytester.path / "run")
    assert [0, 0] == [launch.index for launch in results.launches]
    assert {
        launch.start.env["CUDA_VISIBLE_DEVICES"] for launch in results.launches
    } <= {"0", "1"}
    assert 11 == len(results.verdicts)
    result.stdout.fnmatch_lines(["*9 judged, 0 failed*", "launches: *x1, *x1"])


def test_more_workers_than_gpus_are_refused(project, monkeypatch):
    """A worker that could only wait for another one's GPUs is a usage error."""
    monkeypatch.setenv("FAKE_GPUS", "2")

    result = project("-m", "h200", "--tp", "2", "-n", "2")

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    result.stderr.fnmatch_lines(["*1 server of 2 GPUs fit at the same time*"])


def test_attached_server_is_measured_and_left_alone(project, pytester):
    """An external server is measured and lives on; what cannot be known is reported."""
    with fake_suite.running(itl_s=0.004) as url:
        result = project(
            "-m",
            "cpu",
            "-k",
            "test_output_throughput",
            "--attach",
            f"fake={url}",
        )

        results = load(newest_run(pytester))
        # Nothing is recorded, neither of the value nor of the ratio.
        assert {"skipped": 2} == outcomes(result)
        assert ["fake-llama-small-tp2"] == [
            launch.server for launch in results.launches
        ]
        assert "external server" in results.launches[0].notes[0]
        assert 200 == fake_suite.health(url)


def test_the_order_of_files_does_not_matter(project, pytester):
    """Files named in any order, comparisons first: each server is still launched once."""
    files = [
        f"tests/perf/test_{name}.py"
        for name in ("single_stream", "saturated_throughput", "efficiency")
    ]

    project("-m", "cpu", "-k", "over", *files, "--run-dir", "one")
    project("-m", "cpu", "-k", "over", *reversed(files), "--run-dir", "two")

    for run in ("one", "two"):
        results = load(pytester.path / run)
        assert [0, 0] == [launch.index for launch in results.launches]
        assert 3 == len(results.verdicts)


def test_misspelt_mark_on_a_test_is_an_error(project, pytester):
    """A mark that does not exist stops the collection, on every supported pytest."""
    (pytester.path / "tests" / "test_typo.py").write_text(
        "import pytest\n@pytest.mark.h2oo\ndef test_it(): pass\n"
    )

    result = project()

    assert pytest.ExitCode.INTERRUPTED == result.ret
    result.stdout.fnmatch_lines(["*'h2oo' not found in `markers`*"])


def test_two_engines_are_compared(project, pytester):
    """With two engines each model's servers are compared in one session; with one, none is.

    With -v their settings are shown, too.
    """
    rival = [
        "-v",
        "--engine",
        "rival",
        "--engine-python",
        f"rival={sys.executable}",
    ]
    result = project("-m", "cpu", "-k", "test_engine_over_engine_alone", *rival)

    assert {"skipped": 2} == outcomes(result)  # nothing is recorded for them
    result.stdout.fnmatch_lines(
        ["*E9*rival-*-small-tp2 / fake-*-small-tp2, single-stream*NO_BASELINE*"]
    )
    result.stdout.fnmatch_lines(
        ["rival-llama-small-tp2: kv_cache_tokens 4096, *max_model_len 1024*"]
    )
    launched = load(newest_run(pytester)).launches
    assert sorted(
        f"{engine}-{model}-small-tp2"
        for engine in ("fake", "rival")
        for model in ("llama", "mixtral")
    ) == sorted(launch.server for launch in launched)
    assert {} == outcomes(
        project("-m", "cpu", "-k", "test_engine_over_engine_alone")
    )
