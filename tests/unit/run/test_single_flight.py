"""Single flight: a thing is done once in a session, for all workers."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from perfgate.errors import Failure
from perfgate.run.single_flight import (
    FailedElsewhere,
    SharedResults,
    WorkersDied,
)

_FORK = multiprocessing.get_context("spawn")


class _Broken(Failure):
    pass


def _measure(folder: Path, how: str) -> bytes:
    """Count an execution, and then do as told."""
    with (folder / "executions").open("a") as executions:
        executions.write("x")
    if how == "fail":
        raise _Broken(
            "launched a server",
            "it exited",
            "read the log",
            Path("/runs/1/log"),
        )
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
    return b"42"


def _worker(folder: Path, how: str) -> None:
    result = SharedResults(folder / "shared", lambda _: None).run_once(
        "vllm-mixtral tp2", lambda: _measure(folder, how)
    )
    (folder / f"result-{os.getpid()}").write_bytes(result)


def _run(folder: Path, *hows: str) -> list[int | None]:
    """Run one worker per word at the same time; return their exit codes."""
    workers = [
        _FORK.Process(target=_worker, args=(folder, how)) for how in hows
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return [worker.exitcode for worker in workers]


def test_first_worker_does_it_and_the_others_read(tmp_path: Path) -> None:
    """Three workers at once: one execution, three results."""
    assert [0, 0, 0] == _run(tmp_path, "work", "work", "work")
    assert "x" == (tmp_path / "executions").read_text()
    assert [b"42"] * 3 == [
        path.read_bytes() for path in tmp_path.glob("result-*")
    ]


def test_failure_is_shared(tmp_path: Path) -> None:
    """A failed start is not tried again by the other workers, who tell the same."""
    results = SharedResults(tmp_path / "shared", lambda _: None)
    with pytest.raises(_Broken):
        results.run_once("key", lambda: _measure(tmp_path, "fail"))
    with pytest.raises(FailedElsewhere, match="it exited") as caught:
        results.run_once("key", lambda: _measure(tmp_path, "fail"))

    assert "x" == (tmp_path / "executions").read_text()
    assert Path("/runs/1/log") == caught.value.log


def test_killed_worker_is_replaced_once(tmp_path: Path) -> None:
    """When the worker that measures is killed another one does it; after two it is given up."""
    assert [-9] == _run(tmp_path, "die")
    assert [0] == _run(tmp_path, "work")
    assert "xx" == (tmp_path / "executions").read_text()

    other = tmp_path / "other"
    other.mkdir()

    assert [-9] == _run(other, "die")
    assert [-9] == _run(other, "die")
    with pytest.raises(WorkersDied, match="2 workers were killed"):
        SharedResults(other / "shared", lambda _: None).run_once(
            "vllm-mixtral tp2", lambda: b""
        )


def test_keys_are_apart(tmp_path: Path) -> None:
    """Each configuration has its own result."""
    results = SharedResults(tmp_path, lambda _: None)

    assert (b"1", b"2", b"1") == tuple(
        results.run_once(key, key.encode) for key in ("1", "2", "1")
    )
