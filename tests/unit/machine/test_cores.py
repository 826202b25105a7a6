"""Cores: what a busy loop uses is others' time, or ours where its process is named."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from perfgate.machine import cores
from perfgate.machine.cores import Usage


def spent(before_s, after_s, **fields):
    """Two moments of four cores, ten seconds apart; the process 7 was busy."""
    base = {"cores": 4, "idle_s": 100.0}
    before = Usage(at_s=0.0, own_s={7: before_s}, **base)
    after = Usage(
        at_s=10.0, own_s={7: after_s}, **(base | {"idle_s": 110.0} | fields)
    )
    return before, after


def test_what_nobody_names_is_of_others():
    """Of 40 s 10 are idle and 20 are ours: a quarter is left."""
    shares = cores.shares(*spent(5.0, 25.0))

    assert 0.25 == shares.idle == shares.others


def test_process_that_came_meanwhile_counts_whole():
    """It had used nothing before."""
    before, after = spent(0.0, 0.0)
    after.own_s[8] = 30.0

    assert 0.0 == cores.shares(before, after).others


def test_children_that_began_and_ended_are_ours():
    """A load's further client processes are gone when it has ended."""
    before, after = spent(0.0, 10.0, children_s={7: 20.0})

    assert 0.0 == cores.shares(before, after).others


def test_child_that_ended_counts_from_the_first_moment():
    """Its parent is told of all that it used, also of 50 s before."""
    before, after = spent(0.0, 10.0, children_s={7: 70.0})
    before.own_s[8] = 50.0
    assert 0.0 == cores.shares(before, after).others

    # Nobody waited for it: what it used since is unknown, and nothing is taken away.
    before, after = spent(0.0, 20.0)
    before.own_s[8] = 50.0
    assert 0.25 == cores.shares(before, after).others


def test_shares_stay_between_nothing_and_all():
    """Clocks of the kernel tick: a little more than all is all."""
    assert 0.0 == cores.shares(*spent(0.0, 30.4)).others
    assert None is cores.shares(*spent(0.0, 1.0, cores=2))


def test_other_core_numbers_are_unknown(tmp_path):
    """Where the kernel lists fewer cores than this process may run on."""
    assert None is cores.usage([], tmp_path)

    (tmp_path / "stat").write_text("cpu  1 2 3 4 5 6 7 0 0 0\n")
    assert None is cores.usage([], tmp_path)


def test_cores_are_found_by_their_numbers(tmp_path, monkeypatch):
    """The kernel leaves out cores that are switched off: the third line is of core 4."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2})
    tick = os.sysconf("SC_CLK_TCK")
    lines = ["cpu  0 0 0 0 0 0 0 0 0 0"]
    for core in (0, 2, 4, 6):
        lines.append(f"cpu{core} 9 9 9 {core * tick} {tick} 9 9 0 0 0")
    (tmp_path / "stat").write_text("\n".join(lines))

    assert (0 + 1) + (2 + 1) == cores.usage([], tmp_path).idle_s


def test_ended_child_of_this_process():
    """It used more than its parent meanwhile."""
    before = cores.usage([])
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    after = cores.usage([])

    own_s = after.own_s[os.getpid()] - before.own_s[os.getpid()]
    children_s = after.children_s[os.getpid()] - before.children_s[os.getpid()]
    assert 0.4 <= children_s
    assert own_s < children_s


@pytest.mark.parametrize("is_named", [True, False])
def test_busy_process_of_the_machine(is_named):
    """A child of this process is ours; one of another parent is, where it is named.

    The shell that starts it ends at once.
    """
    loop = f"{sys.executable} -c 'while True: pass' >/dev/null 2>&1 & echo $!"
    started = subprocess.run(
        ["sh", "-c", loop], capture_output=True, text=True, check=True
    )
    busy = psutil.Process(int(started.stdout))
    try:
        named = [busy.pid] if is_named else []
        before = cores.usage(named)
        time.sleep(0.5)
        after = cores.usage(named)
    finally:
        busy.kill()

    own_s = after.own_s.get(busy.pid, 0.0) - before.own_s.get(busy.pid, 0.0)
    assert is_named == (own_s > 0)
    assert 0.0 <= cores.shares(before, after).others <= 1.0
