"""External server (--attach): a server that its operator runs, measured over HTTP alone.

It may run in a container, on Kubernetes, behind Ray Serve, or on several machines. This
suite neither launches nor stops it, and cannot read its log, processes or memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from perfgate import formatting
from perfgate.errors import Failure, describe_error
from perfgate.models.catalogue import CATALOGUE
from perfgate.servers.launch_record import LaunchRecord, ServerDied

# Every server with the OpenAI protocol answers this path, also behind a proxy.
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
        gpu_indices: empty: they are unknown.
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
            f"external server {self.url}: start, log and memory are unknown",
        )

    def pids(self) -> tuple[int, ...]:
        """Empty: its processes are unknown."""
        return ()

    def served_models(self) -> list[str]:
        """Names under which it serves models.

        Raises:
            NotReachable: it does not answer, or not in the OpenAI protocol.
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
                tried=f"reading the served models from {self.url + MODELS_PATH}",
                seen=_describe(error),
                remedy=(
                    "check the address, and that an OpenAI-compatible server is "
                    "reachable there"
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

    def death(self, activity: str) -> ServerDied:
        """The failure to raise when it stops answering during an activity."""
        return ServerDied(
            tried=f"measuring the external server {self.url}",
            seen=f"{self._probe()}, during: {activity}",
            remedy="ask its operator: this suite neither launched nor stopped it",
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
            return describe_error(error)
        return str(answer.status_code)


def _describe(error: Exception) -> str:
    """What is wrong with an answer of `MODELS_PATH`."""
    if isinstance(error, (KeyError, TypeError)):
        return "the answer is not a list of models"
    return describe_error(error)


def parse_attachment(text: str) -> tuple[str, ExternalServer]:
    """Read "vllm=http://host:8000": the engine's name, and the server.

    Raises:
        BadAttachment: it has another form.
    """
    engine, _, url = text.partition("=")
    parts = urlsplit(url)
    is_http = parts.scheme in ("http", "https")
    if not (engine and is_http and parts.hostname):
        raise BadAttachment(
            tried=f"reading --attach {text}",
            seen="it is not ENGINE=URL",
            remedy="write for example --attach vllm=http://10.0.0.7:8000",
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
    """The external server of each engine and model.

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
    suggestion = ""
    if served:
        suggestion = formatting.suggestion(served[0], CATALOGUE)
    return UnknownDeployment(
        tried=f"choosing a model to measure at {url}",
        seen=f"it serves {names}; the catalogue has {', '.join(CATALOGUE)}",
        remedy=(
            f"{suggestion}serve it under a name of the catalogue (vLLM: "
            "--served-model-name), or add [models.NAME] to the study file"
        ),
    )
