"""Is energy what the GPUs count, and an error where they do not?"""

import types

import pytest

from fixtures.energy import joules
from fixtures.memory import MemoryUnknown


class Nvml(types.SimpleNamespace):
    """NVML with counters in millijoules."""

    class NVMLError(Exception):
        """As pynvml's."""

    def nvmlInit(self):
        """Open."""

    def nvmlShutdown(self):
        """Close."""

    def nvmlDeviceGetHandleByIndex(self, index):
        """The index is the handle."""
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        """Since the driver was loaded."""
        if self.used is None:
            raise self.NVMLError("Not Supported")
        return self.used[handle]


def test_counters_add_up():
    """Those of the GPUs asked for, in joules."""
    # (2,000 + 4,500) mJ
    assert 6.5 == joules((1, 2), Nvml(used=(1_000, 2_000, 4_500)))


def test_gpu_that_does_not_count_is_an_error():
    """No zero joules."""
    with pytest.raises(MemoryUnknown, match="Not Supported") as error:
        joules((0,), Nvml(used=None))
    assert "energy" in error.value.tried
