"""External server (--attach): a server that its operator runs, measured over HTTP alone.

In a container, on Kubernetes, behind Ray Serve, on several machines: this suite
launches nothing and stops nothing. Log, processes and memory stay with the operator.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from perfgate.errors import Failure
from perfgate.models.catalogue import CATALOGUE
from perfgate.servers.launch_record import LaunchRecord, ServerDied

# Every server that speaks the OpenAI protocol answers this, also where a proxy stands
# in front of it.
MODELS_PATH = "/v1/models"
_PROBE_S = 5.0


class BadAttachment(Failure):
    """A value of --attach is not ENGINE=URL."""


class UnknownDeployment(Failure):
    """The external server serves no model of the catalogue."""


class NotReachable(Failure):
    """The external server does not answer."""


class ExternalServer:
    """A server that its operator runs (`perfgate.servers.running.RunningServer`).

    Args:
        url: its base address; a path in front of /v1 is kept.
        served_model: name under which it serves the model.
        fresh_s: for how many seconds a health check counts.

    Attributes:
        log: None: the operator has it.
        gpu_indices: empty: they are not known.
    """

    log: Path | None = None
    gpu_indices: tuple[int, ...] = ()

    def __init__(
        self, url: str, served_model: str = "", fresh_s: float = 5.0
    ) -> None:
        self.served_model = served_model
        self.url = url.rstrip("/")
        self._fresh_s = fresh_s
        self._status: str | None = None
        self._checked_at_s = 0.0
        self._is_checking = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What cannot be read of it."""
        return (
            f"external server {self.url}: start, log and memory are not known",
        )

    def pids(self) -> tuple[int, ...]:
        """Empty: its processes are not known."""
        return ()

    def served_models(self) -> list[str]:
        """Names under which it serves models.

        Raises:
            NotReachable: it does not answer, or not as the OpenAI protocol has it.
        """
        import requests  # here and below: collecting tests must not wait for it

        try:
            answer = requests.get(self.url + MODELS_PATH, timeout=_PROBE_S)
            answer.raise_for_status()
            return [str(entry["id"]) for entry in answer.json()["data"]]
        except (
            requests.RequestException,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            raise NotReachable(
                f"asked {self.url + MODELS_PATH} what is served there",
                f"{type(error).__name__}: {error}",
                (
                    "check the address, and that it is an OpenAI-compatible server "
                    "that is up and reachable from here"
                ),
            ) from error

    def alive(self) -> bool:
        """Whether it answered the last health check.

        The first call checks. Later calls start a check in a thread and never wait,
        since a client asks between its own requests.
        """
        if self._status is None:
            self._check()
        elif self._is_stale() and not self._is_checking:
            self._is_checking = True
            threading.Thread(target=self._check, daemon=True).start()
        return self._status == "200"

    def launch_record(self, key: str) -> LaunchRecord:
        """A record without process, log and start-up time: this suite launched nothing."""
        return LaunchRecord(
            key=key,
            session_index=0,
            argv=(),
            env={},
            pid=0,
            log="",
            started_unix_s=time.time(),
            stop="not ours",
        )

    def death(self, during: str) -> ServerDied:
        """The failure to raise when it stops answering during something."""
        return ServerDied(
            f"measured the external server {self.url}",
            f"{self._probe()}, during: {during}",
            "ask its operator: this suite neither launched nor stopped it",
        )

    def _is_stale(self) -> bool:
        return time.monotonic() - self._checked_at_s >= self._fresh_s

    def _check(self) -> None:
        self._status = self._probe()
        self._checked_at_s = time.monotonic()
        self._is_checking = False

    def _probe(self) -> str:
        import requests

        try:
            answer = requests.get(self.url + MODELS_PATH, timeout=_PROBE_S)
        except requests.RequestException as error:
            return str(error)
        return str(answer.status_code)


def parse_attachment(text: str) -> tuple[str, ExternalServer]:
    """Read "vllm=http://host:8000": the engine's name, and the server.

    Raises:
        BadAttachment: it has another form.
    """
    engine, _, url = text.partition("=")
    parts = urlsplit(url)
    if (
        not engine
        or parts.scheme not in ("http", "https")
        or not parts.hostname
    ):
        raise BadAttachment(
            "read --attach",
            repr(text),
            "give ENGINE=URL, such as vllm=http://10.0.0.7:8000",
        )
    return engine, ExternalServer(url)


def model_of(served: str) -> str | None:
    """The catalogue's name of a served model, or None.

    Args:
        served: the catalogue's name, the id on the hub, or a path that ends in one.
    """
    candidates = {served, served.rstrip("/").rpartition("/")[2]}
    for model in CATALOGUE.values():
        names = {model.name}
        if model.hub_id is not None:
            names |= {model.hub_id, model.hub_id.rpartition("/")[2]}
        if candidates & names:
            return model.name
    return None


def attach(texts: Sequence[str]) -> dict[tuple[str, str], ExternalServer]:
    """Find out which models each external server serves.

    Args:
        texts: "ENGINE=URL" each.

    Returns:
        (engine, model of the catalogue) -> server.

    Raises:
        BadAttachment: a text has another form.
        NotReachable: a server does not answer.
        UnknownDeployment: a server serves no model of the catalogue.
    """
    servers: dict[tuple[str, str], ExternalServer] = {}
    for text in texts:
        engine, server = parse_attachment(text)
        served = server.served_models()
        known = _in_catalogue(served)
        if not known:
            raise _unknown_deployment(server.url, served)
        for name, model in known.items():
            servers[engine, model] = ExternalServer(
                server.url, served_model=name
            )
    return servers


def _in_catalogue(served: Sequence[str]) -> dict[str, str]:
    """Served name -> model of the catalogue."""
    known = {}
    for name in served:
        model = model_of(name)
        if model is not None:
            known[name] = model
    return known


def _unknown_deployment(url: str, served: Sequence[str]) -> UnknownDeployment:
    names = ", ".join(served) or "nothing"
    return UnknownDeployment(
        f"looked for a model to measure at {url}",
        f"it serves {names}; the catalogue has {', '.join(CATALOGUE)}",
        "serve it under one of these names (vLLM: --served-model-name), or add it to "
        "perfgate/models",
    )
