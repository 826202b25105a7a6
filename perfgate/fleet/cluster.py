"""Cluster: the few functions by which a fleet reaches its hosts; Ray is one implementation.

Tests have another one, in which hosts die on demand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from perfgate.fleet.orders import Message, Order

ANY_GPU = ""


@dataclass(frozen=True)
class Host:
    """One machine of a fleet.

    Attributes:
        id: of the cluster; another one after a restart of the host.
        name: for people, and for the events; the same after a restart.
        gpus: how many it has in all. products: what they are, as the cluster names them.
        cpus: processor cores that the cluster may use.
    """

    id: str
    name: str
    gpus: int = 0
    cpus: int = 0
    products: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Request:
    """An order with what it needs of the host.

    Attributes:
        key: by which its messages are told from others.
        gpu_count: GPUs that are given to it alone.
        cpu_count: cores of a host that is given to it alone; 0 beside GPUs.
        product: of the GPUs, as the cluster names it; "" for any.
    """

    key: str
    host: Host
    order: Order
    gpu_count: int = 0
    cpu_count: int = 0
    product: str = ANY_GPU


@dataclass(frozen=True)
class Heard:
    """A message of the host that carries out a request."""

    key: str
    message: Message


@dataclass(frozen=True)
class Lost:
    """A request that ended without an `Ended`: its host, or its worker, died."""

    key: str
    reason: str


News = Heard | Lost


class Cluster(Protocol):
    """Hosts that carry out orders."""

    def hosts(self) -> list[Host]:
        """Those that are alive now."""

    def submit(self, request: Request) -> None:
        """Have a host carry out an order; its messages come by `wait`."""

    def wait(self, timeout_s: float) -> list[News]:
        """What has come since the last call; waits so long for the first one."""

    def cancel(self, key: str) -> None:
        """End a request, with all of its processes; `Lost` may follow."""

    def close(self) -> None:
        """Leave the cluster; what still runs for this driver is ended."""
