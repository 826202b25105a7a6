"""Processes of a server: all are found, and ended."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable

import pytest

from perfgate.servers.supervisor.processes import (
    MARK,
    command_of,
    end,
    family,
    look_up,
    running_processes,
)

_ESCAPED = "import os, time\nif os.fork(): time.sleep(600)\nos.setsid()\ntime.sleep(600)"


def _start(code: str, mark: str, **more: str) -> subprocess.Popen[bytes]:
    env = os.environ | {MARK: mark} | more
    return subprocess.Popen(
        [sys.executable, "-c", code], env=env, start_new_session=True
    )


def _wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)


def _wait_until_there(mark: str, leader: int, count: int) -> None:
    _wait_until(lambda: len(family(mark, leader)) >= count)


def test_zombie_is_not_running() -> None:
    """A process that has ended but was not waited for does not count."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert look_up(process.pid) is None

    process.wait()


def test_same_pid_later_is_another_process() -> None:
    """A process is known by pid and start time together."""
    me = look_up(os.getpid())

    assert me is not None
    assert me.is_running()
    assert not type(me)(
        me.pid, me.parent, me.group, me.started_ticks - 1
    ).is_running()


def test_child_in_its_own_session_is_family() -> None:
    """The mark finds who left the session."""
    mark = uuid.uuid4().hex
    process = _start(_ESCAPED, mark)
    try:
        _wait_until_there(mark, process.pid, 2)

        assert 2 == len(family(mark, process.pid))
        assert not any(p.pid == os.getpid() for p in family(mark, process.pid))
    finally:
        end(lambda: family(mark, process.pid), process.pid, lambda: 0.0)
        process.wait()


def test_child_of_family_without_mark_is_family() -> None:
    """Descent finds who cleared its environment."""
    mark = uuid.uuid4().hex
    code = (
        "import subprocess\nsubprocess.Popen(['sleep', '600'], env={}, "
        "start_new_session=True).wait()"
    )
    process = _start(code, mark)

    def commands() -> list[str]:
        return [
            command_of(p.pid)
            for p in family(mark, process.pid)
            if p.pid != process.pid
        ]

    try:
        # Between fork and exec a child still shows its parent's command.
        _wait_until(lambda: commands() == ["sleep 600"])

        assert ["sleep 600"] == commands()
    finally:
        end(lambda: family(mark, process.pid), process.pid, lambda: 0.0)
        process.wait()


def test_willing_process_ends_by_sigterm() -> None:
    """Who obeys SIGTERM is not killed."""
    mark = uuid.uuid4().hex
    process = _start("import time; time.sleep(600)", mark)

    ending = end(lambda: family(mark, process.pid), process.pid, lambda: 20.0)

    assert (("SIGTERM",), (), ()) == (
        ending.signals,
        ending.killed,
        ending.survivors,
    )
    assert -15 == process.wait()


@pytest.mark.parametrize(
    "is_stopped", [False, True], ids=["running", "stopped"]
)
def test_deaf_process_is_killed(is_stopped: bool) -> None:
    """Who ignores SIGTERM is killed after the grace, also while SIGSTOP holds it."""
    mark = uuid.uuid4().hex
    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); "
        "print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {MARK: mark},
        start_new_session=True,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if is_stopped:
            os.kill(process.pid, 19)

        ending = end(
            lambda: family(mark, process.pid), process.pid, lambda: 0.3
        )

        assert (("SIGTERM", "SIGKILL"), 1, ()) == (
            ending.signals,
            len(ending.killed),
            ending.survivors,
        )
        assert -9 == process.wait()


def test_orphans_of_a_dead_leader_are_ended() -> None:
    """When the leader is gone already, those it left are ended one by one."""
    mark = uuid.uuid4().hex
    process = _start(
        "import os, time\nif os.fork(): os._exit(7)\nos.setsid(); time.sleep(600)",
        mark,
    )
    process.wait()
    _wait_until_there(mark, process.pid, 1)

    ending = end(lambda: family(mark, process.pid), process.pid, lambda: 20.0)

    assert (("SIGTERM",), ()) == (ending.signals, ending.survivors)
    assert frozenset() == family(mark, process.pid)


def test_nobody_to_end() -> None:
    """Ending nobody sends nothing."""
    assert () == end(frozenset, 1 << 22, lambda: 20.0).signals


def test_running_processes_includes_this_process() -> None:
    """The list of processes is not empty by mistake."""
    assert os.getpid() in running_processes()
