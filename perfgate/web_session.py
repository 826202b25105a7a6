"""Web session: a session of `requests` whose sockets a deadline ends.

The limits of `requests` hold for one read, so a server that sends a byte a second is never
late. Here one deadline holds for connecting, TLS, headers and body together.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class Deadline:
    """Ends the reading of a socket after some seconds, however slowly its bytes come.

    Attributes:
        is_over: whether it did.
    """

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def watch(self, connection: socket.socket) -> None:
        """End this one too. It is watched through a duplicate: TLS takes it over.

        Raises:
            TimeoutError: the deadline is over.
        """
        self._sockets.append(connection.dup())
        self.check()

    def check(self) -> None:
        """Raise TimeoutError once it is over."""
        if self.is_over:
            raise TimeoutError

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        for watched in self._sockets:
            watched.close()

    def _end(self) -> None:
        self.is_over = True
        for watched in self._sockets:
            with contextlib.suppress(OSError):
                watched.shutdown(socket.SHUT_RDWR)


def session(
    deadline: Deadline, tls: Callable[[], ssl.SSLContext] | None
) -> requests.Session:
    """A session that uses no proxy and no ~/.netrc, and ends at the deadline.

    Args:
        deadline: watches each connection.
        tls: gives the context of https; None where http is spoken.
    """
    opened = requests.Session()
    opened.trust_env = False
    adapter = _Adapter(deadline, tls)
    opened.mount("http://", adapter)
    opened.mount("https://", adapter)
    return opened


class _Adapter(HTTPAdapter):
    """Makes connections that a deadline watches."""

    def __init__(
        self, deadline: Deadline, tls: Callable[[], ssl.SSLContext] | None
    ) -> None:
        self._deadline = deadline
        self._tls = tls
        super().__init__()

    def init_poolmanager(self, *args: Any, **keywords: Any) -> None:
        if self._tls is not None:
            keywords["ssl_context"] = self._tls()
        super().init_poolmanager(*args, **keywords)
        self.poolmanager.pool_classes_by_scheme = {
            "http": _pool_class(
                HTTPConnectionPool, HTTPConnection, self._deadline
            ),
            "https": _pool_class(
                HTTPSConnectionPool, HTTPSConnection, self._deadline
            ),
        }


def _pool_class(pool: Any, connection: Any, deadline: Deadline) -> Any:
    """A class of pools whose connections are watched as soon as they are open."""

    class WatchedConnection(connection):  # type: ignore[misc]
        def _new_conn(self) -> socket.socket:
            made: socket.socket = super()._new_conn()
            deadline.watch(made)
            return made

    class WatchedPool(pool):  # type: ignore[misc]
        ConnectionCls = WatchedConnection

    return WatchedPool
