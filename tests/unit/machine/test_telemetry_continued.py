"""A launch that is sent more load later: its telemetry series goes on."""

import time

from perfgate.machine.nvml import Gpus
from perfgate.machine.telemetry import Header, Telemetry, series_path
from perfgate.run.probes import gpu as gpu_probe
from perfgate.run.probes.gpu import GpuProbe
from tests.support.fake_nvml import FakeNvml, read_series

HEADER = Header(server="s", launch=0, gpus=(0,))


def wait_for(condition):
    """Wait until a condition holds."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_second_part_is_appended(tmp_path):
    """The second load of a launch adds its samples; the header stays the only one."""
    path = series_path(tmp_path, HEADER.server, HEADER.launch)
    for power_w in (600.0, 300.0):
        fake = FakeNvml(count=1, power_w=power_w)
        telemetry = Telemetry(Gpus((0,), fake), HEADER, path).start()
        wait_for(lambda fake=fake: fake.looks >= 3)
        telemetry.stop()

    header, moments = read_series(path)

    assert HEADER == header
    assert [600.0, 300.0] == [
        moments[0].gpus[0].power_w,
        moments[-1].gpus[0].power_w,
    ]


def test_series_of_a_dropped_launch_is_removed(tmp_path, monkeypatch):
    """A new probe begins its file anew: a resumed run may use the index of a launch again."""
    path = series_path(tmp_path, "s", 0)
    path.parent.mkdir(parents=True)
    path.write_text("of a launch that was cut off")
    monkeypatch.setattr(
        gpu_probe, "Gpus", lambda indices: Gpus(indices, FakeNvml(count=1))
    )
    probe = GpuProbe("s", 0, (0,), tmp_path, is_sampled=True)

    probe.start()
    probe.stop()
    assert not path.exists()

    path.write_text("of the first part of this launch")
    probe.start()
    probe.stop()
    assert path.exists()
