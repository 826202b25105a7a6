"""Pair session: the command of pytest, and what is read from its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from perfgate.bisect.pair_session import (
    LOG,
    Comparison,
    NamedPython,
    PytestPairs,
    logged,
    logged_quietly,
)
from perfgate.bisect.state import BadBisection
from perfgate.errors import FailureRow
from perfgate.judge.baseline_store import Store
from perfgate.results import schema
from perfgate.servers.supervisor.processes import look_up
from tests.support import builders as m
from tests.support.projects import ROOT

THIS = Path(sys.executable)
GOOD = NamedPython("good", THIS)
BUILD = NamedPython("new", THIS)
CASE = m.THROUGHPUT
BASE = CASE.base


def run_of(base=(1000.0,), candidate=(900.0,), failures=None, **changes):
    """A run of pairs with these throughputs."""
    values = {
        BASE.numerator: {"output_throughput": base},
        CASE.numerator: {"output_throughput": candidate},
    }
    values = {load: rows for load, rows in values.items() if rows}
    results = m.run(values, [CASE])
    return msgspec.structs.replace(
        results, mode="paired", failures=failures or {}, **changes
    )


def pairs(tmp_path, results, status=0, commands=None):
    """Pairs whose pytest writes this run."""

    def run(command, log):
        if commands is not None:
            commands.append(command)
        log.parent.mkdir(parents=True)
        log.write_text("collected nothing\n\nusage: pytest\n")
        if results is not None:
            schema.save(results, log.parent)
        return status

    arguments = ("-m", "h200", "-k", "llama and itl")
    store = Store(tmp_path / "baselines")
    return PytestPairs("vllm", arguments, tmp_path / "runs", store, run)


def measured(tmp_path, results, **how):
    """The session of the build."""
    comparison = Comparison(GOOD, BUILD, run="pair-1", **how)
    return pairs(tmp_path, results).measure(comparison)


def test_command_compares_the_two(tmp_path):
    """One pair, resumed where it was cut off; three pairs confirm."""
    commands = []
    other = pairs(tmp_path, run_of(), commands=commands)

    other.measure(Comparison(GOOD, NamedPython("new", THIS), run="pair-1"))
    other.measure(
        Comparison(GOOD, BUILD, run="c", is_swapped=True, confirms=True)
    )

    first, second = commands
    assert [sys.executable, "-m", "pytest", "-m", "h200"] == first[:5]
    assert ["--pairs", "one"] == first[11:13]
    assert ["--pairs", "all"] == second[11:13]
    run_dir = str(tmp_path / "runs" / "pair-1")
    words = [f"--run-dir={run_dir}", "--resume", "--perf-report", "no"]
    assert words == first[13:]
    assert "--perf-report" not in second


def test_order_is_by_base_and_candidate(tmp_path):
    """Swapped, the build is launched first, as the base."""
    a, b = NamedPython("a", Path("/a")), NamedPython("b", Path("/b"))
    found = pairs(tmp_path, None)

    straight = found.command(Comparison(a, b, run="x"))
    swapped = found.command(Comparison(a, b, run="x", is_swapped=True))

    assert [
        "--engine-python",
        "vllm=/b",
        "--against-engine",
        "vllm=/a",
    ] == straight[7:11]
    assert [
        "--engine-python",
        "vllm=/a",
        "--against-engine",
        "vllm=/b",
    ] == swapped[7:11]


def test_values_of_each_pair(tmp_path):
    """(reference, build), whichever of them was the base."""
    straight = measured(tmp_path / "a", run_of())
    swapped = measured(tmp_path / "b", run_of(), is_swapped=True)

    assert "measured" == straight.outcome
    row = straight.rows[CASE.id]
    assert ((1000.0, 900.0),) == row.values
    assert ("tok/s", True) == (row.unit, row.higher)
    assert ((900.0, 1000.0),) == swapped.rows[CASE.id].values


def test_launch_that_does_not_count_takes_its_neighbour_with_it(tmp_path):
    """The second launches stay a pair, and no build meets another launch's neighbour."""
    results = run_of(base=(None, 800.0), candidate=(900.0, 810.0))

    row = measured(tmp_path, results).rows[CASE.id]

    assert ((800.0, 810.0),) == row.values


def test_noise_is_the_policys_where_the_store_knows_none(tmp_path):
    """As far as four launches would tell it."""
    row = measured(tmp_path, run_of()).rows[CASE.id]

    assert (0.011, 4.0) == (row.cv, row.degrees_of_freedom)


def failure(seen="it ended before it was ready", log=None):
    """How a server failed."""
    return FailureRow(tried="starting it", seen=seen, remedy="read it", log=log)


def test_build_that_does_not_start_is_skipped(tmp_path):
    """With its reason."""
    key = CASE.numerator.server.key
    session = measured(
        tmp_path, run_of(candidate=(), failures={key: failure()})
    )

    assert ("failed", "it ended before it was ready", {}) == (
        session.outcome,
        session.reason,
        session.rows,
    )


@pytest.mark.parametrize("is_swapped", [False, True])
def test_reference_that_does_not_start_ends_the_search(tmp_path, is_swapped):
    """No other build could be compared either; its log is named."""
    server = CASE.numerator.server if is_swapped else BASE.numerator.server
    results = run_of(failures={server.key: failure(log="logs/a.log")})

    with pytest.raises(BadBisection) as caught:
        measured(tmp_path, results, is_swapped=is_swapped)

    assert "launching good" in caught.value.tried
    assert "logs/a.log" in caught.value.remedy


def test_pair_without_a_value_is_invalid(tmp_path):
    """With the reason of the launch that does not count."""
    session = measured(tmp_path, run_of(candidate=(None,)))

    assert "invalid" == session.outcome
    assert "fell silent" in session.reason


def test_run_without_a_case_that_pairs_compare(tmp_path):
    """Ratios and reported rows are none."""
    report_only = CASE.report_only
    session = measured(tmp_path, run_of(cases=(report_only,)))

    assert "none of the selected tests" in session.reason


def test_machine_that_lacks_the_hardware_ends_the_search(tmp_path):
    """No build can be measured there: the reason is that of the skipped tests."""
    lacking = {CASE.id: "needs 1x H200, found no GPU"}

    with pytest.raises(BadBisection) as caught:
        measured(tmp_path, run_of(cases=(), lacking=lacking))

    assert "needs 1x H200, found no GPU" in caught.value.seen


@pytest.mark.parametrize(
    ("status", "has_run"), [(4, False), (0, False), (3, True)]
)
def test_pytest_that_did_not_run(tmp_path, status, has_run):
    """Its status, and the end of its log."""
    results = run_of() if has_run else None
    found = pairs(tmp_path, results, status)

    with pytest.raises(BadBisection) as caught:
        found.measure(Comparison(GOOD, BUILD, run="pair-1"))

    log = tmp_path / "runs" / "pair-1" / LOG
    assert (
        f"exit status {status}: the last lines of {log}:" in caught.value.seen
    )
    assert "usage: pytest" in caught.value.seen
    assert " -m h200 -k 'llama and itl' --engine" in caught.value.tried


def test_python_that_does_not_run_is_skipped(tmp_path):
    """No session is begun for it."""
    commands = []
    found = pairs(tmp_path, run_of(), commands=commands)
    broken = NamedPython("new", tmp_path / "none")

    session = found.measure(Comparison(GOOD, broken, run="pair-1"))

    assert ("failed", "") == (session.outcome, session.run)
    assert [] == commands


def test_output_of_a_command_goes_to_its_log(tmp_path):
    """What an earlier command of this session said stays."""
    log = tmp_path / "new" / "log"

    statuses = [
        logged(["bash", "-c", f"echo {n}; exit {n}"], log) for n in (3, 0)
    ]

    assert [3, 0] == statuses
    assert "3\n0\n" == log.read_text()


def test_pairs_leave_no_annotation_in_ci(tmp_path, monkeypatch):
    """Each pair would be told as invalid there."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/summary")
    monkeypatch.setenv("KEPT", "yes")
    command = ["bash", "-c", "echo ${GITHUB_STEP_SUMMARY-none} $KEPT"]

    logged_quietly(command, tmp_path / "log")

    assert "none yes\n" == (tmp_path / "log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_command_ends_with_a_bisection_that_is_killed(tmp_path, number):
    """Else it would measure on, and refuse the run to the same command."""
    code = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}]
from pathlib import Path
from perfgate.bisect.pair_session import logged
logged(["bash", "-c", "echo $$; exec sleep 60"], Path({str(tmp_path / "log")!r}))
"""
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        while not log.exists() or not log.read_text().endswith("\n"):
            time.sleep(0.02)
        pid = int(log.read_text())
        assert look_up(pid) is not None
        process.send_signal(number)
        process.wait(timeout=60)

    end_s = time.monotonic() + 20
    while look_up(pid) is not None and time.monotonic() < end_s:
        time.sleep(0.02)
    assert look_up(pid) is None


def test_ctrl_c_waits_for_the_command(tmp_path):
    """It has servers to end; then the interrupt goes on."""
    # "ready" comes late, when the command is waited for for sure.
    child = (
        "trap 'sleep 0.7; echo ended; exit 2' INT; sleep 1; echo ready; "
        "sleep 60 & wait"
    )
    code = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}]
from pathlib import Path
from perfgate.bisect.pair_session import logged
try:
    logged(["bash", "-c", {child!r}], Path({str(tmp_path / "log")!r}))
except KeyboardInterrupt:
    print("interrupted")
"""
    log = tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        while not log.exists() or "ready" not in log.read_text():
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)

    assert "interrupted\n" == said
    assert "ready\nended\n" == log.read_text()
