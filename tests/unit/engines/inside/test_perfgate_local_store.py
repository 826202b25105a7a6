"""torch's rendezvous store: rank 0 listens on loopback where all ranks are there."""

import os
import socket
import sys
import types

import pytest

from perfgate.engines.inside import perfgate_local_store
from perfgate.engines.inside.perfgate_local_store import local_store
from tests.support.plans import free_port


def made(**named):
    """What the store is made with."""
    return local_store(lambda **given: given)(**named)


def test_rank_0_on_loopback_gets_a_socket_of_its_address():
    """Nobody else can reach it then."""
    port = free_port()
    given = made(host_name="127.0.0.1", port=port, is_master=True)
    listening = socket.socket(fileno=given["master_listen_fd"])
    with listening:
        assert ("127.0.0.1", port) == listening.getsockname()
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass


@pytest.mark.parametrize(
    "named",
    [
        {"host_name": "10.0.0.7", "port": 1, "is_master": True},
        {"host_name": "127.0.0.1", "port": 1, "is_master": False},
        {"host_name": "127.0.0.1", "port": 1},
    ],
)
def test_others_are_left_as_they_are(named):
    """Several machines need the interface, and only rank 0 listens."""
    assert named == made(**named)


def test_a_port_that_is_shared_is_left_to_the_store():
    """A second store of a process has no socket of its own."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        named = {
            "host_name": "127.0.0.1",
            "port": holder.getsockname()[1],
            "is_master": True,
        }
        assert named == made(**named)


def test_a_socket_that_was_given_is_kept():
    """Some callers bring their own."""
    port = free_port()
    given = made(
        host_name="127.0.0.1", port=port, is_master=True, master_listen_fd=-1
    )

    assert -1 == given["master_listen_fd"]
    assert os.getpid()


def test_the_module_is_changed_that_makes_the_stores(monkeypatch):
    """Its package has a function of the same name in front of it."""
    package = types.ModuleType("torch.distributed")
    package.rendezvous = lambda: None
    module = types.ModuleType("torch.distributed.rendezvous")
    module.TCPStore = lambda **given: given
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    monkeypatch.setitem(sys.modules, "torch.distributed", package)
    monkeypatch.setitem(sys.modules, "torch.distributed.rendezvous", module)

    perfgate_local_store.keep_local()

    given = module.TCPStore(
        host_name="127.0.0.1", port=free_port(), is_master=True
    )
    socket.socket(fileno=given["master_listen_fd"]).close()


@pytest.mark.parametrize("error", [TypeError, RuntimeError])
def test_a_torch_that_takes_no_socket_makes_its_own(error):
    """The port is free again for it."""
    port = free_port()

    def older(**given):
        if "master_listen_fd" in given:
            raise error("not supported")
        with socket.create_server((given["host_name"], given["port"])):
            return given

    named = {"host_name": "127.0.0.1", "port": port, "is_master": True}
    assert named == local_store(older)(**named)


def test_a_torch_without_such_a_store_is_left_alone(monkeypatch):
    """It makes them elsewhere."""
    for name in ("torch", "torch.distributed", "torch.distributed.rendezvous"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))

    perfgate_local_store.keep_local()

    assert not hasattr(sys.modules["torch.distributed.rendezvous"], "TCPStore")
