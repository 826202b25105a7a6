"""Supervised processes: gone when their session is gone."""

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from perfgate.servers.supervisor.client import Launched
from perfgate.servers.supervisor.processes import look_up, running_processes

_SLEEP = (
    sys.executable,
    "-c",
    "import time; print('up', flush=True); time.sleep(600)",
)


def _launch(
    argv: tuple[str, ...], folder: Path, owners: tuple[int, ...] = ()
) -> Launched:
    return Launched(argv, env=os.environ, log=folder / "log", owners=owners)


def _is_true_soon(
    condition: Callable[[], bool], patience_s: float = 20.0
) -> bool:
    until = time.monotonic() + patience_s
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("status", [0, 3])
def test_exit_status_is_told(tmp_path: Path, status: int) -> None:
    """An exit is noticed at once, with status 0 too."""
    launched = _launch(
        (sys.executable, "-c", f"raise SystemExit({status})"), tmp_path
    )

    assert status == launched.exit_code(wait_s=30.0)

    launched.stop(1.0)


def test_death_by_signal_is_a_negative_number(tmp_path: Path) -> None:
    """As in the subprocess module."""
    launched = _launch(_SLEEP, tmp_path)
    os.kill(launched.pid, signal.SIGKILL)

    assert -9 == launched.exit_code(wait_s=30.0)

    launched.stop(1.0)


def test_missing_command_is_an_error(tmp_path: Path) -> None:
    """The supervisor's own error arrives here."""
    with pytest.raises(OSError, match="No such file"):
        _launch((str(tmp_path / "no-such-command"),), tmp_path)


def test_stop_ends_the_process_and_the_supervisor(tmp_path: Path) -> None:
    """A normal stop leaves neither of them, and its report can be asked for again."""
    launched = _launch(_SLEEP, tmp_path)
    launched.note_ready()
    supervisor = look_up(launched.daemon_pid)

    ended = launched.stop(20.0)

    assert (("SIGTERM",), ()) == (ended.signals, ended.survivors)
    assert look_up(launched.pid) is None
    assert supervisor is not None
    assert _is_true_soon(lambda: not supervisor.is_running())
    assert ended is launched.stop(20.0)


def test_start_is_ended_without_grace(tmp_path: Path) -> None:
    """Before it is ready there is nothing to save."""
    launched = _launch(_SLEEP, tmp_path)

    assert ("SIGKILL",) == launched.stop(20.0).signals


def test_process_outlives_no_owner(tmp_path: Path) -> None:
    """When a process named as owner ends, the launched one is ended, and nobody needs to ask."""
    owner = Launched(_SLEEP, env=os.environ, log=tmp_path / "owner")
    launched = _launch(_SLEEP, tmp_path, owners=(owner.pid,))
    launched.note_ready()
    owner.stop(1.0)

    assert launched.exit_code(wait_s=20.0) is not None
    assert ("SIGTERM",) == launched.stop(1.0).signals


def test_server_shares_our_session_and_not_our_group(tmp_path: Path) -> None:
    """Linux divides the processor between sessions.

    In its own session a server that spins would starve the client.
    """
    launched = _launch(_SLEEP, tmp_path)

    assert os.getsid(0) == os.getsid(launched.pid)
    assert launched.pid == os.getpgid(launched.pid)

    launched.stop(5.0)


def _with_stray(
    folder: Path, arguments: str
) -> tuple[Launched, psutil.Process]:
    """A server, and its process that has a session of its own.

    Args:
        arguments: further ones with which that is started, as code.
    """
    code = (
        f"import subprocess, time; subprocess.Popen(['sleep', '600'], {arguments}"
        "start_new_session=True); time.sleep(600)"
    )
    launched = _launch((sys.executable, "-c", code), folder)
    assert _is_true_soon(lambda: len(launched.members()) == 2)
    stray = next(p for p in launched.members() if p.pid != launched.pid)
    return launched, stray


def test_killed_supervisor_takes_the_leader_along(tmp_path: Path) -> None:
    """The kernel kills the leader with its supervisor, and stop ends the rest without one."""
    launched, stray = _with_stray(tmp_path, "")
    os.kill(launched.daemon_pid, signal.SIGKILL)

    assert _is_true_soon(lambda: launched.exit_code() == -9)
    assert stray.is_running()

    ended = launched.stop(5.0)

    assert () == ended.survivors
    assert not stray.is_running()


def test_what_hid_itself_is_ended_without_a_supervisor(tmp_path: Path) -> None:
    """A process of its own session without the mark is known once it was found."""
    launched, stray = _with_stray(tmp_path, "env={}, ")
    os.kill(launched.daemon_pid, signal.SIGKILL)
    assert _is_true_soon(lambda: launched.exit_code() == -9)

    ended = launched.stop(5.0)

    assert () == ended.survivors
    assert not stray.is_running()


def test_shared_memory_is_removed_without_a_supervisor(tmp_path: Path) -> None:
    """What the server held when it was ready is known to both."""
    name = f"perfgate-test-{uuid.uuid4().hex}"
    code = f"import time; f = open('/dev/shm/{name}', 'w'); time.sleep(600)"
    memory = Path("/dev/shm", name)
    launched = _launch((sys.executable, "-c", code), tmp_path)
    assert _is_true_soon(memory.exists)
    launched.note_ready()
    os.kill(launched.daemon_pid, signal.SIGKILL)

    ended = launched.stop(5.0)

    assert [str(memory)] == [file.path for file in ended.removed]
    assert not memory.exists()


def test_stopped_supervisor_ends_the_server(tmp_path: Path) -> None:
    """It is woken up: else it would stay, and keep the leases of the session."""
    launched = _launch(_SLEEP, tmp_path)
    os.kill(launched.daemon_pid, signal.SIGSTOP)

    launched.stop(5.0)

    assert _is_true_soon(lambda: look_up(launched.daemon_pid) is None)


def test_supervisor_ends_the_server_on_sigterm(tmp_path: Path) -> None:
    """Somebody who ends the supervisor politely ends the server politely."""
    launched = _launch(_SLEEP, tmp_path)
    assert _is_true_soon(lambda: "up" in (tmp_path / "log").read_text())
    os.kill(launched.daemon_pid, signal.SIGTERM)

    assert _is_true_soon(lambda: look_up(launched.pid) is None)

    launched.stop(1.0)


def test_exit_code_can_be_asked_from_many_threads(tmp_path: Path) -> None:
    """Whoever measures asks while somebody else waits."""
    launched = _launch(
        (
            sys.executable,
            "-c",
            "import time; time.sleep(0.5); raise SystemExit(5)",
        ),
        tmp_path,
    )
    codes: list[int | None] = []
    threads = [
        threading.Thread(
            target=lambda: codes.append(launched.exit_code(wait_s=30.0))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while launched.exit_code() is None:
        time.sleep(0.05)

    assert 5 == launched.exit_code()
    assert {5} >= {code for code in codes if code is not None}

    launched.stop(1.0)


def test_no_descriptor_is_lost(tmp_path: Path) -> None:
    """A launch and its stop leave as many open files as there were."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        _launch(_SLEEP, tmp_path).stop(5.0)

    assert before == len(list(Path("/proc/self/fd").iterdir()))


def test_log_holds_what_was_printed_and_what_it_took(tmp_path: Path) -> None:
    """Output goes to the file, and the supervisor adds how it ended."""
    launched = _launch(_SLEEP, tmp_path)
    assert _is_true_soon(lambda: "up" in (tmp_path / "log").read_text())
    launched.stop(20.0)

    first, last = (tmp_path / "log").read_text().splitlines()
    assert "up" == first
    assert last.startswith("[supervisor] ended the server: ")


def test_supervisor_is_no_child_of_ours(tmp_path: Path) -> None:
    """A runner that kills a whole process tree does not find it there."""
    launched = _launch(_SLEEP, tmp_path)
    supervisor = running_processes()[launched.daemon_pid]

    assert os.getpid() != supervisor.parent
    assert os.getsid(0) != os.getsid(supervisor.pid)

    launched.stop(5.0)
