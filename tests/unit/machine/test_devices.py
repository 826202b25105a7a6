"""The kernel's devices tell the vendor."""

from perfgate.machine.devices import has_amd, has_nvidia


def test_no_device(tmp_path):
    """Neither, also without /dev."""
    assert (False, False) == (has_nvidia(tmp_path), has_amd(tmp_path))


def test_amd_has_its_compute_driver(tmp_path):
    """Unless NVIDIA's is here too: a processor with graphics has one as well."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "kfd").touch()
    assert (False, True) == (has_nvidia(tmp_path), has_amd(tmp_path))

    (tmp_path / "dev" / "nvidia0").touch()
    assert (True, False) == (has_nvidia(tmp_path), has_amd(tmp_path))


def test_other_devices_of_nvidia_are_no_gpu(tmp_path):
    """A switch or the module for storage alone."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia-caps").mkdir()

    assert not has_nvidia(tmp_path)
