"""GPU probe: what it returns where there is no GPU to look at."""

from perfgate.run.probes.gpu import GpuProbe
from tests.support import builders as m


def probe(tmp_path):
    """A probe of a server on the CPU."""
    return GpuProbe(m.MOE_CPU.key, 0, (), tmp_path, is_sampled=True)


def test_a_server_without_gpus_has_no_energy(tmp_path):
    """Nothing is opened, and the launch says why its energy is missing."""
    assert ("energy: no GPU of this server counts energy",) == probe(
        tmp_path
    ).start().notes


def test_a_repetition_on_the_cpu_gets_no_figures(tmp_path):
    """Its values stay as they were, and no series is written."""
    gpu = probe(tmp_path)
    gpu.start()
    gpu.before()
    figures = gpu.after(m.repetition(0, 100.0))
    gpu.stop()

    assert ({}, (), ()) == (
        dict(figures.values),
        figures.invalid,
        figures.notes,
    )
    assert [] == list(tmp_path.iterdir())
