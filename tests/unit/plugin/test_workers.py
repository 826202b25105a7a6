"""Workers of one session: they share GPUs and launches.

A session of its own under pytest-xdist, with a conftest that does what a plugin
must: each worker leases its GPUs, tests go to workers by server, and what is
measured is shared. Two GPUs that do not exist, and fake engines.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

_CONFTEST = """
import json, os
from pathlib import Path
import pytest
from perfgate.machine.leases import acquire
from perfgate.run.single_flight import SharedResults
from perfgate.servers.pool import ServerPool
from tests.support.plans import fake_plan

HERE = Path(__file__).parent

@pytest.fixture(scope="session")
def measure():
    worker, shared = os.environ["PYTEST_XDIST_WORKER"], SharedResults(HERE / "shared", print)
    with (
        acquire(
            ["GPU-a", "GPU-b"],
            1,
            wait_s=200,
            hold_s=600,
            progress=print,
            folder=HERE / "leases",
        ) as lease,
        ServerPool(
            log_dir=HERE / "logs" / worker,
            progress=print,
            lease=lease,
            owners=(os.getppid(),),
        ) as pool,
    ):
        def launch_and_measure(key):
            server = pool.get(fake_plan(env=(("KEY", key),)))
            with (HERE / "launches").open("a") as launches:
                launch = {"key": key, "gpu": lease.devices[0], "worker": worker}
                launches.write(json.dumps(launch) + chr(10))
            return server.url.encode()

        yield lambda key: shared.run_once(key, lambda: launch_and_measure(key))

def server_of(nodeid):
    return nodeid.partition("[")[2].rstrip("]").partition("-")[0] or "ratio"

def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: (server_of(item.nodeid) == "ratio", server_of(item.nodeid)))

@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByServer(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return server_of(nodeid)

    return ByServer(config, log)
"""

_TESTS = """
import pytest

@pytest.mark.parametrize("metric", ["itl", "ttft"])
@pytest.mark.parametrize("key", ["dense", "moe", "big"])
def test_absolute(measure, key, metric):
    assert measure(key)

def test_ratio(measure):
    assert measure("dense") != measure("moe")
"""


def test_each_configuration_is_launched_once_in_all_workers(
    tmp_path: Path,
) -> None:
    """Three servers, two workers on two GPUs: three launches, in parallel.

    The ratio finds both results.
    """
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_perf.py").write_text(_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-q",
        "-n",
        "2",
        str(tmp_path),
    ]
    done = subprocess.run(
        argv,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert "7 passed" in done.stdout, done.stdout + done.stderr

    launches = [
        json.loads(line)
        for line in (tmp_path / "launches").read_text().splitlines()
    ]

    assert ["big", "dense", "moe"] == sorted(
        launch["key"] for launch in launches
    )
    assert {"GPU-a", "GPU-b"} == {launch["gpu"] for launch in launches}
    # one GPU a worker, for the whole session
    assert 2 == len({(launch["worker"], launch["gpu"]) for launch in launches})
