"""A whole run against a server that says hostile things: nothing of it is obeyed or kept."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from tests.support.raw_server import by_path, pieces, serving, whole

pytest_plugins = ["pytester"]

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07\x00\ufffe\n::error title=fake::injected\n"
    "::stop-commands::abc\n##[error]x\n```\n</details>\n<script>x</script>\n"
    "  do:   run X\nkey sk-tiptoe12345678 of http://u:tiptoe@h, tiptoe-of-alice"
)
CASE = "llama-small-tp2 and single-stream and itl and not mixtral"


def models(name):
    """A list of one model."""
    return whole(json.dumps({"data": [{"id": name}]}).encode())


@pytest.fixture
def run(project, pytester, monkeypatch):
    """Run the project in a CI job against a server that refuses each completion so."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "step.md"))
    (pytester.path / "step.md").touch()

    def start(answer):
        answers = {
            "/v1/models": models("llama-small"),
            "/v1/completions": answer,
            "/metrics": whole(b"\x1b[2Jmetrics are off"),
        }
        with serving(by_path(answers)) as server:
            url = server.url.replace("//", "//alice:tiptoe@")
            result = project(
                "-m",
                "cpu",
                "--attach",
                f"fake={url}",
                "--run-dir=run",
                "--perf-report",
                "yes",
                "-k",
                CASE,
            )
        return result, server.asked

    return start


def texts(pytester):
    """Everything that the run wrote, by name."""
    folder = pytester.path / "run"
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.name: path.read_text(encoding="utf-8", errors="surrogateescape")
        for path in [*paths, pytester.path / "step.md"]
    }


@pytest.mark.parametrize(
    "answer",
    [
        whole(HOSTILE.encode(), "500 Internal Server Error"),
        pieces(
            b"HTTP/1.0 200 OK\r\n\r\n",
            b"data: "
            + json.dumps({"error": {"message": HOSTILE}}).encode()
            + b"\n\n",
        ),
    ],
    ids=["body", "stream"],
)
def test_nothing_that_it_says_is_obeyed(run, pytester, answer):
    """Terminal, CI log, JUnit, summary and page; and no secret is in any file."""
    result, asked = run(answer)
    shown = result.stdout.str() + result.stderr.str()
    written = texts(pytester)

    assert pytest.ExitCode.TESTS_FAILED == result.ret, shown
    assert {"results.json", "report.html", "summary.md", "junit.xml"} <= (
        written.keys()
    )
    ElementTree.fromstring(written["junit.xml"])
    assert [] == hostile_lines(shown)
    assert "<script>x" not in written["report.html"]
    assert "\x1b" not in shown
    for name, text in written.items():
        assert "\x1b" not in text, name
        assert "tiptoe@" not in text, name
        assert "sk-tiptoe" not in text, name
        assert "alice:" not in text, name
    assert "tiptoe@" not in shown
    assert [] == [row for row in asked if b"uthorization: Basic" not in row]


def hostile_lines(shown):
    """Lines that a CI service or a reader would obey."""
    lines = [line.lstrip() for line in shown.splitlines()]
    return [
        line
        for line in lines
        if line.startswith(("::error title=fake::", "::stop", "do:   run X"))
        or "##[" in line
    ]
