"""Every listening socket of a real server: on loopback, so that nobody else can reach it.

Engines open sockets beside their port, between their processes and ranks, most of them
without authentication.
"""

import ipaddress
import os

import psutil
import pytest

from perfgate.engines import environment
from perfgate.engines.base import LaunchRequest
from perfgate.engines.registry import ENGINES
from perfgate.errors import Failure
from perfgate.models import catalogue as models
from perfgate.models import weights
from perfgate.servers import server as servers
from tests.support.plans import free_port
from tests.support.studies import study_of

pytestmark = pytest.mark.engine

MODEL = "llama-small"


@pytest.fixture(params=sorted(ENGINES))
def server(request, tmp_path):
    """A ready server of two ranks, of each engine."""
    engine = ENGINES[request.param]
    cores = tuple(sorted(os.sched_getaffinity(0)))
    if len(cores) < 2:
        pytest.skip("two ranks need two cores")
    try:
        python = environment.find_python(engine.name, "cpu", {}).path
    except Failure as failure:
        pytest.skip(f"{failure.seen}; {failure.remedy}")
    found = weights.locate(
        models.lookup(MODEL), "auto", {}, False, lambda text: None
    )
    plan = engine.plan(
        LaunchRequest(
            config=study_of("cpu", engine.name, 2, "auto").dense,
            python=python,
            weights=found.path,
            offline=found.offline,
            host="127.0.0.1",
            port=free_port(),
            startup_timeout_s=300.0,
            cores=cores,
        )
    )
    launched = servers.launch(plan, log_dir=tmp_path, index=0)
    try:
        launched.wait_until_ready(lambda text: None)
        yield launched
    finally:
        launched.stop()


def listening(pids):
    """(pid, address, port) of each TCP socket that they listen on."""
    rows = []
    for pid in pids:
        for row in psutil.Process(pid).net_connections("inet"):
            is_bound = row.status == psutil.CONN_LISTEN or (
                row.type.name == "SOCK_DGRAM" and not row.raddr
            )
            if is_bound and row.laddr:
                rows.append((pid, row.laddr.ip, row.laddr.port))
    return rows


def test_every_listening_socket_is_on_loopback(server):
    """Its own port among them, of which there is one at least."""
    rows = listening(server.pids())
    reachable = [
        row for row in rows if not ipaddress.ip_address(row[1]).is_loopback
    ]

    assert server.plan.port in {port for _, _, port in rows}
    assert [] == reachable
