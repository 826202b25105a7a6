"""External server (--attach): a server that its operator runs, measured over HTTP alone.

It may run in a container, on Kubernetes, behind Ray Serve, or on several machines. This
suite neither launches nor stops it, and cannot read its log, processes or memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from perfgate import formatting, web
from perfgate.engines.registry import ENGINES
from perfgate.errors import NOT_JSON, Failure
from perfgate.foreign_text import one_line
from perfgate.models.catalogue import CATALOGUE
from perfgate.servers.launch_record import LaunchRecord, ServerDied

# Every server with the OpenAI protocol answers this path, also behind a proxy.
MODELS_PATH = "/v1/models"
METRICS_PATH = "/metrics"
_PROBE_S = 5.0
_MODELS_S = 10.0
_MODELS_BYTES = 4 * 2**20
# A server counts as dead after so many checks without an answer, the next of which
# follows soon; a token within `_TOKEN_LIFE_S` shows that it lives.
MOST_MISSES = 3
_RETRY_S = 0.5
_TOKEN_LIFE_S = 10.0
_MOST_NAMES = 5
_NAME_CHARACTERS = 80


class BadAttachment(Failure):
    """A value of --attach is not ENGINE=URL."""


class UnknownDeployment(Failure):
    """The external server serves no model of the catalogue."""


class NotReachable(Failure):
    """The external server does not answer."""


class ServedModel(msgspec.Struct, frozen=True):
    """An entry of the list of models; other fields are not looked at.

    Attributes:
        owned_by: vLLM and SGLang write their own name; others write anything.
    """

    id: str
    owned_by: Any = None


class ServedModels(msgspec.Struct, frozen=True):
    """What a server answers at `MODELS_PATH`."""

    data: tuple[ServedModel, ...]


class ExternalServer:
    """A server that its operator runs (`perfgate.servers.running.RunningServer`).

    Args:
        address: its base address; a path in front of /v1 is kept.
        served_model: name under which it serves the model.
        fresh_s: for how many seconds a health check counts.

    Attributes:
        log: None: the operator has it.
        gpu_indices: empty: they are unknown.
        authorization: of the address, else of the environment's key.
    """

    log: Path | None = None
    gpu_indices: tuple[int, ...] = ()

    def __init__(
        self, address: web.Address, served_model: str = "", fresh_s: float = 5.0
    ) -> None:
        self.served_model = served_model
        self.address = address
        self.url = address.url
        self.authorization = address.authorization or web.key_authorization()
        self._fresh_s = fresh_s
        self._misses: int | None = None
        self._checked_at_s = 0.0
        self._token_at_s = float("-inf")
        self._is_checking = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What cannot be read of it."""
        return (
            f"external server {self.url}: start, log and memory are unknown",
        )

    @property
    def death_reason(self) -> str:
        """What is known of it: it may only be slow to answer."""
        return (
            f"no token came for {_TOKEN_LIFE_S:g} s, and the server did not answer GET "
            f"{MODELS_PATH} {MOST_MISSES} times in a row"
        )

    def pids(self) -> tuple[int, ...]:
        """Empty: its processes are unknown."""
        return ()

    def served_models(self) -> tuple[ServedModel, ...]:
        """The models that it serves.

        Raises:
            NotReachable: it does not answer, or not in the OpenAI protocol.
        """
        url = self.url + MODELS_PATH
        tried = f"reading the served models from {url}"
        advice = "check the address, and that an OpenAI-compatible server is reachable there"
        try:
            body = web.get(
                url,
                timeout_s=_MODELS_S,
                authorization=self.authorization,
                most_bytes=_MODELS_BYTES,
            )
            return msgspec.json.decode(body, type=ServedModels).data
        except web.NoAnswer as failure:
            remedy = web.remedy_of(failure.status, advice)
            raise NotReachable(tried, failure.seen, remedy) from failure
        except NOT_JSON as error:
            seen = "the answer is not a list of models"
            raise NotReachable(tried, seen, advice) from error

    def alive(self) -> bool:
        """Whether it sent a token of late, or answered one of the last health checks.

        The first call checks. Later calls start a check in a thread and never wait,
        since a client asks between its own requests.
        """
        if self._misses is None:
            self._check()
        elif self._is_stale() and not self._is_checking:
            self._is_checking = True
            threading.Thread(target=self._check, daemon=True).start()
        if time.monotonic() - self._token_at_s < _TOKEN_LIFE_S:
            return True
        return self._misses is not None and self._misses < MOST_MISSES

    def note_life(self) -> None:
        """Take note that it has just sent a token: a busy one is late with the rest."""
        self._token_at_s = time.monotonic()

    def survives(self) -> bool:
        """Whether it lives, after a health check."""
        self._check()
        return self.alive()

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
        answer = self._probe() or "it answers again"
        return ServerDied(
            tried=f"measuring the external server {self.url}",
            seen=f"{answer}, during: {activity}",
            remedy="ask its operator: this suite neither launched nor stopped it",
        )

    def _is_stale(self) -> bool:
        age_s = time.monotonic() - self._checked_at_s
        if self._misses:
            return age_s >= min(_RETRY_S, self._fresh_s)
        return age_s >= self._fresh_s

    def _check(self) -> None:
        if self._probe():
            self._misses = (self._misses or 0) + 1
        else:
            self._misses = 0
        self._checked_at_s = time.monotonic()
        self._is_checking = False

    def _probe(self) -> str:
        """What is wrong with its answer; "" where nothing is.

        A server that refuses the request (no key, too many requests) lives.
        """
        try:
            web.get(
                self.url + MODELS_PATH,
                timeout_s=_PROBE_S,
                authorization=self.authorization,
                most_bytes=_MODELS_BYTES,
            )
        except web.NoAnswer as failure:
            if failure.status in (200, 401, 403, 429):
                return ""
            return failure.seen
        return ""


def parse_attachment(text: str) -> tuple[str, ExternalServer]:
    """Read "vllm=http://host:8000": the engine's name, and the server.

    Raises:
        BadAttachment: it has another form, or names an engine that is not registered.
    """
    engine, _, url = text.partition("=")
    try:
        parts = urlsplit(url)
        is_address = bool(
            parts.scheme in ("http", "https")
            and parts.hostname
            and web.port_of(parts)
        )
    except ValueError:
        is_address = False
    if not (engine and is_address):
        raise _bad_attachment(text, "it is not ENGINE=URL")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise _bad_attachment(text, "the URL has characters that no URL has")
    if parts.query or parts.fragment:
        raise _bad_attachment(
            text, "the URL has more than an address and a path"
        )
    if engine not in ENGINES:
        suggestion = formatting.suggestion(engine, ENGINES)
        raise BadAttachment(
            tried=f"reading --attach {text}",
            seen=f"there is no engine {engine}",
            remedy=f"{suggestion}use one of {', '.join(ENGINES)}",
        )
    return engine, ExternalServer(web.address_of(url))


def _bad_attachment(text: str, seen: str) -> BadAttachment:
    return BadAttachment(
        tried=f"reading --attach {text}",
        seen=seen,
        remedy="write for example --attach vllm=http://10.0.0.7:8000",
    )


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
        BadAttachment: a text has another form, names another engine than the server's,
            or a second server of one model.
        NotReachable: a server does not answer.
        UnknownDeployment: a server serves no model of the catalogue.
    """
    servers: dict[tuple[str, str], ExternalServer] = {}
    for text in texts:
        engine, server = parse_attachment(text)
        served = server.served_models()
        _refuse_other_engine(engine, server, served)
        names = [entry.id for entry in served]
        known = _in_catalogue(names)
        if not known:
            raise _unknown_deployment(server.url, names)
        for model, name in known.items():
            if (engine, model) in servers:
                raise _second_server(
                    engine, model, servers[engine, model], server
                )
            servers[engine, model] = ExternalServer(
                server.address, served_model=name
            )
    return servers


def _in_catalogue(served: Sequence[str]) -> dict[str, str]:
    """Model of the catalogue -> the first name under which it is served."""
    known: dict[str, str] = {}
    for name in served:
        model = model_of(name)
        if model is not None:
            known.setdefault(model, name)
    return known


def _refuse_other_engine(
    engine: str, server: ExternalServer, served: Sequence[ServedModel]
) -> None:
    """Refuse a server that says that it is another engine: its rows would be wrong.

    An engine of a hook may be a fork, and has no names of its own then.
    """
    if not ENGINES[engine].metrics.counters:
        return
    owners = [row.owned_by for row in served if isinstance(row.owned_by, str)]
    signs = {owner for owner in owners if owner in ENGINES}
    evidence = "its list of models says owned_by"
    if not signs:
        signs = _engines_of_metrics(server)
        evidence = f"{METRICS_PATH} has the names of"
    if not signs or engine in signs:
        return
    other = ", ".join(sorted(signs))
    raise BadAttachment(
        tried=f"--attach {engine}={server.url}",
        seen=f"{evidence} {other}",
        remedy=f"write --attach {other}={server.url}",
    )


def _engines_of_metrics(server: ExternalServer) -> set[str]:
    """The engines whose counters its page of metrics has; empty where there is none."""
    try:
        page = b"\n" + web.get(
            server.url + METRICS_PATH,
            timeout_s=_MODELS_S,
            authorization=server.authorization,
        )
    except web.NoAnswer:
        return set()
    found = set()
    for name, engine in ENGINES.items():
        for counter in engine.metrics.counters.values():
            if f"\n{counter}".encode() in page:
                found.add(name)
    return found


def _second_server(
    engine: str, model: str, first: ExternalServer, second: ExternalServer
) -> BadAttachment:
    return BadAttachment(
        tried=f"--attach {engine}={first.url} --attach {engine}={second.url}",
        seen=f"both serve {model}, and one server of each engine and model is measured",
        remedy="leave one out; of replicas attach what spreads the requests over them",
    )


def _unknown_deployment(url: str, served: Sequence[str]) -> UnknownDeployment:
    names = [one_line(name, _NAME_CHARACTERS) for name in served[:_MOST_NAMES]]
    text = ", ".join(names) or "nothing"
    if len(served) > _MOST_NAMES:
        text += f" and {len(served) - _MOST_NAMES:,} more"
    suggestion = ""
    if names:
        suggestion = formatting.suggestion(names[0], CATALOGUE)
    return UnknownDeployment(
        tried=f"choosing a model to measure at {url}",
        seen=f"it serves {text}; the catalogue has {', '.join(CATALOGUE)}",
        remedy=(
            f"{suggestion}serve it under a name of the catalogue (vLLM: "
            "--served-model-name), or add [models.NAME] to the study file"
        ),
    )
