"""Proxy and key variables of the shell change nothing for servers of this machine."""

from __future__ import annotations

import json

import pytest

from tests.support import fake_suite

pytest_plugins = ["pytester"]

CASE = "llama-small-tp2 and closed-c16 and output_throughput and not over"


@pytest.fixture
def behind_a_proxy(monkeypatch):
    """A company's runner: all that goes through the proxy fails."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://user:tiptoe@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("VLLM_API_KEY", "tiptoe-key-1")
    monkeypatch.setenv("PERFGATE_API_KEY", "tiptoe-key-2")


@pytest.mark.parametrize("is_attached", [False, True])
def test_a_proxy_does_not_stand_in_between(
    project, pytester, behind_a_proxy, is_attached
):
    """Every counter is read, every rule applied, and no variable is written down."""
    options = ["-m", "cpu", "-k", CASE, "--run-dir=run"]
    if is_attached:
        with fake_suite.running(itl_s=0.001) as url:
            result = project(*options, "--attach", f"fake={url}")
    else:
        result = project(*options)
    text = (pytester.path / "run" / "results.json").read_text()
    rows = json.loads(text)["measurements"]
    repetitions = [row for entry in rows for row in entry["repetitions"]]

    assert pytest.ExitCode.OK == result.ret, result.stdout.str()
    assert repetitions
    for row in repetitions:
        assert [] == row["unchecked"]
        assert 0 == row["failed"]
        assert "preemptions" in row["server_values"]
    assert "tiptoe" not in text
    assert "tiptoe" not in result.stdout.str()
