"""Device leases: one session at a time on a device, machine-wide."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from perfgate.machine.leases import (
    Holder,
    Lease,
    LeaseExpired,
    NoLockFile,
    NotLeased,
    acquire,
    clock_s,
    usable_folder,
    user_name,
)
from perfgate.servers.supervisor.client import Launched

ROOT = Path(__file__).resolve().parents[3]
_OTHER = """
import sys, time
from pathlib import Path
from perfgate.machine.leases import acquire
lease = acquire(
    sys.argv[2:],
    len(sys.argv) - 2,
    wait_s=0,
    hold_s=60,
    progress=print,
    folder=Path(sys.argv[1]),
)
print("leased", flush=True)
time.sleep(600)
"""


def _acquire(
    folder: Path,
    devices: list[str],
    count: int,
    *,
    wait_s: float = 0.0,
    hold_s: float = 60.0,
) -> Lease:
    return acquire(
        devices,
        count,
        wait_s=wait_s,
        hold_s=hold_s,
        progress=lambda _: None,
        folder=folder,
    )


@contextmanager
def _other_session(
    folder: Path, *devices: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds these devices."""
    argv = [sys.executable, "-c", _OTHER, str(folder), *devices]
    with subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as other:
        assert other.stdout is not None
        assert b"leased\n" == other.stdout.readline()
        try:
            yield other
        finally:
            other.kill()


def test_the_preferred_free_devices_are_got(tmp_path: Path) -> None:
    """Two of four, in the order asked for, less what others hold."""
    with (
        _other_session(tmp_path, "GPU-0"),
        _acquire(tmp_path, ["GPU-0", "GPU-1", "GPU-2", "GPU-3"], 2) as lease,
    ):
        assert ("GPU-1", "GPU-2") == lease.devices


def test_holder_is_named_to_who_waits(tmp_path: Path) -> None:
    """Pid, user, command and the time limit of whoever holds it."""
    with (
        _other_session(tmp_path, "GPU-0") as other,
        pytest.raises(NotLeased) as caught,
    ):
        _acquire(tmp_path, ["GPU-0"], 1)

    assert f"GPU-0: pid {other.pid} of " in caught.value.seen
    assert "since" in caught.value.seen
    assert "at most" in caught.value.seen


def test_waiting_is_told_and_ends_when_the_holder_dies(tmp_path: Path) -> None:
    """A killed holder leaves no stale lock."""
    said: list[str] = []
    with _other_session(tmp_path, "GPU-0") as other:

        def tell(text: str) -> None:
            said.append(text)
            other.kill()

        lease = acquire(
            ["GPU-0"], 1, wait_s=60, hold_s=60, progress=tell, folder=tmp_path
        )
        lease.release()

    assert [True] == [
        text.startswith(f"waiting for GPU-0: pid {other.pid}") for text in said
    ]


def test_all_or_none(tmp_path: Path) -> None:
    """A session that waits for two devices does not keep one of them from others."""
    with _other_session(tmp_path, "GPU-1"):
        with pytest.raises(NotLeased):
            _acquire(tmp_path, ["GPU-0", "GPU-1"], 2)

        with _acquire(tmp_path, ["GPU-0"], 1) as lease:
            assert ("GPU-0",) == lease.devices


def test_more_than_there_are(tmp_path: Path) -> None:
    """Asking for more devices than exist fails without waiting."""
    with pytest.raises(NotLeased, match="there are 1: GPU-0"):
        _acquire(tmp_path, ["GPU-0"], 2, wait_s=60)


def test_released_device_can_be_leased_again(tmp_path: Path) -> None:
    """Releasing twice does nothing, and the next one gets it."""
    first = _acquire(tmp_path, ["GPU-0"], 1)
    first.release()
    first.release()

    _acquire(tmp_path, ["GPU-0"], 1).release()


def test_expired_lease_is_refused(tmp_path: Path) -> None:
    """The time that was announced to others binds the holder."""
    with _acquire(tmp_path, ["GPU-0"], 1, hold_s=60) as lease:
        lease.check()
    with (
        _acquire(tmp_path, ["GPU-0"], 1, hold_s=-1) as lease,
        pytest.raises(LeaseExpired),
    ):
        lease.check()


def test_overdue_holder_is_told_so() -> None:
    """Who waits learns that the holder is late."""
    now = clock_s()
    holder = Holder(
        pid=1,
        user="ci",
        command="pytest",
        since_s=now - 7200,
        until_s=now - 3600,
    )

    assert str(holder).endswith("overdue by 60 min")


def test_lease_outlives_its_owner_until_the_server_is_gone(
    tmp_path: Path,
) -> None:
    """The supervisor inherits the lock: the device stays leased while the server lives."""
    lease = _acquire(tmp_path, ["GPU-0"], 1)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    launched = Launched(
        (sys.executable, "-c", code),
        env=os.environ,
        log=tmp_path / "log",
        keep_open=lease.descriptors,
    )
    lease.release()

    with pytest.raises(NotLeased):
        _acquire(tmp_path, ["GPU-0"], 1)

    launched.stop(0.1)

    _acquire(tmp_path, ["GPU-0"], 1).release()


def test_lock_file_is_for_every_user(tmp_path: Path) -> None:
    """Whatever the umask, another user can take the lock after us."""
    folder = tmp_path / "leases"
    _acquire(folder, ["GPU-0/1"], 1).release()

    assert 0o1777 == folder.stat().st_mode & 0o7777
    assert 0o666 == (folder / "GPU-0_1.lock").stat().st_mode & 0o777


def test_unsigned_lock_is_explained(tmp_path: Path) -> None:
    """A holder that has not written its name yet still counts."""
    with _acquire(tmp_path, ["GPU-0"], 1) as lease:
        os.ftruncate(lease.descriptors[0], 0)
        with pytest.raises(NotLeased, match="has not written its name yet"):
            _acquire(tmp_path, ["GPU-0"], 1)


def test_signature_is_complete(tmp_path: Path) -> None:
    """What is written can be read back."""
    with _acquire(tmp_path, ["GPU-0"], 1, hold_s=60):
        holder = msgspec.json.decode(
            (tmp_path / "GPU-0.lock").read_bytes(), type=Holder
        )

    assert os.getpid() == holder.pid
    assert 60 == round(holder.until_s - holder.since_s)


def test_a_user_without_a_name_can_lease(tmp_path, monkeypatch):
    """An arbitrary UID has no passwd entry: those who wait are told the number."""

    def unknown():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", unknown)
    with _acquire(tmp_path, ["cpu"], 1):
        signature = (tmp_path / "cpu.lock").read_bytes()

    holder = msgspec.json.decode(signature, type=Holder)
    assert f"uid {os.getuid()}" == user_name() == holder.user


def test_a_folder_that_cannot_be_made_names_the_variable(tmp_path):
    """A file is in its place."""
    (tmp_path / "file").touch()

    with pytest.raises(NoLockFile, match="PERFGATE_LEASES_DIR"):
        _acquire(tmp_path / "file" / "leases", ["cpu"], 1)


def test_a_file_system_without_locks_names_the_variable(tmp_path, monkeypatch):
    """As a network's may be; no descriptor stays open."""

    def refused(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    before = list(Path("/proc/self/fd").iterdir())

    with pytest.raises(NoLockFile, match=r"(?s)locks.*PERFGATE_LEASES_DIR"):
        _acquire(tmp_path, ["cpu"], 1)

    assert len(before) == len(list(Path("/proc/self/fd").iterdir()))


def test_the_first_usable_place_is_taken(tmp_path):
    """All sessions of a machine choose the same; the first of all where none can be used."""
    nowhere = tmp_path / "nowhere" / "leases"
    made = tmp_path / "made"
    made.mkdir()

    assert made == usable_folder([nowhere, made, tmp_path / "other"])
    assert tmp_path / "new" == usable_folder([tmp_path / "new", made])
    assert nowhere == usable_folder([nowhere])
