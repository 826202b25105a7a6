"""Run queue: CPU time and waits of threads, by the kernel's own counts."""

import os
import time

import pytest

from perfgate.machine.run_queue import (
    Counts,
    Snapshot,
    cpu_s,
    longest_wait,
    snapshot,
)

S = 1_000_000_000


def thread(proc, pid, tid, text, name="worker"):
    """A thread as /proc shows it."""
    task = proc / str(pid) / "task" / str(tid)
    task.mkdir(parents=True)
    (task / "schedstat").write_text(text)
    (task / "comm").write_text(f"{name}\n")


def test_all_threads_of_all_processes_are_counted(tmp_path):
    """By process and thread; one that has just ended, or has no counts, is left out."""
    thread(tmp_path, 7, 7, "100 20 3\n")
    thread(tmp_path, 7, 8, "50 0 1\n")
    thread(tmp_path, 9, 9, "10 5 1\n")
    thread(tmp_path, 9, 10, "")
    thread(tmp_path, 9, 11, "0 0 0\n")

    taken = snapshot([7, 9, 11], tmp_path)

    assert {
        (7, 7): Counts(100, 20),
        (7, 8): Counts(50, 0),
        (9, 9): Counts(10, 5),
    } == taken.threads


def test_cpu_time_between_two_snapshots():
    """Of all processes, or of one; a thread that began in between counts from its start."""
    before = Snapshot(0.0, {(7, 7): Counts(1 * S, 0)})
    after = Snapshot(
        10.0,
        {(7, 7): Counts(3 * S, 0), (7, 8): Counts(1 * S, 0), (9, 9): Counts(S)},
    )

    assert 4.0 == cpu_s(before, after)
    assert 3.0 == cpu_s(before, after, pid=7)


def test_the_longest_wait_is_that_of_a_thread_with_work(tmp_path):
    """A helper that wakes up now and then may wait; nobody notices."""
    thread(tmp_path, 9, 9, "", name="EngineCore")
    before = Snapshot(
        0.0, {(7, 7): Counts(), (9, 9): Counts(), (9, 10): Counts()}
    )
    after = Snapshot(
        10.0,
        {
            (7, 7): Counts(5 * S, 1 * S // 10),
            (9, 9): Counts(2 * S, 4 * S),
            (9, 10): Counts(S // 100, 9 * S),
        },
    )

    waiting = longest_wait(before, after, tmp_path)

    assert waiting is not None
    assert (0.4, 9, "EngineCore") == (waiting.share, waiting.pid, waiting.name)


def test_nobody_with_work_waited():
    """Idle threads say nothing."""
    idle = Snapshot(0.0, {(7, 7): Counts()})

    assert (
        longest_wait(idle, Snapshot(10.0, {(7, 7): Counts(1, 9 * S)})) is None
    )


def test_this_process_is_counted():
    """The kernel's counts grow while it works."""
    before = snapshot([os.getpid()])
    if not before.threads:
        pytest.skip("this kernel counts nothing (no schedstat)")
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass

    assert cpu_s(before, snapshot([os.getpid()])) > 0.02
