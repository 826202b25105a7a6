"""Orphans: what a killed session and its killed supervisor left is found, and named."""

import os
import signal
import subprocess
import sys
import time

import pytest

from perfgate.servers import orphans
from perfgate.servers.supervisor.client import Launched
from perfgate.servers.supervisor.processes import MARK

DEVICE = "/leases/cpu"


@pytest.fixture
def sleeper():
    """A process with the mark of a server that had leased a device, and no supervisor."""
    marked = {MARK: "abc", **orphans.variables([DEVICE, "/leases/other"])}
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env=os.environ | marked,
    )
    deadline = time.monotonic() + 10
    while not orphans.orphans([DEVICE], patience_s=0.0):
        assert time.monotonic() < deadline
    yield process
    process.kill()
    process.wait()


def test_an_orphan_is_named_with_the_command_that_ends_it(sleeper):
    """By what its session had leased; on other devices it disturbs nobody."""
    found = orphans.orphans([DEVICE], patience_s=0.0)

    failure = orphans.refusal(found, [DEVICE])
    assert [sleeper.pid] == [process.pid for process in found]
    assert f"pid {sleeper.pid}: " in failure.seen
    assert failure.remedy.endswith(f"kill -9 {sleeper.pid}")
    assert [] == orphans.orphans(["/leases/gpu"], patience_s=0.0)


def test_an_orphan_that_ends_in_time_is_none(sleeper):
    """A session whose supervisor was killed ends its server itself."""
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()

    assert [] == orphans.orphans([DEVICE], patience_s=10.0)


def test_a_supervised_server_is_no_orphan(tmp_path):
    """Nor are its children, also such that left its session."""
    log = tmp_path / "log"
    log.write_text("")
    launched = Launched(
        ["sh", "-c", "setsid sleep 60 & sleep 60"],
        env=os.environ | orphans.variables([DEVICE + str(tmp_path)]),
        log=log,
    )
    try:
        assert [] == orphans.orphans([DEVICE + str(tmp_path)], patience_s=0.0)
    finally:
        launched.stop(0.0)
