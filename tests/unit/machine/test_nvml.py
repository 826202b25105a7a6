"""NVML readings of each GPU; what it does not report is absent."""

import sys
import warnings
from importlib import metadata

import pytest

from perfgate.machine.nvml import (
    Gpus,
    Look,
    NvmlError,
    deprecated_binding,
    load,
    reasons,
)
from tests.support.fake_nvml import FakeNvml


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (0, ()),
        (0x1, ("gpu_idle",)),
        (0x2, ("applications_clocks_setting",)),
        (0x4, ("sw_power_cap",)),
        (0x8 | 0x40, ("hw_slowdown", "hw_thermal_slowdown")),
        (0x10 | 0x20, ("sync_boost", "sw_thermal_slowdown")),
        (0x80 | 0x100, ("hw_power_brake_slowdown", "display_clock_setting")),
        (0x4 | 0x8000, ("sw_power_cap", "unknown_0x8000")),
    ],
)
def test_mask_is_told_by_the_usual_names(mask, names):
    """As `nvidia-smi -q -d PERFORMANCE` names them; a bit without a name is not lost."""
    assert names == reasons(mask)


def test_look_is_in_common_units():
    """Watts, joules, MHz, degrees, a share, the mask as it is; NVML is closed again."""
    nvml = FakeNvml(count=2, reasons=4)
    gpus = Gpus((1,), nvml)
    (look,) = gpus.look()
    gpus.close()

    assert (400.0, 1980, 3201, 55, 0.97, 4) == (
        look.power_w,
        look.sm_mhz,
        look.memory_mhz,
        look.temperature_c,
        look.utilisation,
        look.reasons,
    )
    assert 1e6 <= look.energy_j < 1e6 + 1e5
    assert 0 == nvml.open


def test_what_a_gpu_does_not_tell_is_none():
    """Neither zero watts nor zero joules."""
    gpus = Gpus(
        (0,),
        FakeNvml(
            refused=(
                "nvmlDeviceGetPowerUsage",
                "nvmlDeviceGetTotalEnergyConsumption",
            )
        ),
    )

    assert (None, None, 1980) == (
        gpus.look()[0].power_w,
        gpus.look()[0].energy_j,
        gpus.look()[0].sm_mhz,
    )
    assert (None,) == gpus.joules()


def test_reasons_are_asked_by_the_name_that_the_driver_knows():
    """Drivers before 535 have another function for them; no reason at all is an answer, too."""
    old = FakeNvml(
        refused=("nvmlDeviceGetCurrentClocksEventReasons",), reasons=8
    )
    assert 8 == Gpus((0,), old).look()[0].reasons
    assert 0 == Gpus((0,), FakeNvml()).look()[0].reasons


def test_a_gpu_that_tells_nothing_is_an_error():
    """It may have fallen off the bus."""
    nvml = FakeNvml()
    gpus = Gpus((0,), nvml)
    nvml.refused = tuple(
        name for name in dir(nvml) if name.startswith("nvmlDeviceGet")
    )

    with pytest.raises(NvmlError, match="GPU 0"):
        gpus.look()
    assert 7 == len(Look.__struct_fields__)


@pytest.mark.parametrize(
    ("nvml", "indices"),
    [(FakeNvml(refused=("nvmlInit",)), (0,)), (FakeNvml(), (3,))],
)
def test_nvml_that_does_not_open_is_an_error(nvml, indices):
    """Or a GPU that is not there."""
    with pytest.raises(NvmlError, match="nvidia-smi"):
        Gpus(indices, nvml)


def test_a_binding_that_warns_can_be_loaded(tmp_path, monkeypatch):
    """The deprecated distribution does, and tests may treat warnings as errors."""
    module = (
        "import warnings\nwarnings.warn('deprecated', FutureWarning)\n"
        "NVMLError = OSError\n"
    )
    (tmp_path / "pynvml.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = load()

    monkeypatch.delitem(sys.modules, "pynvml")
    assert str(tmp_path / "pynvml.py") == module.__file__


def test_the_deprecated_distribution_is_found():
    """By its version; without it there is nothing to say."""

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    assert "13.0.1" == deprecated_binding(lambda name: "13.0.1")
    assert deprecated_binding(absent) is None
