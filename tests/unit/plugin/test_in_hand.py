"""Servers in hand: a test starts a server, sends it load, and has a number judged.

Whole runs of pytest with the fake engine and a fake NVML.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from perfgate.results.schema import load
from tests.support import fake_suite
from tests.support.projects import (
    DENSE,
    H200,
    MOE,
    ROOT,
    outcomes,
    perfgate,
    verdicts,
)

pytest_plugins = ["pytester"]

HEAD = """
import time
from pathlib import Path

import pytest

LOAD = dict(
    num_prompts=8, max_concurrency=4, repetitions=2, input_len_tokens=8, output_len_tokens=20
)
"""
CHAT = f"""{HEAD}
@pytest.mark.perf
def test_chat(perf_server, perf_load, perf_gate):
    perf_gate("itl_median_ms", perf_load(perf_server(), "chat", **LOAD))
"""
CASE = f"{DENSE}/chat/itl_median_ms"
NUMBER = f"""{HEAD}
@pytest.mark.perf
def test_number(perf_server, perf_gate):
    value = float(Path("value.txt").read_text())
    perf_gate("tokenise_ms", value=value, unit="ms", server=perf_server())
"""


@pytest.fixture
def hand(gpus, pytester):
    """Run pytest on one fake H200 with these tests alone."""

    def run(text: str, *options: str):
        (pytester.path / "tests" / "perf" / "test_small.py").write_text(text)
        return gpus(*H200, "tests/perf", *options)

    return run


def another(name: str) -> str:
    """The test of `CHAT` once more, under another name."""
    return CHAT.removeprefix(HEAD).replace("test_chat", name)


def accepted(pytester, run: str = "recorded") -> None:
    """Take a run over as the project's baselines."""
    done = perfgate(pytester, "accept", run)
    assert 0 == done.ret, done.outlines + done.errlines


def gone(pid: int) -> bool:
    """Whether a process has ended, or ends within a minute."""
    until = time.monotonic() + 60
    while psutil.pid_exists(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not psutil.pid_exists(pid)


def test_a_server_is_started_once(hand, pytester):
    """However many tests ask for it, and however they name it; it is gone when the session ends."""
    servers = (ROOT / "fixtures" / "servers.py").read_text()
    (pytester.path / "study_servers.py").write_text(servers)
    text = f"""{HEAD}
@pytest.mark.perf
def test_first(dense_server):
    assert dense_server.config.model == dense_server.model == "llama-3.1-8b"

@pytest.mark.perf
def test_second(perf_server, dense_server):
    assert perf_server() == perf_server(model="llama-3.1-8b") == dense_server
    assert perf_server(dense_server.config, tensor_parallel_size=1).url == dense_server.url

@pytest.mark.perf
def test_third(dense_server, perf_load):
    load = perf_load(dense_server, "chat", **LOAD)
    assert load.value("itl_median_ms") == 1.0

@pytest.mark.perf
def test_last(moe_server):
    assert moe_server.model == "mixtral-8x7b"
"""
    result = hand(text, "-p", "study_servers", "--run-dir", "run")

    assert (0, {"passed": 4}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    launches = load(pytester.path / "run").launches
    assert [DENSE, MOE] == [launch.server for launch in launches]
    assert all(gone(launch.start.pid) for launch in launches)
    assert all(launch.start.stop is not None for launch in launches)


def test_the_server_of_a_test_that_raises_is_ended(hand, pytester):
    """The test's own error is told; nothing stays behind."""
    text = f"""{HEAD}
@pytest.mark.perf
def test_raises(perf_server):
    perf_server()
    raise LookupError("of the test's own")
"""
    result = hand(text, "--run-dir", "run")

    assert (1, {"failed": 1}) == (result.ret, outcomes(result))
    result.stdout.fnmatch_lines(["*LookupError: of the test's own"])
    (launch,) = load(pytester.path / "run").launches
    assert gone(launch.start.pid)


def test_the_server_of_a_killed_session_is_ended(gpus, pytester):
    """SIGKILL leaves pytest no time to end anything: the supervisor does."""
    text = f"""{HEAD}
@pytest.mark.perf
def test_waits(perf_server):
    perf_server()
    time.sleep(600)
"""
    (pytester.path / "tests" / "perf" / "test_small.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        *H200,
        "--run-dir=run",
    ]
    command += fake_suite.options(pytester.path / "models")
    with subprocess.Popen(
        command, cwd=pytester.path, stdout=subprocess.DEVNULL
    ) as session:
        pid = _pid_of_server(pytester.path / "run", session)
        os.kill(session.pid, signal.SIGKILL)

    assert gone(pid)


def _pid_of_server(run: Path, session: subprocess.Popen) -> int:
    until = time.monotonic() + 60
    while session.poll() is None and time.monotonic() < until:
        if (run / "results.json").exists() and load(run).launches:
            return load(run).launches[0].start.pid
        time.sleep(0.05)
    raise AssertionError("no server was started")


def test_a_server_that_dies_fails_the_test_with_one_message(
    hand, pytester, monkeypatch
):
    """What was sent, how it died, what to do; no traceback, and the run says so too."""
    monkeypatch.setenv(
        "FAKE_MISBEHAVIOUR",
        "llama-3.1-8b: --die-after-requests 6 --exit-code 7",
    )

    result = hand(CHAT, "--run-dir", "run")

    assert (1, {"failed": 1}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    text = result.stdout.str()
    assert "exited with status 7" in text
    assert "Traceback" not in text
    assert "in_hand.py" not in text
    (row,) = load(pytester.path / "run").measurements
    assert "status 7" in row.failure.seen


def test_a_server_that_does_not_start_is_tried_once(
    hand, pytester, monkeypatch
):
    """Its message is shown whole once, and named after that."""
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", "llama-3.1-8b: --exit-at-start 3")

    result = hand(CHAT + another("test_again"), "--run-dir", "run")

    assert (1, {"failed": 2}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    assert 1 == result.stdout.str().count("its last 40 lines")
    assert 1 == len(list((pytester.path / "run" / "logs").iterdir()))


def test_from_no_baseline_to_a_regression(hand, pytester):
    """NO_BASELINE is skipped; accepted it passes; a slower server fails after two more."""
    first = hand(
        CHAT, "--baseline-record", "--run-dir", "recorded", "--launches", "3"
    )
    accepted(pytester)
    same = hand(CHAT, "--run-dir", "same")
    slower = hand(
        CHAT, "--run-dir", "slower", "--inject-delay", "llama-3.1-8b=1"
    )

    assert {"skipped": 1} == outcomes(first), first.stdout.str()
    assert {CASE: "NO_BASELINE"} == verdicts(pytester.path / "recorded")
    assert 3 == len(load(pytester.path / "recorded").launches)
    assert ({"passed": 1}, {CASE: "PASSED"}) == (
        outcomes(same),
        verdicts(pytester.path / "same"),
    )
    assert 1 == len(load(pytester.path / "same").launches)
    assert {"failed": 1} == outcomes(slower), slower.stdout.str()
    assert {CASE: "REGRESSED"} == verdicts(pytester.path / "slower")
    assert 3 == len(load(pytester.path / "slower").launches)
    assert (0, 1) == tuple(
        perfgate(pytester, "judge", run).ret for run in ("same", "slower")
    )


def test_a_question_and_a_server_in_hand_share_a_launch(hand, pytester):
    """What a question needs besides the test's load is sent to the same server."""
    text = f"""{CHAT}
from perfgate.load.workload import Synthetic, Workload

def question(study):
    prompts = Synthetic(input_len_tokens=8, output_len_tokens=10)
    other = Workload(name="other", num_prompts=4, repetitions=1, prompts=prompts)
    yield study.value("E1", "itl_median_ms", study.dense, other)
    yield study.value("E6", "memory_peak_bytes", study.dense, None)

@pytest.mark.perf(cases=question)
def test_question(check, case):
    check(case)
"""
    result = hand(text, "--run-dir", "run")

    assert {"skipped": 3} == outcomes(result), result.stdout.str()
    results = load(pytester.path / "run")
    assert {"NO_BASELINE"} == {row.outcome for row in results.verdicts}
    assert [(DENSE, 0)] == [
        (launch.server, launch.index) for launch in results.launches
    ]
    assert {"chat", "other"} == {row.workload for row in results.measurements}


def test_a_number_of_ones_own_is_judged(hand, pytester):
    """Compared with its baseline like any other value.

    Where one launch does not decide it says so; twice the threshold
    decides.
    """
    for number in range(3):
        (pytester.path / "value.txt").write_text("3.2")
        hand(NUMBER, "--baseline-record", "--run-dir", f"recorded-{number}")
    done = perfgate(
        pytester, "accept", *(f"recorded-{number}" for number in range(3))
    )
    assert 0 == done.ret, done.outlines + done.errlines
    same = hand(NUMBER, "--run-dir", "same")
    (row,) = load(pytester.path / "same").verdicts
    (pytester.path / "value.txt").write_text(
        str(3.2 * (1 + 1.2 * row.threshold))
    )
    slower = hand(NUMBER, "--run-dir", "slower")
    (pytester.path / "value.txt").write_text(
        str(3.2 * (1 + 2.1 * row.threshold))
    )
    slowest = hand(NUMBER, "--run-dir", "slowest")

    case = f"{DENSE}/launch/tokenise_ms"
    assert ({"passed": 1}, {case: "PASSED"}) == (
        outcomes(same),
        verdicts(pytester.path / "same"),
    )
    assert {case: "INCONCLUSIVE"} == verdicts(pytester.path / "slower"), (
        slower.stdout.str()
    )
    slower.stdout.fnmatch_lines(
        ["*the test measures this number once a session: run it again*"]
    )
    assert ({"failed": 1}, {case: "REGRESSED"}) == (
        outcomes(slowest),
        verdicts(pytester.path / "slowest"),
    )
    (row,) = load(pytester.path / "slowest").verdicts
    assert any("cannot repeat its one launch" in text for text in row.details)
    assert 0 == perfgate(pytester, "judge", "same").ret


def test_what_cannot_be_meant_is_refused_by_name(hand):
    """A misspelt argument, an unknown model, workload or metric, and a number that is none."""
    text = f"""{HEAD}
@pytest.mark.perf
def test_server(perf_server):
    perf_server(tensor_paralel_size=1)

@pytest.mark.perf
def test_model(perf_server):
    perf_server(model="llama-3.1-8")

@pytest.mark.perf
def test_workload(perf_server, perf_load):
    perf_load(perf_server(), "no-such")

@pytest.mark.perf
def test_load(perf_server, perf_load):
    perf_load(perf_server(), "chat", num_promts=8)

@pytest.mark.perf
def test_type(perf_server):
    perf_server(max_model_len="long")

@pytest.mark.perf
def test_name(perf_server, perf_load):
    perf_load(perf_server(), "my chat", **LOAD)

@pytest.mark.perf
def test_metric(perf_server, perf_load, perf_gate):
    perf_gate("itl_medain_ms", perf_load(perf_server(), "chat", **LOAD))

@pytest.mark.perf
def test_other_load(perf_server, perf_load):
    perf_load(perf_server(), "chat", **(LOAD | dict(num_prompts=4)))

@pytest.mark.perf
def test_nothing(perf_gate):
    perf_gate("itl_median_ms")

@pytest.mark.perf
def test_negative(perf_server, perf_gate):
    perf_gate("tokenise_ms", value=-1.0, unit="ms", server=perf_server())

@pytest.mark.perf
def test_text(perf_server, perf_gate):
    perf_gate("tokenise_ms", value="3 ms", unit="ms", server=perf_server())

@pytest.mark.perf
def test_direction(perf_server, perf_gate):
    perf_gate("hash_ms", value=1.0, unit="ms", better="smaller", server=perf_server())

@pytest.mark.perf
def test_slash(perf_server, perf_gate):
    perf_gate("hash/ms", value=1.0, unit="ms", server=perf_server())

@pytest.mark.perf
def test_dtype(perf_server):
    perf_server(dtype="bf16")

@pytest.mark.perf
def test_whole(perf_server, perf_load):
    from perfgate.load.workload import Workload
    perf_load(perf_server(), Workload(name="whole", num_prompts=8), max_concurrency=4)

@pytest.mark.perf
def test_twice(perf_server, perf_gate):
    for _ in range(2):
        try:
            perf_gate("tokenise_ms", value=1.0, unit="ms", server=perf_server())
        except pytest.skip.Exception:
            pass
"""
    result = hand(text)

    assert (1, {"failed": 16}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    shown = result.stdout.str()
    for said in (
        "no such argument: tensor_paralel_size",
        "did you mean llama-3.1-8b?",
        "looking up the workload 'no-such' of platform h200",
        "no such argument: num_promts",
        "num_prompts, request_rate",
        "client_processes, asks_routing",
        "Expected `int`, got `str`: max_model_len",
        "the name is no valid file name",
        "no such metric: 'itl_medain_ms'",
        "use another name: perf_load",
        "neither a load nor a value with its server was given",
        "its value is -1.0",
        "its value is '3 ms'",
        "Invalid enum value 'smaller' - at `better`",
        "naming the metric 'hash/ms'",
        "dtype is 'bf16'",
        "it is a whole Workload, and further fields were given: max_concurrency",
        "use another metric name for each number",
    ):
        assert said in shown, said
    assert "Traceback" not in shown
    assert 1 == shown.count("ready (")


def test_an_interrupted_session_is_resumed(hand, pytester):
    """--resume keeps the launch of before; the test, which runs again, adds one of its own."""
    hand(CHAT, "--run-dir", "run")
    again = hand(CHAT, "--run-dir", "run", "--resume")

    assert {"skipped": 1} == outcomes(again), again.stdout.str()
    results = load(pytester.path / "run")
    assert [0, 1] == [launch.index for launch in results.launches]
    assert 2 == results.verdicts[-1].launches


def test_an_attached_server_is_taken_in_hand(hand, pytester):
    """It is measured, not launched, and left alone."""
    with fake_suite.running(itl_s=0.001) as url:
        text = CHAT.replace("perf_server()", 'perf_server(model="llama-small")')
        result = hand(text, "--attach", f"fake={url}")
        health = fake_suite.health(url)

    assert {"skipped": 1} == outcomes(result), result.stdout.str()
    assert 200 == health
    assert "launching" not in result.stdout.str()


def test_two_builds_are_compared_with_a_server_in_hand(hand, pytester):
    """Three pairs in turn decide a metric of a load; a number of the test's own has no base."""
    against = ("--against-engine", f"fake={sys.executable}")
    (pytester.path / "value.txt").write_text("3.2")

    load_ = hand(CHAT, *against, "--run-dir", "load")
    number = hand(NUMBER, *against)

    assert (0, {"passed": 1}) == (load_.ret, outcomes(load_)), (
        load_.stdout.str()
    )
    assert {CASE: "PASSED"} == verdicts(pytester.path / "load")
    assert 6 == len(load(pytester.path / "load").launches)
    assert (1, {"failed": 1}) == (number.ret, outcomes(number))
    number.stdout.fnmatch_lines(
        ["*leave --against-engine out, or judge a metric of a load*"]
    )


def test_workers_start_no_server_in_hand(hand, pytester, monkeypatch):
    """With -n such a test is skipped, with the reason; --gate=required fails then."""
    monkeypatch.setenv("FAKE_GPUS", "2")

    result = hand(CHAT, "-n", "2")
    required = hand(CHAT, "-n", "2", "--gate=required")

    assert (0, {"skipped": 1}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    result.stdout.fnmatch_lines(["*which workers cannot share: leave -n out*"])
    assert 1 == required.ret


def test_what_this_machine_lacks_is_the_reason_of_a_skip(hand, pytester):
    """Advisory it is skipped, required it fails, whether or not anything else was measured."""
    text = f"""{CHAT}
@pytest.mark.perf
def test_large(perf_server):
    perf_server(tensor_parallel_size=2)
"""
    large = hand(text, "-k", "large")
    required = hand(text, "-k", "large", "--gate=required")
    both = hand(text, "--run-dir", "both")

    assert (0, {"skipped": 1}) == (large.ret, outcomes(large)), (
        large.stdout.str()
    )
    large.stdout.fnmatch_lines(["*needs 2x H200, found 1x NVIDIA H200*"])
    assert 1 == required.ret
    assert {"skipped": 2} == outcomes(both)
    (reason,) = load(pytester.path / "both").lacking.values()
    assert "needs 2x H200" in reason


def test_a_server_on_more_gpus_than_are_leased_is_not_started(
    hand, pytester, monkeypatch
):
    """The study's servers use one of the two: --tp 2, as it is told, leases both."""
    monkeypatch.setenv("FAKE_GPUS", "2")
    text = f"""{HEAD}
@pytest.mark.perf
def test_large(perf_server):
    perf_server(tensor_parallel_size=2)
"""
    refused = hand(text)
    started = hand(text, "--tp", "2", "--run-dir", "run")

    assert (1, {"failed": 1}) == (refused.ret, outcomes(refused))
    refused.stdout.fnmatch_lines(
        ["*it needs 2 GPUs, and this session has leased 1*", "*add --tp 2*"]
    )
    assert {"passed": 1} == outcomes(started), started.stdout.str()
    (launch,) = load(pytester.path / "run").launches
    assert "0,1" == launch.start.env["CUDA_VISIBLE_DEVICES"]


def test_what_is_not_selected_is_told(hand, pytester):
    """A test with a server in hand that -k leaves out is a part of the suite that is missing."""
    hand(CHAT + another("test_other"), "-k", "test_chat", "--run-dir", "run")

    (told,) = load(pytester.path / "run").left_out
    assert "1 case not selected (-k" in told


def test_the_plan_tells_of_servers_in_hand(hand):
    """What such a test launches is known when it runs."""
    result = hand(CHAT, "--plan")

    result.stdout.fnmatch_lines(["1 test with servers of its own: *"])
    assert 0 == result.ret


def test_one_server_lives_at_a_time(hand, pytester):
    """Another one ends it; load and numbers of the first are still of the first."""
    text = f"""{HEAD}
@pytest.mark.perf
def test_two(perf_server, perf_load, perf_gate):
    first, second = perf_server(), perf_server(model="mixtral-8x7b")
    assert perf_load(second, "chat", **LOAD).value("itl_median_ms") == 2.0
    perf_gate("tokenise_ms", value=3.2, unit="ms", server=first)

@pytest.mark.perf
def test_again(perf_server, perf_load):
    assert perf_load(perf_server(), "chat", **LOAD).value("itl_median_ms") == 1.0
"""
    result = hand(text, "--run-dir", "run")

    assert {"passed": 1, "skipped": 1} == outcomes(result), result.stdout.str()
    launches = load(pytester.path / "run").launches
    assert [(DENSE, 0), (MOE, 0), (DENSE, 1)] == [
        (row.server, row.index) for row in launches
    ]
    assert 3.2 == launches[0].values["tokenise_ms"]


def test_one_gpu_is_enough_for_a_server_on_one(gpus, pytester):
    """The study's servers have two ranks; a test that asks for one needs no --tp."""
    text = CHAT.replace("perf_server()", "perf_server(tensor_parallel_size=1)")
    (pytester.path / "tests" / "perf" / "test_small.py").write_text(text)
    result = gpus("-m", "h200", "tests/perf", "--run-dir", "run")

    assert {"skipped": 1} == outcomes(result)
    assert [DENSE] == [
        launch.server for launch in load(pytester.path / "run").launches
    ]
