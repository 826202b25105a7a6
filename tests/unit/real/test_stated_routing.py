"""Stated routing in real engines: the experts that they report are those that are stated."""

import os

import msgspec
import pytest

from perfgate.engines import environment
from perfgate.engines import registry as engines
from perfgate.engines.base import LaunchRequest
from perfgate.models import catalogue as models
from perfgate.models import routing_stats, weights
from perfgate.models.stated_routing import STATED, chances
from perfgate.run.probes import routing, stated_routing
from perfgate.servers.pool import ServerPool
from tests.support.plans import free_port
from tests.support.studies import study_of

pytestmark = pytest.mark.engine
CORES = tuple(sorted(os.sched_getaffinity(0)))


def plan_of(config):
    """The launch of a server of the small sparse model."""
    model = models.lookup(config.model)
    folder = weights.locate(model, "auto", {}, False, lambda text: None)
    stated = ()
    if config.stated_routing:
        stated = tuple(chances(config.stated_routing, 8, 2))
    return engines.lookup(config.engine).plan(
        LaunchRequest(
            config=config,
            python=environment.find_python(
                config.engine, config.device, {}
            ).path,
            weights=folder.path,
            offline=True,
            host="127.0.0.1",
            port=free_port(),
            startup_timeout_s=600.0,
            cores=CORES,
            expert_chances=stated,
        )
    )


@pytest.mark.skipif(len(CORES) < 2, reason="needs 2 cores")
@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_tokens_choose_as_stated(tmp_path, name, stated):
    """On two ranks: each layer's counts agree with the chances, by the engine's own report.

    No token chooses an expert twice, and both ranks count every choice.
    """
    study = study_of("cpu", name, 2, stated_routing=stated)
    config, engine = study.moe_routing, engines.lookup(name)
    workload = msgspec.structs.replace(study.routing, num_prompts=24)
    pool = ServerPool(
        log_dir=tmp_path, progress=lambda text: None, devices=None, lease=None
    )
    try:
        server = pool.get(plan_of(config))
        stated_routing.confirm(engine, config, server.url)
        measured = routing.measure(
            engine, config, server.url, 0, workload, lambda done, total: None
        )
    finally:
        pool.close()

    assert () == measured.repetitions[0].invalid
    assert (4, 8) == routing_stats.totals(measured.routing).shape


@pytest.mark.skipif(len(CORES) < 2, reason="needs 2 cores")
def test_a_server_that_routes_by_itself_is_refused(tmp_path):
    """What the configuration states and the launch does not is no stated routing."""
    config = study_of("cpu", "vllm", 2, stated_routing="few").moe
    plain = msgspec.structs.replace(config, stated_routing="")
    pool = ServerPool(
        log_dir=tmp_path, progress=lambda text: None, devices=None, lease=None
    )
    try:
        server = pool.get(plan_of(plain))
        with pytest.raises(
            stated_routing.RoutingNotStated, match=r"took \[0, 0\] stated"
        ):
            stated_routing.confirm(engines.lookup("vllm"), config, server.url)
        measured = routing.measure(
            engines.lookup("vllm"),
            config,
            server.url,
            0,
            msgspec.structs.replace(
                study_of("cpu", "vllm").routing, num_prompts=4
            ),
            lambda done, total: None,
        )
    finally:
        pool.close()

    assert (
        "not those that are stated (few)"
        in (measured.repetitions[0].invalid[0])
    )
