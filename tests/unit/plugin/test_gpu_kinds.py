"""Sessions on mixed GPUs, on eight of them, and beside a driver that does not answer."""

from __future__ import annotations

import pytest

from perfgate.results.schema import load

pytest_plugins = ["pytester"]


def test_display_card_takes_no_part(gpus, pytester, monkeypatch):
    """The H200 behind it is leased, launched on and recorded; the header names the card."""
    monkeypatch.setenv("FAKE_GPU_KIND", "t400,h200")

    result = gpus(
        "-m", "h200", "--tp", "1", "-k", "test_long", "--run-dir", "run"
    )

    results = load(pytester.path / "run")
    (launch,) = results.launches
    assert "1" == launch.start.env["CUDA_VISIBLE_DEVICES"]
    assert [1] == [gpu.index for gpu in results.hardware.gpus]
    result.stdout.fnmatch_lines(
        [
            "perfgate: left out: GPU 0 NVIDIA T400 4GB: another product than NVIDIA H200"
        ]
    )


def test_asked_product_is_used_of_two(gpus, pytester, monkeypatch):
    """`-m h100` on a machine that has larger GPUs as well."""
    monkeypatch.setenv("FAKE_GPU_KIND", "h200,h100,h200")

    gpus("-m", "h100", "--tp", "1", "-k", "test_long", "--run-dir", "run")

    results = load(pytester.path / "run")
    assert "h100" == results.hardware.kind
    assert {"1"} == {
        launch.start.env["CUDA_VISIBLE_DEVICES"] for launch in results.launches
    }


def test_plan_on_eight_of_any_product(gpus, monkeypatch):
    """Servers of eight ranks on eight GPUs without a marker of their own."""
    monkeypatch.setenv("FAKE_GPU_KIND", ",".join(["b200"] * 8))

    result = gpus("-m", "gpu", "--tp", "8", "--plan")

    assert 0 == result.ret
    result.stdout.fnmatch_lines(["*tp8*"])
    result.stdout.no_fnmatch_line("*not on this machine*")


def test_broken_driver_stops_a_gpu_session(project, monkeypatch):
    """It is an error with the driver's words and a remedy, not three skipped tests."""
    monkeypatch.setenv("FAKE_DRIVER", "RM has detected a mismatch|18")

    result = project("-m", "h200")

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    shown = " ".join(result.stderr.str().split())
    assert "RM has detected a mismatch" in shown
    assert "restart the machine" in shown
    assert "Traceback" not in shown


def test_broken_driver_is_a_note_elsewhere(project, monkeypatch):
    """The CPU needs no driver, and a plan says what is wrong."""
    monkeypatch.setenv("FAKE_DRIVER", "RM has detected a mismatch|18")

    for platform in ("cpu", "h200"):
        result = project("-m", platform, "--plan")

        assert 0 == result.ret
        result.stdout.fnmatch_lines(
            ["*the GPUs do not answer: *RM has detected a mismatch*"]
        )


def test_unified_memory_is_measured_without_checks_of_memory(
    gpus, pytester, monkeypatch
):
    """The session says what is not checked, and judges all the rest."""
    monkeypatch.setenv("FAKE_GPU_KIND", "gb10")

    result = gpus(
        "-m", "gpu", "--tp", "1", "-k", "test_long", "--run-dir", "run"
    )

    results = load(pytester.path / "run")
    assert ("gb10", None) == (
        results.hardware.kind,
        results.hardware.memory_bytes,
    )
    assert ["NO_BASELINE"] == [row.outcome for row in results.verdicts]
    result.stdout.fnmatch_lines(
        ["*NVIDIA GB10 does not report its memory: * is not checked*"]
    )
