"""Local store: torch's rendezvous store listens on loopback where all ranks are local.

Rank 0 listens for the others on all interfaces, without any authentication, even where
its address is 127.0.0.1. The store takes a socket that listens already: it gets one of
that address. Loaded by the engines, never by the suite.
"""

import importlib
import socket
from typing import Any

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def keep_local() -> None:
    """Let every later rendezvous of this process listen on loopback alone."""
    # The package has a function of this name, too.
    module = importlib.import_module("torch.distributed.rendezvous")
    module.TCPStore = local_store(module.TCPStore)  # type: ignore[attr-defined]


def local_store(store: Any) -> Any:
    """The store's class in front of which a socket is made where it would listen."""

    def make(*args: Any, **named: Any) -> Any:
        host = named.get("host_name")
        if host in LOOPBACK and named.get("is_master"):
            listening = listener(host, named.get("port", 0))
            if listening is not None:
                named = {"master_listen_fd": listening, **named}
        return store(*args, **named)

    return make


def listener(host: str, port: int) -> int | None:
    """Descriptor of a socket that listens there; None where one does already.

    A second store of the process shares the first one's port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family).detach()
    except OSError:
        return None
