"""Cleanup: what a server left is removed, and nothing else."""

import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

from perfgate.servers.supervisor.cleanup import Cleanup
from perfgate.servers.supervisor.processes import running_processes


def _removed(cleanup: Cleanup, running: Iterable[int]) -> tuple[str, ...]:
    return tuple(file.path for file in cleanup.remove(running))


def _mapped(path: Path) -> mmap.mmap:
    with path.open("w+b") as file:
        file.truncate(4096)
        return mmap.mmap(file.fileno(), 4096)


def test_mapped_file_is_removed_when_nobody_holds_it(tmp_path: Path) -> None:
    """Shared memory that the server had mapped goes once no process has it."""
    cleanup = Cleanup(tmp_path)
    mapping = _mapped(tmp_path / "psm_1")
    cleanup.sample([os.getpid()])

    assert () == _removed(cleanup, [os.getpid()])

    mapping.close()

    assert (str(tmp_path / "psm_1"),) == _removed(cleanup, [os.getpid()])
    assert not (tmp_path / "psm_1").exists()


def test_file_from_before_the_launch_stays(tmp_path: Path) -> None:
    """Shared memory of others, which the server merely opened, is not its own."""
    (tmp_path / "other").write_bytes(b"")
    cleanup = Cleanup(tmp_path)
    with (tmp_path / "other").open("rb"):
        cleanup.sample([os.getpid()])

    assert () == _removed(cleanup, [])


def test_file_made_anew_under_an_old_name_is_removed(tmp_path: Path) -> None:
    """A name that was there before, but another file, is the server's if the server held it."""
    (tmp_path / "old").write_bytes(b"")
    cleanup = Cleanup(tmp_path)
    (tmp_path / "new").write_bytes(b"")
    (tmp_path / "new").replace(tmp_path / "old")
    with (tmp_path / "old").open("rb"):
        cleanup.sample([os.getpid()])

    assert (str(tmp_path / "old"),) == _removed(cleanup, [])


def test_semaphore_is_removed_though_its_path_is_hidden() -> None:
    """Its maker shows only the temporary name under which sem_open made it."""
    cleanup = Cleanup()
    code = (
        "import multiprocessing as m, time; s = "
        "m.get_context('spawn').Lock(); print(s._semlock.name, flush=True)"
    )
    argv = [sys.executable, "-c", f"{code}; time.sleep(600)"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        semaphore = Path(
            "/dev/shm", "sem." + maker.stdout.readline().strip().lstrip("/")
        )
        cleanup.sample([maker.pid])
        for tracker in psutil.Process(
            maker.pid
        ).children():  # it would remove the semaphore itself
            tracker.kill()
        maker.kill()

    assert (str(semaphore),) == _removed(cleanup, running_processes())


def test_file_that_was_never_seen_stays(tmp_path: Path) -> None:
    """A file that appeared meanwhile, and that no process of the server held, is external."""
    cleanup = Cleanup(tmp_path)
    (tmp_path / "psm_2").write_bytes(b"")
    cleanup.sample([os.getpid()])

    assert () == _removed(cleanup, [])


def test_file_named_after_a_server_process_is_removed(tmp_path: Path) -> None:
    """PyTorch and CUDA put the maker's pid into the name; that suffices."""
    cleanup = Cleanup(tmp_path)
    names = [f"torch_{os.getpid()}_77_0", f"cuda.shm.0.{os.getpid():x}.1"]
    for name in (*names, "torch_1_77_0"):
        (tmp_path / name).write_bytes(b"")
    cleanup.sample([os.getpid()])

    assert sorted(str(tmp_path / name) for name in names) == sorted(
        _removed(cleanup, [])
    )
    assert (tmp_path / "torch_1_77_0").exists()


def test_socket_is_removed_when_nobody_listens(tmp_path: Path) -> None:
    """A bound socket's file goes with its last holder, and not before."""
    cleanup = Cleanup(tmp_path / "no-such-folder")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "ipc.sock"))
        bound.listen()
        cleanup.sample([os.getpid()])

        assert () == _removed(cleanup, [])

    assert (str(tmp_path / "ipc.sock"),) == _removed(cleanup, [])
