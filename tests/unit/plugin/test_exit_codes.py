"""Exit codes: each verdict and each kind of incomplete run, with and without workers.

Whole runs of pytest with --gate=required, on two H200s that do not exist.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from perfgate.results.schema import load
from tests.support import fake_suite
from tests.support.projects import (
    newest_run,
    outcomes,
    record,
    record_once,
    verdicts,
)

pytest_plugins = ["pytester"]
HERE = ("-m", "h200", "--tp", "1")
REQUIRED = (*HERE, "--gate=required")
# Five metrics of each of three servers, the third one being the sparse model
# under expert parallelism.
PERF = """
import os
import pytest
from msgspec.structs import replace
from perfgate.cases import Load
from perfgate.load.workload import Synthetic, Workload


LOAD = Workload(
    name="closed",
    num_prompts=8,
    max_concurrency=4,
    repetitions=1,
    prompts=Synthetic(output_len_tokens=8),
)
METRICS = (
    "output_throughput",
    "itl_median_ms",
    "tpot_median_ms",
    "e2el_median_ms",
    "ttft_median_ms",
)

def alone(study):
    for server in (study.moe, study.dense, replace(study.moe, expert_parallel=True)):
        for metric in METRICS[: int(os.environ.get("HOW_MANY", 1))]:
            yield study.value("E1", metric, server, LOAD)

def compared(study):
    of, over = (Load(server=server, workload=LOAD) for server in (study.dense, study.moe))
    yield study.ratio("E1", "output_throughput", of, over)

@pytest.mark.perf(cases=alone)
def test_alone(check, case):
    if os.environ.get("CRASH") and "-ep/" in case.id:
        os._exit(9)
    check(case)

@pytest.mark.perf(cases=compared)
def test_compared(check, case):
    check(case)
"""
# What --lf does to a file, without what it remembers.
DROPPING = """
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if isinstance(collector, pytest.Module):
        report.result = [item for item in report.result if "test_compared" in item.nodeid]
    return report
"""
SLOW_MOE = "mixtral-8x7b: --set itl_s=0.05"
MOE, DENSE, MOE_EP = (
    "fake-mixtral-8x7b-tp1",
    "fake-llama-3.1-8b-tp1",
    "fake-mixtral-8x7b-tp1-ep",
)


@pytest.fixture(params=[(), ("-n", "2")], ids=["alone", "two workers"])
def small(project, pytester, monkeypatch, request):
    """A project of four cases on three servers; runs pytest there, with two workers or without."""
    monkeypatch.setenv("FAKE_GPUS", "2")
    for file in (pytester.path / "tests" / "perf").iterdir():
        file.unlink()
    (pytester.path / "tests" / "perf" / "test_small.py").write_text(PERF)
    return lambda *args: project(*args, *request.param)


def test_only_the_whole_suite_passes(small, project, pytester, monkeypatch):
    """All cases judged and passed is 0.

    A part of them, an early end or a lost worker is not, whatever passed.
    """
    record_once(project, pytester, *HERE)

    whole = small(*REQUIRED)
    some = small(*REQUIRED, "-k", "test_compared")
    named = small(*REQUIRED, "tests/perf/test_small.py::test_compared")
    monkeypatch.setenv("CRASH", "1")
    crashed = small(*REQUIRED, "--run-dir", "crashed")
    monkeypatch.delenv("CRASH")
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", "llama-3.1-8b: --set itl_s=0.1")
    stopped = small(*REQUIRED, "--maxfail=1", "--run-dir", "stopped")
    (pytester.path / "tests" / "perf" / "test_more.py").write_text("")
    file = small(*REQUIRED, "tests/perf/test_small.py")

    assert (0, {"passed": 4}) == (whole.ret, outcomes(whole)), (
        whole.stdout.str()
    )
    assert (1, {"passed": 1}) == (some.ret, outcomes(some))
    some.stdout.fnmatch_lines(
        [
            "*Only part of the suite ran (fails the run); not run: 3 cases not selected (-k**"
        ]
    )
    assert (1, {"passed": 1}) == (named.ret, outcomes(named))
    named.stdout.fnmatch_lines(
        [
            "*Only part of the suite ran (fails the run); "
            "not run: 3 cases not selected (*a test id*"
        ]
    )
    assert 0 != crashed.ret
    assert 0 != stopped.ret
    stopped.stdout.fnmatch_lines(
        [
            "The run ended early. Resume it: the same command with --run-dir=*stopped --resume"
        ]
    )
    assert [False, False] == [
        load(pytester.path / run).complete for run in ("crashed", "stopped")
    ]
    assert 1 == file.ret
    file.stdout.fnmatch_lines(
        [
            "*Only part of the suite ran (fails the run); not run: tests/perf/test_more.py*"
        ]
    )


def test_parts_of_one_run_make_the_whole(small, project, pytester):
    """The first part fails because it is one; the last passes, each case decided once."""
    record_once(project, pytester, *HERE)
    run = (*REQUIRED, "--run-dir", "run")

    first = small(*run, "-k", "test_alone")
    last = small(*run, "--resume", "-k", "test_compared")

    assert (1, {"passed": 3}) == (first.ret, outcomes(first))
    assert (0, {"passed": 1}) == (last.ret, outcomes(last)), last.stdout.str()
    results = load(pytester.path / "run")
    assert ((), 4, 4) == (
        results.left_out,
        len(results.verdicts),
        len(verdicts(pytester.path / "run")),
    )


def test_dropping_tests_silently_does_not_pass(
    small, project, pytester, monkeypatch
):
    """--lf drops tests and tells no plugin of it; an expected failure makes pytest itself pass."""
    record_once(project, pytester, *HERE)
    dropping = pytester.path / "tests" / "conftest.py"
    dropping.write_text(DROPPING)
    some = small(*REQUIRED)
    dropping.unlink()
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", "mixtral-8x7b-ep: --set itl_s=0.1")
    perf = pytester.path / "tests" / "perf" / "test_small.py"
    perf.write_text(
        "import pytest\npytestmark = pytest.mark.xfail(strict=False)\n" + PERF
    )
    expected = small(*REQUIRED)

    assert (1, {"passed": 1}) == (some.ret, outcomes(some))
    some.stdout.fnmatch_lines(
        [
            "*Only part of the suite ran (fails the run); not run: 3 cases not selected (*--lf*"
        ]
    )
    assert (1, {"xfailed": 1, "xpassed": 3}) == (
        expected.ret,
        outcomes(expected),
    )


def test_nothing_judged_never_passes(small, pytester):
    """Nothing selected, nothing that can run on the GPU, nothing recorded: each fails with why."""
    nothing = small(*REQUIRED, "-k", "no_such_test")
    other = small("-m", "h100", "--tp", "1", "--gate=required")
    missing = small(*REQUIRED)

    assert pytest.ExitCode.NO_TESTS_COLLECTED == nothing.ret
    assert (1, {"skipped": 4}) == (other.ret, outcomes(other))
    other.stdout.fnmatch_lines(["*needs 1x H100, found 2x*H200*"])
    assert (1, {"skipped": 4}) == (missing.ret, outcomes(missing))
    missing.stdout.fnmatch_lines(["Nothing was judged against a baseline*"])
    assert {"NO_BASELINE"} == set(verdicts(newest_run(pytester)).values())


def test_every_verdict(small, pytester, monkeypatch):
    """One run in which each verdict occurs; all but PASSED and IMPROVED fail a strict gate."""
    monkeypatch.setenv("HOW_MANY", "5")
    # As slow as the memory of an H200 permits: a gain must not look impossible.
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", SLOW_MOE)
    record(small, pytester, *HERE)
    file = next((pytester.path / "baselines").glob(f"*/{MOE}/closed.json"))
    content = json.loads(file.read_text())
    for metric, factor in (("itl_median_ms", 1.2), ("tpot_median_ms", 0.5)):
        for launch in content["metrics"][metric]["launches"]:
            launch["value"] *= factor
    del content["metrics"]["ttft_median_ms"]
    content["metrics"]["e2el_median_ms"]["definition"] = "another one"
    file.write_text(json.dumps(content))
    # The last one is faster than the baseline, so that they contradict each other.
    (pytester.path / "itl_s").write_text("0.03\n0.1\n0.0008")
    dense, sparse = (
        f"--itl-s-in-turn {pytester.path / 'itl_s'}",
        '--set fault="short_count"',
    )
    monkeypatch.setenv(
        "FAKE_MISBEHAVIOUR",
        f"llama-3.1-8b: {dense}; mixtral-8x7b-ep: {sparse}; {SLOW_MOE}",
    )

    result = small(*HERE, "--gate=strict", "--run-dir", "run")

    found = verdicts(pytester.path / "run")
    assert 1 == result.ret
    assert {
        "output_throughput": "PASSED",
        "itl_median_ms": "IMPROVED",
        "tpot_median_ms": "REGRESSED",
        "e2el_median_ms": "INCOMPARABLE",
        "ttft_median_ms": "NO_BASELINE",
    } == {
        case.split("/")[-1]: outcome
        for case, outcome in found.items()
        if case.startswith(f"{MOE}/")
    }
    assert "INCONCLUSIVE" == found[f"{DENSE}/closed/itl_median_ms"]
    assert "INVALID" == found[f"{MOE_EP}/closed/itl_median_ms"]
    # The dense TTFT moved by less than its floor of 3 ms.
    assert {"passed": 2, "failed": 14} == outcomes(result)


def test_interrupted_run_is_no_verdict(small, pytester, monkeypatch, request):
    """Ctrl-C while a server starts ends the run as interrupted and incomplete."""
    monkeypatch.setenv(
        "FAKE_MISBEHAVIOUR",
        "llama-3.1-8b: --ready-after 100; mixtral-8x7b: --ready-after 100",
    )
    options = (
        *fake_suite.options(pytester.path / "models"),
        *REQUIRED,
        *request.node.callspec.params["small"],
    )
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--run-dir",
            "run",
            *options,
        ],
        cwd=pytester.path,
        start_new_session=True,
        # A shell ignores it for what it starts in the background.
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),
        stdout=subprocess.DEVNULL,
    ) as running:
        until = time.monotonic() + 120
        while (
            not list((pytester.path / "run").rglob("logs/*.log"))
            and time.monotonic() < until
        ):
            time.sleep(0.1)
        os.killpg(running.pid, signal.SIGINT)

        assert pytest.ExitCode.INTERRUPTED == running.wait(120)
    assert not load(pytester.path / "run").complete


def test_unused_baselines_are_named_after_whole_runs(small, project, pytester):
    """A recorded case without a test is named, once.

    Not where only some of the tests were selected, nor where a test asks for it with
    other options.
    """
    record_once(project, pytester, *HERE)
    perf = pytester.path / "tests" / "perf" / "test_small.py"
    perf.write_text(PERF.replace("cases=compared", "cases=lambda study: []"))

    whole = small(*HERE)
    listed = small(*HERE, "-v")
    some = small(*HERE, "-k", "8x7b")
    deep = "cases=lambda study: compared(study) if study.deep else []"
    perf.write_text(PERF.replace("cases=compared", deep))
    other = small(*HERE)

    ratio = f"{DENSE}--over--{MOE}/closed/output_throughput"
    whole.stdout.fnmatch_lines(
        [f"1 unused baseline of 2 servers (no test asks*): {ratio}"]
    )
    listed.stdout.fnmatch_lines(["1 unused baseline of*:", f"  {ratio}"])
    for result in (some, other):
        assert 0 == result.ret
        assert "unused baseline" not in result.stdout.str()


@pytest.mark.parametrize(
    ("options", "gate", "said"),
    [
        (
            ("--gate=required",),
            None,
            "no platform is selected, so nothing is judged",
        ),
        (
            (*REQUIRED, "--collect-only"),
            None,
            "--gate=required with --collect-only",
        ),
        ((*REQUIRED, "--plan"), None, "--gate=required with --plan"),
        (HERE, "Required", "PERFGATE_GATE=Required"),
    ],
    ids=["no-platform", "no-test", "plan", "no-such-gate"],
)
def test_a_gate_that_gates_nothing_is_a_usage_error(
    project, monkeypatch, options, gate, said
):
    """Asked to gate without anything to gate, or without a way: that does not pass either."""
    if gate:
        monkeypatch.setenv("PERFGATE_GATE", gate)

    result = project(*options)

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    result.stderr.fnmatch_lines([f"*{said}*"])
