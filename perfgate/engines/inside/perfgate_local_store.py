"""Local store: torch's rendezvous store listens on loopback where all ranks are local.

Rank 0 listens for the others on all interfaces, without any authentication, even where
its address is 127.0.0.1. The store takes a socket that listens already: it gets one of
that address. Loaded by the engines, never by the suite.
"""

import contextlib
import importlib
import os
import socket
from typing import Any

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def keep_local() -> None:
    """Let every later rendezvous of this process listen on loopback alone."""
    # The package has a function of this name, too.
    module = importlib.import_module("torch.distributed.rendezvous")
    store = getattr(module, "TCPStore", None)
    if store is not None:  # another torch makes its stores elsewhere
        module.TCPStore = local_store(store)  # type: ignore[attr-defined]


def local_store(store: Any) -> Any:
    """The store's class in front of which a socket is made where it would listen."""

    def make(*args: Any, **named: Any) -> Any:
        host = named.get("host_name")
        if host in LOOPBACK and named.get("is_master"):
            listening = listener(host, named.get("port", 0))
            if listening is not None:
                return with_listener(store, listening, args, named)
        return store(*args, **named)

    return make


def with_listener(
    store: Any, listening: int, args: tuple[Any, ...], named: dict[str, Any]
) -> Any:
    """The store on that socket; on one of its own where this torch takes none."""
    try:
        return store(*args, **{"master_listen_fd": listening, **named})
    except (TypeError, RuntimeError):
        with contextlib.suppress(OSError):
            os.close(listening)
        return store(*args, **named)


def listener(host: str, port: int) -> int | None:
    """Descriptor of a socket that listens there; None where one does already.

    A second store of the process shares the first one's port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family).detach()
    except OSError:
        return None
