"""Ray cluster: the hosts of a fleet as a Ray cluster; the only module that imports ray.

A request is a task of Ray, pinned to its host, that asks for its GPUs. Its messages are
the items of a streaming generator. Ray never retries one: the driver of the fleet knows
better where to.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from perfgate.errors import Failure
from perfgate.fleet import host as hosts
from perfgate.fleet.cluster import Heard, Host, Lost, News, Request
from perfgate.fleet.orders import encode, message_of, order_of

# How Ray names the product of a host's GPUs among its resources.
PRODUCT = "accelerator_type:"
# Of the one unit that each host has of it: many tasks share it.
SHARE = 0.001
MOST_NEWS = 1000  # of one request in one call
ID_CHARACTERS = 6
MOST_REASON = 600  # characters


class RayMissing(Failure):
    """Ray is not installed here."""


class NoCluster(Failure):
    """No Ray cluster answers at an address."""


def carry_out(content: bytes) -> Iterator[bytes]:
    """Runs on a host: carry out an order, and send its messages."""
    env = dict(os.environ)
    # Ray hides all GPUs from a task that asks for none; a check is to see them.
    if not env.get(hosts.VISIBLE, "all"):
        del env[hosts.VISIBLE]
    for message in hosts.carry_out(order_of(content), env):
        yield encode(message)


class RayCluster:
    """The hosts of a Ray cluster.

    Args:
        address: "auto" on a machine of the cluster, or HOST:PORT of its head.

    Raises:
        RayMissing: ray is not installed.
        NoCluster: nothing answers there.
    """

    def __init__(self, address: str) -> None:
        self._ray = _imported()
        try:
            self._ray.init(
                address=address,
                log_to_driver=False,
                logging_level="ERROR",
                namespace="perfgate",
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise NoCluster(
                tried=f"joining the Ray cluster at {address}",
                seen=str(error)[:MOST_REASON],
                remedy=(
                    "start one (ray start --head), run this on one of its machines, "
                    "and use the same versions of Ray and Python on all"
                ),
            ) from error
        self._task = self._ray.remote(carry_out)
        self._generators: dict[str, Any] = {}

    def hosts(self) -> list[Host]:
        """The hosts that are alive and have processors or GPUs for tasks."""
        rows = [row for row in self._ray.nodes() if row["Alive"]]
        names = Counter(row["NodeName"] for row in rows)
        found = []
        for row in rows:
            name = row["NodeName"]
            if names[name] > 1:
                name = f"{name}-{row['NodeID'][:ID_CHARACTERS]}"
            made = _host(row, name)
            if made.cpus or made.gpus:
                found.append(made)
        return found

    def submit(self, request: Request) -> None:
        """Have a host carry out an order."""
        pinned = self._ray.util.scheduling_strategies
        resources = {}
        if request.product:
            resources[f"{PRODUCT}{request.product}"] = SHARE
        task = self._task.options(
            name=f"perfgate {request.key}",
            num_cpus=request.cpu_count,
            num_gpus=request.gpu_count,
            resources=resources,
            num_returns="streaming",
            max_retries=0,
            scheduling_strategy=pinned.NodeAffinitySchedulingStrategy(
                request.host.id, soft=False
            ),
        )
        self._generators[request.key] = task.remote(encode(request.order))

    def wait(self, timeout_s: float) -> list[News]:
        """What has come since the last call."""
        if not self._generators:
            time.sleep(timeout_s)
            return []
        waiting = list(self._generators.values())
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = self._ray.wait(
                waiting, num_returns=len(waiting), timeout=0
            )
        news: list[News] = []
        for key, generator in list(self._generators.items()):
            if any(generator is row for row in ready):
                news += self._read(key, generator)
        return news

    def _read(self, key: str, generator: Any) -> Iterator[News]:
        """The messages of a request that are here."""
        for _ in range(MOST_NEWS):
            ready, _ = self._ray.wait([generator], timeout=0)
            if not ready:
                return
            try:
                content = self._ray.get(next(generator))
            except StopIteration:
                del self._generators[key]
                return
            except self._ray.exceptions.RayError as error:
                del self._generators[key]
                yield Lost(key, _reason(error))
                return
            yield Heard(key, message_of(content))

    def cancel(self, key: str) -> None:
        """Kill the worker of a request; its session goes with it."""
        if key in self._generators:
            self._ray.cancel(self._generators[key], force=True)

    def close(self) -> None:
        """Leave the cluster; Ray ends what this driver has left running."""
        self._generators.clear()
        self._ray.shutdown()


def _imported() -> Any:
    """The module ray, which takes a second to load, and is an optional extra.

    Raises:
        RayMissing: it is not installed.
    """
    # A driver sends no statistics of its use.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise RayMissing(
            tried="reaching the hosts of a fleet",
            seen=f"ray is not installed here: {error}",
            remedy="pip install 'perfgate[fleet]', here and on each host",
        ) from None
    return ray


def _host(row: dict[str, Any], name: str) -> Host:
    """A host of Ray's list of nodes."""
    resources: dict[str, float] = row["Resources"]
    products = set()
    for resource in resources:
        if resource.startswith(PRODUCT):
            products.add(resource.removeprefix(PRODUCT))
    return Host(
        id=row["NodeID"],
        name=name,
        gpus=int(resources.get("GPU", 0)),
        cpus=int(resources.get("CPU", 0)),
        products=frozenset(products),
    )


def _reason(error: Exception) -> str:
    """Why a request ended, without the trace of Ray's own code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1:] if "Traceback" in str(error) else lines[:1]
    text = " ".join(last) or type(error).__name__
    return f"{type(error).__name__}: {text}"[:MOST_REASON]
