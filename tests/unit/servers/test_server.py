"""Launching a server: readiness, and failures with a remedy."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from perfgate.engines.base import LaunchPlan
from perfgate.errors import Failure
from perfgate.servers.health import listeners
from perfgate.servers.launch_record import (
    PortInUse,
    RunDirectoryFull,
    ServerExited,
    ServerNotReady,
)
from perfgate.servers.log import LogLost
from perfgate.servers.server import Server, launch
from perfgate.servers.supervisor.processes import look_up
from tests.support.plans import fake_plan, free_port


def _log_lines(folder: Path, *lines: str) -> tuple[str, str]:
    path = folder / "lines"
    path.write_text("\n".join(lines))
    return "--log-file-lines", str(path)


def _ready(
    plan: LaunchPlan, folder: Path, said: list[str] | None = None
) -> Server:
    """A server that is up; gone again if it does not get there."""
    server = launch(plan, log_dir=folder, index=0)
    try:
        server.wait_until_ready((said if said is not None else []).append)
    except Failure:
        server.stop()
        raise
    return server


def _start(
    plan_arguments: tuple[str, ...], folder: Path, said: list[str] | None = None
) -> Server:
    return _ready(fake_plan(*plan_arguments), folder / "logs", said)


def test_what_is_logged_just_before_the_first_answer_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server begins and answers between two looks at its log."""
    answers = Server._answers

    def wait_for_it(server: Server, patience_s: float) -> bool:
        while not answers(server, patience_s):
            time.sleep(0.01)
        return True

    monkeypatch.setattr(Server, "_answers", wait_for_it)
    server = _start(_log_lines(tmp_path, "INFO Loading weights"), tmp_path)
    server.stop()

    assert ["loading weights", "listening"] == [
        phase.name for phase in server.record.phases
    ]


def test_start_returns_a_server_that_answers(tmp_path: Path) -> None:
    """It is up when it is ready, and gone when stop returns."""
    said: list[str] = []
    server = _start(
        _log_lines(tmp_path, "INFO Loading weights took 3 s"), tmp_path, said
    )

    assert server.alive()
    assert ["loading weights", "listening"] == [
        phase.name for phase in server.record.phases
    ]
    assert "INFO Loading weights took 3 s" == server.record.phases[0].line
    assert said[-1].startswith("ready (")
    assert str(tmp_path / "logs" / "fake-engine-0.log") == server.record.log
    assert server.record.ready_s is not None

    report = server.stop()

    assert (("SIGTERM",), (), ()) == (
        report.signals,
        report.killed,
        report.survivors,
    )
    assert not server.alive()
    assert server.record.stop == f"stopped: {report}"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.plan.host, server.plan.port))


def test_progress_shows_the_phase_and_the_seconds(tmp_path: Path) -> None:
    """A phase is told when the log tells it."""
    said: list[str] = []
    _start(
        (*_log_lines(tmp_path, "Loading weights"), "--ready-after", "2"),
        tmp_path,
        said,
    ).stop()

    assert re.search(
        r"^loading weights \(\d+ s\)$", "\n".join(said), re.MULTILINE
    ), said


def test_environment_is_inherited_and_added_to(tmp_path: Path) -> None:
    """What the plan sets comes on top of what is there."""
    code = (
        "import os; print(os.environ['PATH'], os.environ['FROM_PLAN'], "
        "'PERFGATE_SERVER_ID' in os.environ)"
    )
    plan = replace(
        fake_plan(env=(("FROM_PLAN", "yes"),)),
        argv=(sys.executable, "-c", code),
    )
    server = launch(plan, log_dir=tmp_path, index=3)
    try:
        with pytest.raises(ServerExited):
            server.wait_until_ready(lambda _: None)

        assert server.log_tail(1).startswith(f"{os.environ['PATH']} yes True")
        assert {"FROM_PLAN": "yes"} == server.record.env
    finally:
        server.stop()


@pytest.mark.parametrize("status", [0, 3])
def test_exit_at_start(tmp_path: Path, status: int) -> None:
    """An exit is noticed long before the deadline, and its message holds all that is needed."""
    arguments = (
        *_log_lines(tmp_path, "INFO hello", "this is a known mishap"),
        "--exit-at-start",
        str(status),
    )
    began = time.monotonic()
    with pytest.raises(ServerExited) as caught:
        _start(arguments, tmp_path)

    assert time.monotonic() - began < 15  # of the 30 s that it might have taken
    message = str(caught.value)
    for part in (
        "fake_engine.py",
        f"status {status}",
        "known mishap",
        "do what helps",
        "logs/fake-engine-0.log",
    ):
        assert part in message


def test_hang_at_start(tmp_path: Path) -> None:
    """A server that never answers is given up at its deadline, and nothing of it is left."""
    plan = fake_plan("--hang-at-start", startup_timeout_s=1.0)
    server = launch(plan, log_dir=tmp_path, index=0)
    with pytest.raises(ServerNotReady, match="no healthy answer in 1 s"):
        server.wait_until_ready(lambda _: None)
    server.stop()

    assert look_up(server.record.pid) is None


def test_listening_but_not_healthy(tmp_path: Path) -> None:
    """A server that answers 503 is not ready."""
    plan = fake_plan("--healthy-after", "60", startup_timeout_s=1.0)
    with pytest.raises(ServerNotReady):
        _ready(plan, tmp_path)


def test_port_in_use_names_the_holder(tmp_path: Path) -> None:
    """Who holds the port is told before anything is launched."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        plan = fake_plan(port=holder.getsockname()[1])
        with pytest.raises(PortInUse, match=f"in use by pid {os.getpid()}"):
            launch(plan, log_dir=tmp_path, index=0)


def test_port_taken_by_somebody_else_meanwhile(tmp_path: Path) -> None:
    """A healthy answer from another process is not ours."""
    port = free_port()
    hanging = launch(
        fake_plan("--hang-at-start", port=port), log_dir=tmp_path, index=0
    )
    other = _ready(fake_plan(port=port), tmp_path / "other")
    try:
        with pytest.raises(
            PortInUse, match=f"in use by pid {other.record.pid}"
        ):
            hanging.wait_until_ready(lambda _: None)
    finally:
        other.stop()
        hanging.stop()


def test_a_port_that_two_servers_share_is_taken(tmp_path: Path) -> None:
    """Each of them would get a part of the requests."""
    plan = fake_plan("--reuse-port")
    ours = launch(plan, log_dir=tmp_path, index=0)
    while ours.record.pid not in listeners(plan.port):
        time.sleep(0.05)
    with subprocess.Popen(plan.argv, stdout=subprocess.DEVNULL) as other:
        try:
            while other.pid not in listeners(plan.port):
                time.sleep(0.05)
            with pytest.raises(PortInUse, match=f"in use by pid {other.pid}"):
                ours.wait_until_ready(lambda _: None)
        finally:
            other.kill()
            ours.stop()


def test_missing_command(tmp_path: Path) -> None:
    """A command that does not exist is a failed start."""
    plan = replace(fake_plan(), argv=("/no/such/python", "-m", "vllm"))
    with pytest.raises(ServerExited, match="no such file: /no/such/python"):
        launch(plan, log_dir=tmp_path, index=0)


def test_death_is_noticed_and_explained(tmp_path: Path) -> None:
    """A server killed under way is not alive, and the failure says how it died."""
    server = _start((), tmp_path)
    os.kill(server.record.pid, signal.SIGKILL)
    failure = server.death("measuring closed-c16")

    assert not server.alive()
    assert "was killed by SIGKILL, during: measuring closed-c16" in failure.seen
    assert "listening on" in failure.detail

    server.stop()

    assert (
        server.record.stop
        == "stopped, was killed by SIGKILL before: nothing was running"
    )


def test_a_log_that_was_deleted_is_named(tmp_path: Path) -> None:
    """At the end of the start, and when the server dies later."""
    logs = tmp_path / "logs"
    starting = launch(fake_plan(), log_dir=logs, index=0)
    shutil.rmtree(logs)
    with pytest.raises(LogLost, match="no such file"):
        starting.wait_until_ready(lambda _: None)
    starting.stop()

    server = _start((), tmp_path)
    shutil.rmtree(logs)
    os.kill(server.record.pid, signal.SIGKILL)
    failure = server.death("measuring closed-c16")
    server.stop()

    assert "was killed by SIGKILL" in failure.seen
    assert "its log is gone" in failure.seen
    assert f"leave {logs} alone" in failure.remedy


def test_full_disk(tmp_path: Path) -> None:
    """A log that cannot be opened for lack of room says so."""
    (tmp_path / "fake-engine-0.log").symlink_to("/dev/full")
    with pytest.raises(RunDirectoryFull, match="free space in"):
        launch(fake_plan(), log_dir=tmp_path, index=0)


def test_a_log_that_cannot_be_written_is_no_fault_of_the_command(
    tmp_path: Path,
) -> None:
    """A file stands where the folder of logs should be."""
    (tmp_path / "logs").touch()

    with pytest.raises(RunDirectoryFull, match=r"make \S+/logs writable"):
        launch(fake_plan(), log_dir=tmp_path / "logs", index=0)
