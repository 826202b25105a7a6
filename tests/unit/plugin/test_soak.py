"""Soak in whole sessions: the end over the beginning, and a leak that nothing else sees."""

from __future__ import annotations

from perfgate.results.schema import load
from tests.support.projects import record, verdicts

pytest_plugins = ["pytester"]
# So short that it is one pass of the load, however busy the machine.
SOAK = ("-m", "cpu", "--model", "llama-small", "--soak", "0.0001")
FILES = ("tests/perf/test_soak.py", "tests/perf/test_start_up.py")
KEY = "fake-llama-small-tp2"
RATIO = f"{KEY}/closed-c16-soaked--over--closed-c16"


def test_a_leak_is_red_and_a_sound_server_passes(
    project, pytester, monkeypatch
):
    """A tenth of a megabyte of each request is kept: speed and start are as before."""
    record(project, pytester, *SOAK, *FILES)
    project(*SOAK, *FILES, "--run-dir", "sound")
    sound = verdicts(pytester.path / "sound")
    assert {
        f"{RATIO}/output_throughput": "PASSED",
        f"{RATIO}/itl_median_ms": "PASSED",
        f"{RATIO}/ttft_median_ms": "PASSED",
        f"{KEY}/launch/memory_growth": "PASSED",
        f"{KEY}/launch/ready_s": "PASSED",
    } == sound
    monkeypatch.setenv(
        "FAKE_MISBEHAVIOUR", "llama-small: --set leak_bytes_per_request=100000"
    )

    project(*SOAK, *FILES, "--run-dir", "leaking")

    found = verdicts(pytester.path / "leaking")
    assert "REGRESSED" == found.pop(f"{KEY}/launch/memory_growth")
    assert {"PASSED"} == set(found.values())
    results = load(pytester.path / "leaking")
    first = [row for row in results.measurements if row.launch == 0]
    assert ["closed-c16", "closed-c16-soaked"] == [
        row.workload for row in first
    ]
