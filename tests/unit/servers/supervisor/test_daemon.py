"""Supervisor daemon: a server ends with its session, however that ended.

The rows of kills; `real/test_faults.py` has the same with a real engine. Some
run once, all of them 20 times with `-m slow`.
"""

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.hoarding_engine import shared_memory_of, socket_of
from tests.support.plans import SUPPORT, free_port
from tests.support.survivors import Session

WAYS: dict[str, Callable[[Session], None]] = {
    "sigint": lambda session: session.send(signal.SIGINT),
    "sigint-twice": lambda session: session.send(signal.SIGINT, signal.SIGINT),
    "sigterm": lambda session: session.send(signal.SIGTERM),
    "sigkill": lambda session: session.send(signal.SIGKILL),
    "sigkill-group": lambda session: session.send_group(signal.SIGKILL),
}
# What the session prints, and what the engine is told, at the moment of the kill.
MOMENTS = {
    "start-up": ("starting", ("--ready-after", "60")),
    "load": ("measured", ()),
}
# Children that leave the session and ignore SIGTERM: only SIGKILL, and only who
# knows them, ends them.
CHILDREN = (
    "--children",
    "2",
    "--children-own-session",
    "--children-ignore-sigterm",
)


def kill_and_count(
    folder: Path, way: str, moment: str, patience_s: float
) -> list[str]:
    """Start a session and kill it that way at that moment.

    Returns the processes and files that are left some time later.
    """
    sign, faults = MOMENTS[moment]
    port = free_port()
    command = (
        sys.executable,
        str(SUPPORT / "hoarding_engine.py"),
        "--port",
        str(port),
        *CHILDREN,
        *faults,
    )
    session = Session(folder, command, port)
    session.wait_for(sign)
    if moment == "start-up":
        session.wait_until(
            lambda: (
                socket_of(session.tag).exists() and len(session.running()) >= 5
            )
        )
    WAYS[way](session)
    left = session.survivors(patience_s=patience_s)
    return left + [
        str(path)
        for path in (shared_memory_of(session.tag), socket_of(session.tag))
        if path.exists()
    ]


@pytest.mark.parametrize(
    ("way", "moment"),
    [
        ("sigkill", "start-up"),
        ("sigkill-group", "load"),
        ("sigint-twice", "load"),
    ],
)
def test_nothing_survives(tmp_path: Path, way: str, moment: str) -> None:
    """After any death no process, shared memory or socket is left (busy machines: 60 s).

    The supervisor is gone as well.
    """
    assert [] == kill_and_count(tmp_path, way, moment, patience_s=60.0)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("way", WAYS)
def test_nothing_survives_twenty_times(
    tmp_path: Path, way: str, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same within 10 s, often enough to meet a race."""
    left: list[str] = []
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        left += kill_and_count(folder, way, moment, patience_s=10.0)
        shutil.rmtree(folder)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{way} during {moment}: 20 kills, survivors: {len(left)}\n"
        )

    assert [] == left


def test_results_of_before_the_kill_are_there(tmp_path: Path) -> None:
    """What was measured is on disk, and so is the server's log with how it ended."""
    port = free_port()
    session = Session(
        tmp_path,
        (sys.executable, str(SUPPORT / "fake_engine.py"), "--port", str(port)),
        port,
    )
    session.wait_for("measured\nmeasured")
    session.send(signal.SIGKILL)

    assert [] == session.survivors()
    assert len((tmp_path / "measured").read_text().splitlines()) >= 2
    assert (
        "[supervisor] ended the server"
        in (tmp_path / "logs" / "session-0.log").read_text()
    )
