"""Fake engine in a process of its own, for one test."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("fake_engine.py").resolve()


class FakeEngine:
    """A fake engine in its own process: `with FakeEngine(itl_s=0.02) as engine: engine.url`."""

    def __init__(self, *arguments: str, **behaviour: Any) -> None:
        settings = [
            f"--set={name}={json.dumps(value)}"
            for name, value in behaviour.items()
        ]
        self.command = [
            sys.executable,
            str(SCRIPT),
            "--port=0",
            *settings,
            *arguments,
        ]

    def __enter__(self) -> FakeEngine:
        self.process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(":")[2])
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request on a connection of its own; the JSON that came back."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=30
        )
        connection.request(method, path, json.dumps(body))
        text = connection.getresponse().read()
        connection.close()
        return json.loads(text) if text else None

    def set(self, **behaviour: Any) -> None:
        """Stream as at the start, but for this, from now on; what was sent is forgotten."""
        self.call("POST", "/behaviour", behaviour)

    def sent(self) -> list[Any]:
        """One dict per request in order of arrival.

        Keys: serial, prompt, received_ns, sends = [(ns, tokens)], done.
        """
        sent: list[Any] = self.call("GET", "/sent")
        return sent
