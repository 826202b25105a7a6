"""Resumed sessions: after an interrupt, and with another selection.

Whole runs of pytest with the fake engine and a fake NVML, on a study of two
small workloads.
"""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from perfgate.errors import Failure
from perfgate.judge.baseline_store import Store
from perfgate.results.schema import RESULTS_FILE, load
from tests.support import fake_suite
from tests.support.projects import (
    DENSE,
    H200,
    MOE,
    outcomes,
    perfgate,
    verdicts,
)

pytest_plugins = ["pytester"]


def interrupted(pytester, *args: str, when) -> int:
    """Run pytest until `when` holds for the run's results, then interrupt it.

    As `timeout -s INT` does. Returns the exit status.
    """
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    command += [*fake_suite.options(pytester.path / "models"), *args]
    with (pytester.path / "interrupted.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=pytester.path,
            stdout=log,
            stderr=log,
            # A shell ignores it for what it starts in the background.
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.default_int_handler
            ),
        )
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            if when(load(pytester.path / "run")):
                break
        except Failure:
            pass
        time.sleep(0.02)
    assert process.poll() is None, (
        pytester.path / "interrupted.log"
    ).read_text()
    process.send_signal(signal.SIGINT)
    return process.wait(timeout=120)


def in_the_middle_of(server: str, index: int, workload: str):
    """Whether that launch has a repetition and wants more."""
    return lambda results: (
        any(
            (row.server, row.launch, row.workload) == (server, index, workload)
            for row in results.measurements
        )
        and not all(launch.measured for launch in results.launches)
    )


def test_an_interrupted_command_is_resumed(gpus, pytester, tmp_path):
    """Cut in launch 2 of 3, the next command begins with launch 2.

    Judged elsewhere, packed, it says the same.
    """
    options = (*H200, "-k", "test_long", "--launches", "3", "--run-dir", "run")

    status = interrupted(
        pytester, *options, when=in_the_middle_of(DENSE, 1, "long")
    )

    cut = load(pytester.path / "run")
    assert (pytest.ExitCode.INTERRUPTED, False) == (status, cut.complete)
    assert [True, False] == [launch.measured for launch in cut.launches]
    logs = {launch.start.log for launch in cut.launches}

    result = gpus(*options, "--resume", "--baseline-record")

    whole = load(pytester.path / "run")
    result.stdout.fnmatch_lines(
        ["*1 launches kept of 2*", "*launch 2 of 3*", "*launch 3 of 3*"]
    )
    result.stdout.fnmatch_lines(["time: * s in 2 commands: *"])
    assert cut.launches[0] == whole.launches[0]
    assert [0, 1, 2] == [launch.index for launch in whole.launches]
    assert [True] * 3 == [launch.measured for launch in whole.launches]
    assert (True, cut.run_id, 2) == (
        whole.complete,
        whole.run_id,
        len(whole.sessions),
    )
    assert 4 == len(logs | {launch.start.log for launch in whole.launches})
    assert [3] == [row.launches for row in whole.verdicts]

    shutil.copytree(pytester.path / "run", tmp_path / "elsewhere")
    file = tmp_path / "elsewhere" / RESULTS_FILE
    packed = file.with_name(file.name + ".gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    (pytester.path / "baselines").mkdir()
    for named in (packed.parent, packed):
        judged = perfgate(
            pytester, "judge", str(named), "--baselines", "baselines"
        )
        judged.stdout.fnmatch_lines(["*NO_BASELINE*", "1 judged, 0 failed*"])
    accepted = perfgate(
        pytester, "accept", str(packed), "--baselines", "baselines"
    )
    assert 0 == accepted.ret, accepted.errlines
    # A run's own launches do not judge it.
    assert ["NO_BASELINE"] == list(
        verdicts_again(pytester, tmp_path / "elsewhere")
    )


def verdicts_again(pytester, run_dir) -> list[str]:
    """The outcome of each case as `perfgate judge` shows it."""
    lines = perfgate(
        pytester, "judge", str(run_dir), "--baselines", "baselines"
    ).outlines
    return [line.split()[-1] for line in lines if line.strip().startswith("E1")]


def test_a_killed_command_keeps_its_launches(gpus, pytester):
    """Whatever ended it: launches that were whole are accepted, with their own ends."""
    options = (*H200, "-k", "test_long", "--launches", "2", "--run-dir", "run")
    interrupted(pytester, *options, when=in_the_middle_of(DENSE, 1, "long"))
    before, cut = load(pytester.path / "run").launches
    assert not cut.measured
    # As SIGKILL leaves it: no end was written down.
    results = json.loads((pytester.path / "run" / RESULTS_FILE).read_text())
    for launch in results["launches"]:
        launch["start"]["stop"] = None
    (pytester.path / "run" / RESULTS_FILE).write_text(json.dumps(results))

    resumed = gpus(*options, "--resume")

    resumed.stdout.fnmatch_lines(
        [
            f"*{DENSE}: cut off * s after its launch, measured again; *parts of the load with -k*"
        ]
    )
    launches = load(pytester.path / "run").launches
    assert (before.start.pid, None) == (
        launches[0].start.pid,
        launches[0].start.stop,
    )
    assert launches[1].start.stop is not None


def test_another_selection_keeps_what_it_does_not_ask(gpus, pytester):
    """Two commands with two -k make one run; the second launches only for what was not measured."""
    gpus(*H200, "-k", "test_closed", "--run-dir", "run")
    first = load(pytester.path / "run")
    gpus(*H200, "-k", "test_long", "--run-dir", "run", "--resume")

    results = load(pytester.path / "run")
    assert list(first.launches) == list(results.launches[:2])
    assert [(DENSE, 0), (DENSE, 1), (MOE, 0)] == sorted(
        (x.server, x.index) for x in results.launches
    )
    assert 3 == len(results.verdicts) == len(results.cases)


@pytest.mark.parametrize(
    "fault", ["--exit-at-start 3", "--die-after-requests 6"]
)
def test_another_selection_clears_no_failure(
    gpus, pytester, monkeypatch, fault
):
    """A server that failed stays red until a command asks for it again."""
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", f"mixtral-8x7b: {fault}")
    gpus(*H200, "-k", "test_closed", "--run-dir", "run")
    monkeypatch.delenv("FAKE_MISBEHAVIOUR")
    before = verdicts(pytester.path / "run")
    gpus(*H200, "-k", "test_long", "--run-dir", "run", "--resume")
    between = verdicts(pytester.path / "run")
    gpus(*H200, "-k", "test_closed", "--run-dir", "run", "--resume")
    after = verdicts(pytester.path / "run")

    assert "INVALID" in before.values()
    assert before.items() <= between.items()
    assert {"NO_BASELINE"} == set(after.values())
    assert between.keys() == after.keys()


def test_parts_of_a_load_make_the_whole(gpus, pytester):
    """No command has time for all: a launch for each part.

    The whole suite then launches nothing.
    """
    for part in ("test_closed", "test_long"):
        gpus(
            *H200,
            "-k",
            part,
            "--run-dir",
            "run",
            *(["--resume"] if part == "test_long" else []),
        )
    parts = load(pytester.path / "run").launches

    gpus(*H200, "--run-dir", "run", "--resume")

    results = load(pytester.path / "run")
    assert list(parts) == list(results.launches)
    assert 4 == len(results.verdicts) == len(results.cases)
    assert {"NO_BASELINE"} == {row.outcome for row in results.verdicts}


def test_a_further_launch_is_sent_what_is_missing_alone(gpus, pytester):
    """The closed load was sent whole; what the server holds was read after it."""
    gpus(*H200, "-k", "test_closed", "--run-dir", "run")
    gpus(*H200, "--run-dir", "run", "--resume")

    results = load(pytester.path / "run")
    sent = [
        (row.server, row.launch, row.workload) for row in results.measurements
    ]
    assert [
        (DENSE, 0, "closed"),
        (DENSE, 1, "long"),
        (MOE, 0, "closed"),
    ] == sorted(sent)
    assert [
        "memory_bytes" in launch.values
        for launch in results.launches
        if launch.server == DENSE
    ] == [True, False]


def test_what_an_ended_command_measured_is_decided_by_the_next(gpus, pytester):
    """It ended before its tests; the next command asks others and leaves nothing undecided."""
    gpus(*H200, "-k", "test_closed", "--run-dir", "run")
    file = pytester.path / "run" / RESULTS_FILE
    results = json.loads(file.read_text())
    then = {row["case"]: row["outcome"] for row in results["verdicts"]}
    file.write_text(json.dumps(results | {"verdicts": []}))

    result = gpus(*H200, "-k", "test_long", "--run-dir", "run", "--resume")

    rows = load(pytester.path / "run").verdicts
    assert then == {
        row.case: row.outcome
        for row in rows
        if row.test == "(measured by an earlier command)"
    }
    assert 3 == len(rows)
    result.stdout.no_fnmatch_line("*without a verdict*")


def test_parts_of_the_suite_are_recorded_one_by_one(gpus, pytester):
    """Runs with -k, accepted with and without --only, make baselines for the whole suite."""
    for name, words in (
        ("one", "test_closed or test_ratio"),
        ("two", "test_long"),
    ):
        gpus(*H200, "-k", words, "--baseline-record", "--run-dir", name)
        assert (pytester.path / name / "proposed-baselines").exists()
    only = perfgate(
        pytester,
        "accept",
        "one",
        "--only",
        "*/closed/*",
        "--baselines",
        "baselines",
    )
    assert 0 == only.ret, only.errlines
    stored = {
        str(path.relative_to(pytester.path / "baselines"))
        for path in Store(pytester.path / "baselines").root.rglob("*.json")
    }
    assert {
        f"h200x1/{DENSE}/closed.json",
        f"h200x1/{MOE}/closed.json",
    } <= stored
    assert f"h200x1/{DENSE}/long.json" not in stored
    rest = perfgate(pytester, "accept", "two", "--baselines", "baselines")
    assert 0 == rest.ret, rest.errlines

    result = gpus(*H200, "--run-dir", "whole")

    assert {"PASSED"} == set(verdicts(pytester.path / "whole").values()), (
        result.stdout.str()
    )
    assert 4 == outcomes(result)["passed"]
