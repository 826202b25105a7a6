"""Web: the suite's own HTTP calls, bounded in time and size, with the key of the environment.

Health, metrics, models, routing and answers are asked for here; the load itself is sent
by `perfgate.load.http`. Both go straight to the address: proxies and ~/.netrc do not
count, so that all of a session takes the same way. Redirects are not followed.
"""

from __future__ import annotations

import base64
import functools
import http.client
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from perfgate.errors import NOT_JSON, Failure, causes, describe_error, exhausted
from perfgate.foreign_text import one_line

if TYPE_CHECKING:
    import requests

# The suite's own variable comes first; the other one is that of OpenAI's clients.
KEY_VARIABLES = ("PERFGATE_API_KEY", "OPENAI_API_KEY")
# The certificates that count beside those of the system.
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
# Of an answer: a large page of metrics has 2 MiB, experts of a long request some 10.
MOST_BYTES = 64 * 2**20
_READ_BYTES = 64 * 1024
_SHOWN_CHARACTERS = 200
_GOOD = (200, 201)  # answered; created
_PORTS = {"http": 80, "https": 443}
_REMEDIES = {
    401: "the server asks for a key: set PERFGATE_API_KEY (or OPENAI_API_KEY) to one",
    403: (
        "the key may not do this: set PERFGATE_API_KEY to one that may, or ask the "
        "server's operator"
    ),
    407: "a proxy is in between: use an address that reaches the server without it",
    429: (
        "the server limits how much a client may send: raise the limit for this one, "
        "or measure the server behind the gateway"
    ),
}


class NoAnswer(Failure):
    """A request without an answer of status 200 or 201.

    Attributes:
        status: of the answer; None where there was none.
    """

    status: int | None = None


@dataclass(frozen=True)
class Address:
    """A URL without its user, and what the user's name and password are sent as.

    Attributes:
        url: without a trailing slash.
        authorization: value of the header; "" where the URL has no user.
    """

    url: str
    authorization: str = ""


def address_of(url: str) -> Address:
    """Take the user and password off a URL."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return Address(url.rstrip("/"))
    plain = parts._replace(netloc=host).geturl().rstrip("/")
    name, _, password = user.partition(":")
    pair = f"{unquote(name)}:{unquote(password)}"
    encoded = base64.b64encode(pair.encode()).decode()
    return Address(plain, f"Basic {encoded}")


def key_authorization(environment: Mapping[str, str] = os.environ) -> str:
    """The header's value by the key of the environment; "" where there is none.

    Raises:
        NoAnswer: the key cannot be sent.
    """
    for name in KEY_VARIABLES:
        key = environment.get(name, "").strip()
        if not key:
            continue
        if not (key.isascii() and key.isprintable()):
            raise NoAnswer(
                tried=f"reading the key in {name}",
                seen="it has characters that a header cannot have",
                remedy=f"set {name} to the key alone",
            )
        return f"Bearer {key}"
    return ""


def remedy_of(status: int | None, otherwise: str) -> str:
    """What to do about an answer of that status."""
    if status is None:
        return otherwise
    return _REMEDIES.get(status, otherwise)


def host_header(parts: SplitResult) -> str:
    """Host and port of a URL, without its user."""
    return parts.netloc.rpartition("@")[2]


def port_of(parts: SplitResult) -> int:
    """The port of a URL, or that of its scheme."""
    return parts.port or _PORTS.get(parts.scheme, 80)


@functools.cache
def tls() -> ssl.SSLContext:
    """How https is spoken: with the system's certificates, and those of `CA_VARIABLES`.

    Raises:
        NoAnswer: a variable names a file that holds no certificate.
    """
    context = ssl.create_default_context()
    for name in CA_VARIABLES:
        path = os.environ.get(name)
        if not path:
            continue
        try:
            if Path(path).is_dir():
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except OSError as error:
            raise NoAnswer(
                tried=f"reading the certificates that {name} names: {path}",
                seen=describe_error(error),
                remedy=f"correct {name}, or unset it",
            ) from error
    return context


def get(
    url: str,
    *,
    timeout_s: float,
    authorization: str = "",
    most_bytes: int = MOST_BYTES,
) -> bytes:
    """The body of the answer to GET.

    Args:
        timeout_s: for all of it, however slowly it comes.
        most_bytes: a longer body is refused.

    Raises:
        NoAnswer: none in time, a longer one, or another status than 200.
    """
    call = _Call("GET", url, timeout_s, authorization, most_bytes)
    return call.body(b"")


def get_json(url: str, *, timeout_s: float, authorization: str = "") -> Any:
    """The JSON document that answers GET.

    Raises:
        NoAnswer: as of `get`, or it is no JSON.
    """
    body = get(url, timeout_s=timeout_s, authorization=authorization)
    return _document(f"GET {url}", body)


def post(
    url: str, document: Any = None, *, timeout_s: float, authorization: str = ""
) -> bytes:
    """The body of the answer to POST.

    Args:
        document: sent as JSON; None sends nothing.

    Raises:
        NoAnswer: as of `get`.
    """
    call = _Call("POST", url, timeout_s, authorization, MOST_BYTES)
    content = b""
    if document is not None:
        content = msgspec.json.encode(document)
    return call.body(content)


def post_json(url: str, document: Any, *, timeout_s: float) -> Any:
    """The JSON document that answers POST.

    Raises:
        NoAnswer: as of `get`, or it is no JSON.
    """
    body = post(url, document, timeout_s=timeout_s)
    return _document(f"POST {url}", body)


def send_json(
    method: str,
    url: str,
    document: Any,
    *,
    timeout_s: float,
    authorization: str = "",
) -> None:
    """Send a JSON document by POST, PUT or PATCH; what is answered does not count.

    Raises:
        NoAnswer: none in time, or another status than 200 and 201.
    """
    call = _Call(method, url, timeout_s, authorization, MOST_BYTES)
    call.body(msgspec.json.encode(document))


def _document(tried: str, body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except NOT_JSON as error:
        raise NoAnswer(
            tried=tried,
            seen=f"the answer is no JSON ({error}): {_beginning(body)}",
            remedy="check the address, and that it is the server itself",
        ) from error


def _beginning(body: bytes) -> str:
    text = body[: 8 * _SHOWN_CHARACTERS].decode(errors="replace")
    return one_line(text, _SHOWN_CHARACTERS) or "no body"


@dataclass(frozen=True)
class _Call:
    """One request; its connection is closed afterwards."""

    method: str
    url: str
    timeout_s: float
    authorization: str
    most_bytes: int

    def body(self, content: bytes) -> bytes:
        """Send it, and read the answer.

        Raises:
            NoAnswer: as of `get`.
        """
        # Imported here: collecting tests must not wait for requests.
        from perfgate.web_session import Deadline, session

        with Deadline(self.timeout_s) as deadline:
            try:
                # The context of TLS is made with it, and may name a bad file.
                with session(deadline, self._tls()) as opened:
                    body = self._exchange(opened, content)
                # A body without a length ends with the connection, whoever ended that.
                deadline.check()
                return body
            except (OSError, ValueError) as error:
                is_late = deadline.is_over or _wraps(error, TimeoutError)
                seen = _described(error)
                if is_late:
                    seen = f"no complete answer within {self.timeout_s:g} s"
                raise self._failure(seen, cause=error) from error

    def _tls(self) -> Callable[[], ssl.SSLContext] | None:
        if urlsplit(self.url).scheme == "https":
            return tls
        return None

    def _exchange(self, opened: requests.Session, content: bytes) -> bytes:
        headers = {"Connection": "close", "Accept-Encoding": "identity"}
        if content:
            headers["Content-Type"] = "application/json"
        if self.authorization:
            headers["Authorization"] = self.authorization
        with opened.request(
            self.method,
            self.url,
            data=content or None,
            headers=headers,
            timeout=self.timeout_s,
            allow_redirects=False,
            stream=True,
        ) as answer:
            if answer.status_code in _GOOD:
                return self._all_of(answer)
            raise self._refusal(answer)

    def _refusal(self, answer: requests.Response) -> NoAnswer:
        """An answer of another status than 200."""
        target = answer.headers.get("Location")
        if target is not None:
            seen = f"redirected to {one_line(target)}, which is not followed"
        else:
            pieces = answer.iter_content(8 * _SHOWN_CHARACTERS)
            seen = _beginning(next(pieces, b""))
        status = answer.status_code
        return self._failure(f"HTTP {status}: {seen}", status)

    def _all_of(self, answer: requests.Response) -> bytes:
        pieces = []
        size = 0
        for piece in answer.iter_content(_READ_BYTES):
            size += len(piece)
            if size > self.most_bytes:
                limit = f"{self.most_bytes / 2**20:g} MiB"
                raise self._failure(f"the answer is larger than {limit}", 200)
            pieces.append(piece)
        return b"".join(pieces)

    def _failure(
        self,
        seen: str,
        status: int | None = None,
        cause: Exception | None = None,
    ) -> NoAnswer:
        remedy = remedy_of(
            status, "check that the server is up, and read its log"
        )
        if cause is not None:
            remedy = exhausted(cause) or remedy
        proxies = _proxies()
        if status is None and proxies and not is_loopback(self.url):
            seen += f" ({proxies} is set: the suite uses no proxy)"
        failure = NoAnswer(f"{self.method} {self.url}", seen, remedy)
        failure.status = status
        return failure


def is_loopback(url: str) -> bool:
    """Whether the URL names this machine's loopback."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _proxies(environment: Mapping[str, str] = os.environ) -> str:
    """The variables that name a proxy, for a message."""
    names = []
    for name in environment:
        if name.lower() in PROXY_VARIABLES and environment[name]:
            names.append(name)
    return ", ".join(sorted(names))


def _described(error: Exception) -> str:
    """What went wrong: the innermost exception that says it counts."""
    for cause in causes(error):
        if isinstance(cause, http.client.IncompleteRead):
            return "connection closed before the answer was complete"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted ({cause.verify_message}); set "
                "SSL_CERT_FILE to the file of its authority"
            )
        if isinstance(cause, ssl.SSLError):
            reason = cause.reason or cause
            return f"it does not speak TLS as expected ({reason})"
        if isinstance(cause, http.client.RemoteDisconnected):
            return describe_error(cause)
        if isinstance(cause, http.client.HTTPException):
            name = type(cause).__name__
            text = one_line(str(cause))
            return f"the answer is not HTTP ({name}: {text})"
    return describe_error(error)


def _wraps(error: Exception, kind: type[Exception]) -> bool:
    return any(isinstance(cause, kind) for cause in causes(error))
