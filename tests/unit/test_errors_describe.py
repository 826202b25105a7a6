"""What an exception of the system or of an HTTP request says in a message."""

import socket
from pathlib import Path

import pytest
import requests

from perfgate.errors import describe_error


def raised_by(call):
    """The exception that a call raises."""
    try:
        call()
    except (OSError, requests.RequestException) as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.fixture
def closed_port():
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def silent_port():
    """A port that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_missing_file(tmp_path):
    """The path is named, without the class and the number of the error."""
    path = tmp_path / "study.toml"
    error = raised_by(path.read_text)

    assert f"no such file: {path}" == describe_error(error)


def test_refused_connection(closed_port):
    """The repr of urllib3's pool does not appear."""
    url = f"http://127.0.0.1:{closed_port}"
    error = raised_by(lambda: requests.get(url, timeout=5))

    assert "connection refused" == describe_error(error)


def test_no_answer(silent_port):
    """A timeout is said as such."""
    url = f"http://127.0.0.1:{silent_port}"
    error = raised_by(lambda: requests.get(url, timeout=0.1))

    assert "no answer in time" == describe_error(error)


def test_status():
    """Of an HTTP error the status counts."""
    response = requests.Response()
    response.status_code = 503
    error = requests.HTTPError("a long text", response=response)

    assert "HTTP status 503" == describe_error(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("not JSON"), "not JSON"),
        (KeyError(), "KeyError"),
        (PermissionError(13, "Permission denied"), "permission denied"),
        (
            IsADirectoryError(21, "Is a directory", Path("/a")),
            "is a directory: /a",
        ),
    ],
    ids=["text", "without-text", "no-path", "path"],
)
def test_other_exceptions(error, expected):
    """Their text, or their name where they have none."""
    assert expected == describe_error(error)
