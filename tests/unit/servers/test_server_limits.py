"""Launching where something is lacking: descriptors, ports, or a way around a proxy."""

import dataclasses
import os
import resource
import subprocess
import sys
import types
from pathlib import Path

import pytest

from perfgate.errors import exhausted
from perfgate.servers import server as module
from perfgate.servers.launch_record import PortInUse, ServerExited
from perfgate.servers.log import diagnosis, is_port_lost
from perfgate.servers.server import environment_of, launch
from perfgate.servers.supervisor.processes import look_up
from tests.support.plans import fake_plan

OUT_OF = {
    24: "ulimit -n",
    23: "fs.file-max",
    12: "out of memory",
    11: "ulimit -u",
}


@pytest.mark.parametrize("number", OUT_OF)
def test_what_a_process_has_run_out_of_is_named(number: int) -> None:
    """Also where an exception wraps the system's."""
    error = OSError(number, os.strerror(number))
    wrapped = RuntimeError("no")
    wrapped.__cause__ = error

    assert OUT_OF[number] in exhausted(error)
    assert OUT_OF[number] in exhausted(wrapped)
    assert "" == exhausted(FileNotFoundError(2, "x"))


@pytest.mark.parametrize("number", OUT_OF)
def test_a_launch_without_resources_names_the_limit(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of the command, which is there."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "Launched", fail)
    with pytest.raises(ServerExited) as caught:
        launch(fake_plan(), log_dir=tmp_path, index=0)

    assert OUT_OF[number] in caught.value.remedy


def test_a_client_out_of_descriptors_says_so() -> None:
    """Not the server's log is to be read."""
    code = """
import os, resource, socket
from perfgate.load import multiprocess
from perfgate.load.client import ClientStarved, Sending, send
from perfgate.load.response import read
from perfgate.load.workload import Request
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/completions"
requests = [Request(k, (1,), 2, 0) for k in range(64)]
used = len(os.listdir("/proc/self/fd"))
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
for room in (40, 0):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + room, hard))
    try:
        sending = Sending(url=url, model="m", run_timeout_s=2)
        records = send(requests, sending).requests
        print({read(record).error for record in records})
    except ClientStarved as failure:
        print(failure.seen, failure.remedy)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    some, none = done.stdout.splitlines()

    assert "the client is out of file descriptors: raise the limit" in some
    assert "too many open files" in none
    assert "ulimit -n" in none


def test_the_limit_of_this_machine_is_no_part_of_the_test() -> None:
    """The one above lowers it in a process of its own."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("OSError: [Errno 24] Too many open files", "ulimit -n"),
        ("RuntimeError: can't start new thread", "ulimit -u"),
        ("OSError: [Errno 12] Cannot allocate memory", "host memory"),
        ("torch.OutOfMemoryError: CUDA out of memory", "--tp"),
        ("RuntimeError: EADDRINUSE on port 29500", "another process took"),
    ],
)
def test_a_log_names_what_the_server_ran_out_of(
    line: str, remedy: str, tmp_path: Path
) -> None:
    """With the remedy for it."""
    path = tmp_path / "log"
    path.write_text(f"$ vllm serve\n{line}\n")

    assert remedy in diagnosis(path, ())[0]
    assert ("EADDRINUSE" in line) == is_port_lost(path)


def test_a_port_that_is_lost_during_the_start_is_a_lost_port(
    tmp_path: Path,
) -> None:
    """So that another one is tried: the check before the launch saw it free."""
    lines = tmp_path / "lines"
    lines.write_text("ERROR: [Errno 98] error while attempting to bind")
    plan = fake_plan("--log-file-lines", str(lines), "--exit-at-start", "1")
    server = launch(plan, log_dir=tmp_path / "logs", index=0)
    try:
        with pytest.raises(PortInUse, match="exited with status 1"):
            server.wait_until_ready(lambda _: None)
    finally:
        server.stop()


def test_no_proxy_stands_between_a_server_and_itself() -> None:
    """Whatever was excepted before stays excepted; without a proxy nothing is added."""
    plan = fake_plan()
    proxied = {"HTTPS_PROXY": "http://p", "no_proxy": "intra", "A": "b"}
    env = environment_of(plan, proxied)

    assert "intra,127.0.0.1,localhost" == env["no_proxy"] == env["NO_PROXY"]
    assert "b" == env["A"]
    assert "no_proxy" not in environment_of(plan, {"A": "b"})


def test_a_server_asks_for_no_key() -> None:
    """Those of the shell are for other servers; one of the plan is meant."""
    keys = dict.fromkeys(module.SERVER_KEYS, "tiptoe")
    meant = fake_plan(env=(("VLLM_API_KEY", "tiptoe"),))

    assert not set(keys) & set(environment_of(fake_plan(), keys))
    assert "VLLM_API_KEY" in environment_of(meant, keys)


def test_secrets_of_a_launch_are_not_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in its record nor in the first line of its log."""
    launched = types.SimpleNamespace(pid=1)
    monkeypatch.setattr(module, "Launched", lambda *_, **__: launched)
    plan = fake_plan(
        "--api-key",
        "tiptoe",
        env=(("HF_TOKEN", "tiptoe"), ("X", "redis://u:tiptoe@h")),
    )
    server = launch(plan, log_dir=tmp_path, index=0)

    assert "tiptoe" not in str(server.record)
    assert "tiptoe" not in server.log.read_text()
    assert "tiptoe" in str(plan)


def test_who_has_no_descriptor_left_takes_nobody_for_dead() -> None:
    """A look that fails says nothing of the process."""
    me = look_up(os.getpid())
    assert me is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        is_running = me.is_running()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert is_running


def test_a_checkout_is_not_taken_for_the_build(tmp_path):
    """The engine's module is that of its Python, wherever the suite was started."""
    (tmp_path / "platform.py").write_text("print('of the checkout')")
    command = (sys.executable, "-m", "platform")
    plan = dataclasses.replace(fake_plan(), argv=command)

    def started(env):
        return subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True
        ).stdout

    assert "of the checkout" in started(dict(os.environ))
    assert "of the checkout" not in started(environment_of(plan, os.environ))
