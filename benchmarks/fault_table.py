"""Fault table: sessions that are broken at every write and by every fault, and what holds.

    python -m benchmarks.fault_table writes
    python -m benchmarks.fault_table faults --seed 7 --sessions 200

`writes` breaks off one session at its n-th write, for every n and in five ways. `faults`
draws a fault and a moment for each session from the seed. Both use the fake engine and a
small project. After each session its data, the commands `judge`, `accept`, `history` and
`report`, and the session that resumes it are checked (`tests/support/fault_checker.py`).
A table of faults is printed; the exit status is 1 if anything did not hold.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from perfgate.results.schema import RunResults
from tests.support import small_project
from tests.support.fault_checker import check, check_resumed, results_of
from tests.support.small_project import Project, SmallSession
from tests.support.survivors import arguments, running_processes
from tests.support.write_faults import CLOCK_JUMP, FAULT, KINDS, TAKEN_PORT

DENSE = ("-k", "test_each and llama")  # one server, one workload
WHOLE = "whole"


@dataclass(frozen=True)
class Fault:
    """A fault of a session under load.

    Attributes:
        act: what is done to a session that measures; None if `env` is all of it.
        said: what the session, or its data, must say (a pattern); "" where it cannot.
        is_whole: whether the session must measure everything all the same.
        env: variables of the session.
        options: what the session and the one that resumes it are given.
        is_measuring: whether its run directory shows that a load is under way.
    """

    act: Callable[[SmallSession], None] | None = None
    said: str = ""
    is_whole: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = DENSE
    is_measuring: Callable[[Path], bool] = small_project.is_measuring


@dataclass
class Row:
    """What was seen of one kind of fault."""

    sessions: int = 0
    whole: int = 0
    resumed: int = 0
    broken: list[str] = field(default_factory=list)


def send(*numbers: signal.Signals) -> Callable[[SmallSession], None]:
    """Send signals to the session, 10 ms apart."""

    def act(session: SmallSession) -> None:
        for number in numbers:
            session.process.send_signal(number)
            time.sleep(0.01)

    return act


def supervisors(session: SmallSession) -> list[int]:
    """Pids of the session's supervisors."""
    name = f"for-pid-{session.process.pid}".encode()
    return [pid for pid in running_processes() if name in arguments(pid)]


def servers(session: SmallSession) -> list[int]:
    """Pids of the session's servers."""
    parents = supervisors(session)
    processes = running_processes().values()
    return [row.pid for row in processes if row.parent in parents]


def kill(number: signal.Signals, *whose: Callable[[SmallSession], list[int]]):
    """Send a signal to processes of the session, all at once."""

    def act(session: SmallSession) -> None:
        pids = [pid for find in whose for pid in find(session)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    return act


def pause(session: SmallSession) -> None:
    """Stop pytest for a second, and let it go on."""
    session.process.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    session.process.send_signal(signal.SIGCONT)


def workers(session: SmallSession) -> list[int]:
    """Pids of the session's workers, the first of them first."""
    rows = running_processes().values()
    return sorted(row.pid for row in rows if row.parent == session.process.pid)


def first_worker(session: SmallSession) -> list[int]:
    """Pid of one worker."""
    return workers(session)[:1]


def all_of_it(*numbers: signal.Signals) -> Callable[[SmallSession], None]:
    """Send signals to the session and its workers, as a terminal does."""

    def act(session: SmallSession) -> None:
        for number in numbers:
            os.killpg(session.process.pid, number)
            time.sleep(0.01)

    return act


def with_workers(act: Callable[[SmallSession], None], said: str = "") -> Fault:
    """A fault of a session of two workers on two GPUs, each with a server of its own."""
    return Fault(
        act=act,
        said=said,
        env={"FAKE_GPUS": "2"},
        options=("-n", "2"),
        is_measuring=small_project.workers_measure,
    )


def itself(session: SmallSession) -> list[int]:
    """The session's own pid."""
    return [session.process.pid]


def misbehaving(options: str) -> dict[str, str]:
    """The fake engine's options for the server that is measured."""
    return {"FAKE_MISBEHAVIOUR": f"llama-3.1-8b: {options}"}


INT, KILL = signal.SIGINT, signal.SIGKILL
FAULTS: Mapping[str, Fault] = {
    "none": Fault(is_whole=True),
    "SIGINT": Fault(send(INT), "cut off|Interrupt"),
    "SIGINT twice": Fault(send(INT, INT)),
    "SIGINT five times": Fault(send(*[INT] * 5)),
    "SIGTERM": Fault(send(signal.SIGTERM)),
    "SIGHUP": Fault(send(signal.SIGHUP)),
    "SIGKILL": Fault(send(KILL)),
    "SIGSTOP of pytest for 1 s": Fault(pause),
    "server killed": Fault(kill(KILL, servers), "killed by SIGKILL", True),
    "server stopped": Fault(
        kill(signal.SIGSTOP, servers), "no token|trying|hang", True
    ),
    "supervisor killed": Fault(kill(KILL, supervisors), is_whole=True),
    "supervisor and pytest killed": Fault(kill(KILL, supervisors, itself)),
    "connections break, process ends 1.5 s later": Fault(
        said="exited with status 1",
        env=misbehaving("--die-after-requests 6 --linger 1.5"),
    ),
    "server dies at once": Fault(
        said="exited with status 1", env=misbehaving("--die-after-requests 6")
    ),
    "server fails to start": Fault(
        said="exited with status 3", env=misbehaving("--exit-at-start 3")
    ),
    "clock forward by 5 h": Fault(env={CLOCK_JUMP: "18000"}),
    "clock back by 2 days": Fault(is_whole=True, env={CLOCK_JUMP: "-172800"}),
    "port taken": Fault(
        said="trying another port", is_whole=True, env={TAKEN_PORT: "1"}
    ),
    "proxy in the environment": Fault(
        is_whole=True,
        env={"http_proxy": "http://127.0.0.1:9", "no_proxy": "nowhere"},
    ),
    "disk full": Fault(said="[Nn]o space left", env={FAULT: "N:disk-full"}),
    "I/O error": Fault(said="output error", env={FAULT: "N:io-error"}),
    "a worker killed": with_workers(kill(KILL, first_worker), "crashed while"),
    "both workers killed": with_workers(kill(KILL, workers), "crashed while"),
    "SIGINT of workers' controller": with_workers(send(INT)),
    "SIGINT of workers and controller": with_workers(all_of_it(INT)),
    "SIGINT twice of workers and controller": with_workers(all_of_it(INT, INT)),
    "SIGTERM of workers' controller": with_workers(send(signal.SIGTERM)),
    "SIGKILL of workers' controller": with_workers(send(KILL)),
}
"""What may happen to a session under load. N is drawn."""


def play(
    folder: Path, fault: Fault, wait_s: float, write: int
) -> tuple[Project, SmallSession]:
    """A session with that fault, which has ended."""
    project = Project(folder)
    env = dict(fault.env)
    if FAULT in env:
        env[FAULT] = env[FAULT].replace("N", str(write))
    with (
        _taken_port() if TAKEN_PORT in env else contextlib.nullcontext() as port
    ):
        if TAKEN_PORT in env:
            env[TAKEN_PORT] = str(port)
        run = project.runs / "r"
        words = (*fault.options, "--stall-timeout", "2", "--run-dir")
        session = project.start(*words, str(run), env=env)
        if fault.act is not None:
            with contextlib.suppress(AssertionError):
                session.wait_until(lambda: fault.is_measuring(run))
                time.sleep(wait_s)
                fault.act(session)
        session.wait()
    return project, session


@contextlib.contextmanager
def _taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(1)
        yield holder.getsockname()[1]


def judge(
    project: Project, session: SmallSession, fault: Fault, row: Row
) -> list[str]:
    """What does not hold after the session, and after its run was resumed."""
    run = project.runs / "r"
    lines = check(project, run, session)
    before = results_of(run)
    lines += _named(before, session, fault)
    row.sessions += 1
    if before is not None and before.is_whole:
        row.whole += 1
    elif fault.is_whole:
        lines.append("it was not measured whole")
    words = (*fault.options, "--run-dir", str(run), "--resume")
    again = project.start(*words, env=_machine(fault))
    again.wait()
    resumed = check_resumed(before, run, again)
    row.resumed += not resumed
    return lines + resumed


def _machine(fault: Fault) -> dict[str, str]:
    """The variables of the machine, without the fault."""
    return {
        name: value for name, value in fault.env.items() if name == "FAKE_GPUS"
    }


def _named(
    results: RunResults | None, session: SmallSession, fault: Fault
) -> list[str]:
    """Whether the session, or its data, names the fault."""
    text = session.output
    if results is not None:
        text += repr(results.failures) + repr(results.measurements)
    if re.search(fault.said, text):
        return []
    return [f"nothing says {fault.said!r}"]


def show(rows: Mapping[str, Row]) -> None:
    """The table, in Markdown, and then what did not hold."""
    click.echo("| fault | sessions | whole at once | resumed whole | broken |")
    click.echo("|---|--:|--:|--:|--:|")
    for name, row in rows.items():
        click.echo(
            f"| {name} | {row.sessions} | {row.whole} | {row.resumed} | "
            f"{len(row.broken)} |"
        )
    for name, row in rows.items():
        for line in row.broken:
            click.echo(f"{name}: {line}")
    if any(row.broken for row in rows.values()):
        sys.exit(1)


@click.group()
def main() -> None:
    """Break sessions, and check what is left of them."""


@main.command()
@click.option("--first", default=1, show_default=True)
@click.option("--step", default=1, show_default=True)
def writes(first: int, step: int) -> None:
    """Break off a session at its n-th write, for every n, in five ways."""
    rows: dict[str, Row] = defaultdict(Row)
    for kind in KINDS:
        write = first
        while True:
            fault = Fault(env={FAULT: f"{write}:{kind}"})
            name = f"{kind} at write {write}"
            if not _one(name, fault, (0.0, write), rows[kind]):
                break
            write += step
    show(rows)


@main.command()
@click.option("--seed", default=1, show_default=True)
@click.option("--sessions", default=len(FAULTS), show_default=True)
@click.option("--only", help="One fault of the table.")
def faults(seed: int, sessions: int, only: str | None) -> None:
    """Draw a fault and its moment for each session."""
    draw = random.Random(seed)
    rows: dict[str, Row] = {name: Row() for name in FAULTS}
    names = [only] if only else list(FAULTS)
    for number in range(sessions):
        name = names[number % len(names)]
        moment = draw.uniform(0.0, 0.3), draw.randint(3, 11)
        _one(name, FAULTS[name], moment, rows[name])
    show(rows)


def _one(name: str, fault: Fault, moment: tuple[float, int], row: Row) -> bool:
    """Play and judge one session; whether its fault came."""
    wait_s, write = moment
    click.echo(f"{name} ...", err=True)
    with tempfile.TemporaryDirectory(prefix="perfgate-fault-") as folder:
        project, session = play(Path(folder), fault, wait_s, write)
        broken = judge(project, session, fault, row)
        came = project.fault.exists() or FAULT not in fault.env
        where = f"({wait_s:.2f} s, write {write})"
        row.broken += [f"{name} {where}: {line}" for line in broken]
        if broken:
            click.echo(f"{name} {where}: {broken}", err=True)
            click.echo(session.output[-3000:], err=True)
    return came


if __name__ == "__main__":
    main()
