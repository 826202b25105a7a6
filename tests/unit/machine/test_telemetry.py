"""GPU telemetry: summaries of a measurement, and throttling."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from perfgate.machine.nvml import Gpus, Look
from perfgate.machine.telemetry import (
    GpuSummary,
    Header,
    Telemetry,
    energy_j,
    series_path,
    summary,
    throttled,
)
from tests.support.fake_nvml import FakeNvml, read_series

ROOT = Path(__file__).resolve().parents[3]
HEADER = Header(server="vllm-mixtral-8x7b-tp1", launch=2, gpus=(0,))


def look(power_w=400.0, sm_mhz=1980, reasons=0):
    """One look at a GPU."""
    return Look(
        power_w=power_w,
        energy_j=0.0,
        sm_mhz=sm_mhz,
        memory_mhz=3201,
        temperature_c=55,
        utilisation=0.9,
        reasons=reasons,
    )


def wait_for(what):
    """Until it is so; a test that waits in vain fails by its own words."""
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until, "waited for 60 s"
        time.sleep(0.01)


def test_summary_of_looks():
    """Mean and peak power, least and median clock, share of each reason, counted energy."""
    looks = [
        look(300.0, 1980),
        look(500.0, 1000, 0x4),
        look(700.0, 1900, 0x4 | 0x1),
        look(500.0, 1980, 0x1),
    ]

    seen = summary(0, looks, 100.0, 1100.5)

    # (300 + 500 + 700 + 500) / 4; the median of 1000, 1900, 1980, 1980
    assert (500.0, 700.0, 1000.0, 1940.0) == (
        seen.power_mean_w,
        seen.power_max_w,
        seen.sm_clock_min_mhz,
        seen.sm_clock_median_mhz,
    )
    assert ({"sw_power_cap": 0.5}, 1000.5, 4) == (
        seen.throttle,
        seen.energy_j,
        seen.looks,
    )


def test_summary_without_looks_has_energy_alone():
    """Nothing is made up."""
    assert GpuSummary(index=1, looks=0, energy_j=2.0) == summary(
        1, [], 1.0, 3.0
    )
    assert summary(1, [], None, 3.0).energy_j is None
    assert summary(1, [], 3.0, 1.0).energy_j is None


@pytest.mark.parametrize(
    ("reason", "counts"),
    [
        ("sw_power_cap", True),
        ("sync_boost", True),
        ("unknown_0x8000", True),
        ("hw_slowdown", False),
        ("hw_thermal_slowdown", False),
        ("sw_thermal_slowdown", False),
        ("hw_power_brake_slowdown", False),
    ],
)
def test_throttling_is_told(reason, counts):
    """A power cap is a note; thermal and hardware slowdown make the repetition invalid.

    Both name the clock.
    """
    gpu = GpuSummary(
        index=1, looks=40, sm_clock_min_mhz=1200.0, throttle={reason: 0.25}
    )

    invalid, notes = throttled([gpu])

    told = f"GPU 1 was throttled: {reason} in 25% of 40 looks, SM clock down to 1200 MHz"
    assert (
        ((), (told,)) == (invalid, notes)
        if counts
        else ((told,), ()) == (invalid, notes)
    )


def test_energy_is_of_all_gpus_or_unknown():
    """One that does not count leaves the sum unknown."""
    one, two = (GpuSummary(index=n, looks=0, energy_j=5.0 + n) for n in (0, 1))
    assert 11.0 == energy_j([one, two])
    assert energy_j([one, GpuSummary(index=2, looks=0)]) is None
    assert energy_j([]) is None


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_clock_that_is_set_hides_no_throttling(monkeypatch, seconds):
    """The looks of a repetition are found by time that passes evenly."""
    nvml = FakeNvml(reasons=0x40)
    watch = Telemetry(Gpus((0,), nvml), HEADER).start()
    mark, began = watch.mark(), nvml.looks
    wait_for(lambda: nvml.looks >= began + 2)
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + seconds)
    set_at = nvml.looks
    wait_for(lambda: nvml.looks >= set_at + 3)
    gpus = watch.since(mark)
    watch.stop()

    assert 3 <= gpus[0].looks
    assert {"hw_thermal_slowdown": 1.0} == gpus[0].throttle


def test_series_is_written_and_a_repetition_keeps_its_own_part(tmp_path):
    """Samples before the mark are not in its summary.

    The file holds all of them, and NVML is closed at the end.
    """
    nvml = FakeNvml(count=2, power_w=600.0)
    path = series_path(tmp_path, HEADER.server, HEADER.launch)
    watch = Telemetry(Gpus((0, 1), nvml), HEADER, path).start()
    wait_for(lambda: nvml.looks >= 4)
    nvml.power_w = 300.0
    changed = nvml.looks
    wait_for(
        lambda: nvml.looks >= changed + 4
    )  # a look that is under way may have seen the old power
    mark, before = watch.mark(), nvml.looks
    wait_for(lambda: nvml.looks >= before + 6)
    gpus = watch.since(mark)
    watch.stop()

    header, moments = read_series(path)
    assert (HEADER, 2) == (header, len(moments[0].gpus))
    assert [600.0, 300.0] == [
        moments[0].gpus[0].power_w,
        moments[-1].gpus[0].power_w,
    ]
    assert [0, 1] == [gpu.index for gpu in gpus]
    assert 300.0 == gpus[0].power_max_w
    assert 2 <= gpus[0].looks < len(moments)
    assert 0 < energy_j(gpus)
    assert (0, None) == (nvml.open, watch.failure)


def test_without_sampling_energy_is_counted_and_nothing_else(tmp_path):
    """No thread and no file: the difference to a session with telemetry is what telemetry costs."""
    nvml = FakeNvml()
    threads = threading.active_count()
    watch = Telemetry(Gpus((0,), nvml), HEADER, None, sampled=False).start()
    mark = watch.mark()
    assert threads == threading.active_count()
    wait_for(lambda: watch.since(mark)[0].energy_j > 0)
    (gpu,) = watch.since(mark)
    watch.stop()

    assert (0, None, 0) == (gpu.looks, gpu.power_mean_w, nvml.open)


def test_gpu_that_falls_silent_ends_the_series_with_its_reason(tmp_path):
    """The measurement goes on; who reads it is told."""
    nvml = FakeNvml()
    watch = Telemetry(Gpus((0,), nvml), HEADER).start()
    nvml.refused = tuple(
        name for name in dir(nvml) if name.startswith("nvmlDeviceGet")
    )
    wait_for(lambda: watch.failure is not None)
    watch.stop()

    assert "it answers none of NVML's queries" in watch.failure


def test_series_that_cannot_be_written_is_told(tmp_path):
    """A full disk or a file in the way spoils no measurement."""
    (tmp_path / "telemetry").write_text("in the way")
    watch = Telemetry(
        Gpus((0,), FakeNvml()), HEADER, series_path(tmp_path, "s", 0)
    ).start()
    wait_for(lambda: watch.failure is not None)
    watch.stop()

    assert "telemetry ended" in watch.failure


def test_a_killed_session_leaves_a_series_that_can_be_read(tmp_path):
    """What was written by then is there, whole lines only."""
    script = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}]
import time
from pathlib import Path
from perfgate.machine.nvml import Gpus
from perfgate.machine.telemetry import Header, Telemetry
from tests.support.fake_nvml import FakeNvml
header = Header(server="s", launch=0, gpus=(0,))
path = Path({str(tmp_path)!r}, "s.jsonl")
Telemetry(Gpus((0,), FakeNvml()), header, path).start()
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        # One flush is enough: a series of ten looks or so.
        wait_for(
            lambda: (
                (tmp_path / "s.jsonl").exists()
                and (tmp_path / "s.jsonl").stat().st_size > 300
            )
        )
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    _, moments = read_series(tmp_path / "s.jsonl")
    assert len(moments) > 1
    assert sorted(moments, key=lambda moment: moment.unix_s) == moments
