"""How is a server measured that somebody else runs?

In a container, on Kubernetes, behind Ray Serve, on more machines than one: nothing is
launched and nothing is stopped. What can be known of such a server is what it answers
over HTTP; its logs and its memory are its operator's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from perfgate.errors import Failure
from perfgate.models.catalogue import CATALOGUE
from perfgate.servers.launch_record import LaunchRecord, ServerDied

# Every server that speaks the OpenAI protocol answers this, also where a proxy stands
# in front of it.
MODELS_PATH = "/v1/models"
_PROBE_S = 5.0


class BadAttachment(Failure):
    """What was given for --attach cannot be understood."""


class UnknownDeployment(Failure):
    """The server to be measured serves no model of the catalogue."""


class NotReachable(Failure):
    """The server to be measured does not answer."""


class AttachedServer:
    """A server that somebody else runs, seen as `perfgate.servers.server.Server` is.

    Args:
        url: its base address; a path in front of /v1 is kept.
        fresh_s: for how long an answer counts.

    Attributes:
        served_model: the name under which it serves the model to be measured.
    """

    def __init__(self, url: str, fresh_s: float = 5.0) -> None:
        self.served_model = ""
        self.url = url.rstrip("/")
        self._fresh_s = fresh_s
        self._seen: str | None = None
        self._looked_at = 0.0
        self._is_looking = False

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
        except (requests.RequestException, KeyError, TypeError, ValueError) as error:
            raise NotReachable(
                f"asked {self.url + MODELS_PATH} what is served there",
                f"{type(error).__name__}: {error}",
                (
                    "check the address, and that it is an OpenAI-compatible server "
                    "that is up and reachable from here"
                ),
            ) from error

    def alive(self) -> bool:
        """Whether it answered when last asked.

        The first call asks; later ones have it asked anew in a thread and never wait,
        since a client asks in between its own requests.
        """
        if self._seen is None:
            self._look()
        elif (
            not self._is_looking and time.monotonic() - self._looked_at >= self._fresh_s
        ):
            self._is_looking = True
            threading.Thread(target=self._look, daemon=True).start()
        return self._seen == "200"

    def record(self, key: str) -> LaunchRecord:
        """What can be said of a launch that was not ours."""
        return LaunchRecord(
            key=key,
            index=0,
            argv=(),
            env={},
            pid=0,
            log="",
            started_unix_s=time.time(),
            stop="not ours",
        )

    def death(self, during: str) -> ServerDied:
        """Make the failure to raise when it has fallen silent in the middle of something."""
        remedy = "ask whoever runs it; the suite launches and stops nothing here"
        return ServerDied(
            f"measured {self.url}, which somebody else runs",
            f"{self._probe()}, during: {during}",
            remedy,
        )

    def _look(self) -> None:
        self._seen = self._probe()
        self._looked_at = time.monotonic()
        self._is_looking = False

    def _probe(self) -> str:
        import requests

        try:
            return str(
                requests.get(self.url + MODELS_PATH, timeout=_PROBE_S).status_code
            )
        except requests.RequestException as error:
            return str(error)


def parse_attachment(text: str) -> tuple[str, AttachedServer]:
    """Read "vllm=http://host:8000": the engine's name, and the server.

    Raises:
        BadAttachment: it has another form.
    """
    engine, _, url = text.partition("=")
    parts = urlsplit(url)
    if not engine or parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadAttachment(
            "read --attach",
            repr(text),
            "give ENGINE=URL, such as vllm=http://10.0.0.7:8000",
        )
    return engine, AttachedServer(url)


def model_of(served: str) -> str | None:
    """The catalogue's name of a served model: by that name, by its id on the hub, or by the last part of a path."""
    for model in CATALOGUE.values():
        names = {
            model.name,
            *(
                ()
                if model.hub_id is None
                else (model.hub_id, model.hub_id.rpartition("/")[2])
            ),
        }
        if {served, served.rstrip("/").rpartition("/")[2]} & names:
            return model.name
    return None


def attach(texts: Sequence[str]) -> dict[tuple[str, str], AttachedServer]:
    """Find out what is served at each address.

    Args:
        texts: "ENGINE=URL" each.

    Returns:
        (engine, model of the catalogue) -> server, which knows under which name it
            serves the model.

    Raises:
        BadAttachment, NotReachable, UnknownDeployment: with the address.
    """
    found = {}
    for text in texts:
        engine, server = parse_attachment(text)
        served = server.served_models()
        known = {
            name: model for name in served if (model := model_of(name)) is not None
        }
        if not known:
            raise UnknownDeployment(
                f"looked for a model to measure at {server.url}",
                (
                    f"it serves {', '.join(served) or 'nothing'}; the catalogue has "
                    f"{', '.join(CATALOGUE)}"
                ),
                (
                    "serve it under one of these names (vLLM: --served-model-name), "
                    "or add it to perfgate/models"
                ),
            )
        for name, model in known.items():
            found[engine, model] = AttachedServer(server.url)
            found[engine, model].served_model = name
    return found
