"""A Ray cluster of several nodes on this machine, in a process of its own.

Everything is bound to 127.0.0.1. The first line of its output is JSON: the address, and
the process id of each node's raylet by its name. At the end of its input it ends.

    python -m tests.support.ray_nodes '{"nodes": [{"name": "a", "gpus": 2, "env": {}}]}'
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STORE_BYTES = 80 * 2**20
# Ray gives a node 30 s to register, which a busy machine may exceed.
STARTS = 3
# A host that does not answer is dead after some ten seconds, also on a busy machine.
FAST = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 3,
}


@dataclass(frozen=True)
class Node:
    """A node that is to be started.

    Attributes:
        product: of its GPUs, as Ray names it.
        env: variables of its tasks.
    """

    name: str
    gpus: int = 0
    cpus: int = 2
    product: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


class RayNodes:
    """The cluster's process; used as a context, it is gone at the end."""

    def __init__(self, nodes: Sequence[Node], env: Mapping[str, str]) -> None:
        for tries_left in reversed(range(STARTS)):
            try:
                self._start(nodes, env)
                return
            except AssertionError:
                if not tries_left:
                    raise

    def _start(self, nodes: Sequence[Node], env: Mapping[str, str]) -> None:
        # Paths of sockets are short: a test's folder may be too long for them.
        self._folder = tempfile.TemporaryDirectory(
            prefix="ray", ignore_cleanup_errors=True
        )
        self.log = Path(self._folder.name) / "cluster.log"
        # Ray notes the cluster's address there, and does not make the folder.
        Path(self._folder.name, "ray").mkdir()
        order = {
            "folder": self._folder.name,
            "nodes": [vars(node) for node in nodes],
        }
        variables = env | {
            "PYTHONPATH": str(ROOT),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": self._folder.name,
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.ray_nodes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=variables,
                text=True,
            )
        try:
            self._say(order)
            answer = self._hear()
        except BaseException:
            self.__exit__()
            raise
        self.address: str = answer["address"]
        self.raylets: dict[str, int] = answer["raylets"]
        self.env = variables

    def add(self, node: Node) -> None:
        """Start one more node."""
        self._say({"add": vars(node)})
        self.raylets |= self._hear()["raylets"]

    def _say(self, order: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError(self.log.read_text())

    def __enter__(self) -> RayNodes:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._folder.cleanup()


def main() -> None:
    """Start the nodes that the first line of the input names, and keep them."""
    from ray.cluster_utils import Cluster

    order = json.loads(sys.stdin.readline())
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "node_name": "head",
            "node_ip_address": "127.0.0.1",
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "temp_dir": order["folder"],
            "_system_config": FAST,
        },
    )
    raylets = {}
    for node in order["nodes"]:
        raylets |= _added(cluster, node)
    _answer({"address": cluster.address, "raylets": raylets})
    for line in sys.stdin:
        _answer({"raylets": _added(cluster, json.loads(line)["add"])})
    cluster.shutdown()


def _added(cluster, node: Mapping) -> dict[str, int]:
    resources = {}
    if node["product"]:
        resources[f"accelerator_type:{node['product']}"] = 1
    made = cluster.add_node(
        node_name=node["name"],
        num_cpus=node["cpus"],
        num_gpus=node["gpus"],
        resources=resources,
        node_ip_address="127.0.0.1",
        object_store_memory=STORE_BYTES,
        env_vars=dict(os.environ) | node["env"],
    )
    (raylet,) = made.all_processes["raylet"]
    return {node["name"]: raylet.process.pid}


def _answer(answer: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
