"""Footprint probe: memory of a server, its peak, and throughput per GB."""

import types

import pytest

from perfgate.machine import memory
from perfgate.run.probes.footprint import FootprintProbe
from tests.support import builders as m


@pytest.fixture
def probe(monkeypatch):
    """The probe of a server on one GPU that holds what `used` says."""
    used = [4e9]
    monkeypatch.setattr(
        memory, "gpu_bytes", lambda indices: dict.fromkeys(indices, used[0])
    )
    server = types.SimpleNamespace(url="http://x", gpu_indices=(0, 1))
    engine = types.SimpleNamespace(
        weights_bytes_per_rank=lambda url: (1e9, 1e9)
    )
    return FootprintProbe(m.MOE, server, engine, m.hardware(), {}), used


def test_throughput_per_gb_is_known_after_each_repetition(probe):
    """100 tok/s on two GPUs with 4 GB each: 12.5 tok/s per GB."""
    footprint, _ = probe

    assert {"output_throughput_per_gb": 12.5} == footprint.after(
        m.repetition(0, {"output_throughput": 100.0})
    ).values
    assert {} == footprint.after(m.repetition(0, {"itl_median_ms": 8.0})).values


def test_memory_is_read_at_the_end_with_its_peak(probe):
    """The peak is that of the largest GPU, of all starts of the probe."""
    footprint, used = probe
    footprint.start()
    used[0] = 6e9
    footprint.finish(is_part=True)
    footprint.stop()
    used[0] = 5e9
    footprint.start()
    values = footprint.finish(is_part=False).values
    footprint.stop()

    assert (10e9, 6e9) == (values["memory_bytes"], values["memory_peak_bytes"])


def test_growth_is_that_since_the_first_repetition(probe, monkeypatch):
    """The warm-up is over then; processes and GPUs each have their own."""
    footprint, used = probe
    processes = iter((1e9, 1.5e9))
    footprint._server.pids = lambda: (1,)
    monkeypatch.setattr(memory, "process_bytes", lambda pids: next(processes))
    footprint.before()
    footprint.before()
    used[0] = 5e9

    values = footprint.finish(is_part=False).values

    assert 1.5 == values["memory_growth"]
    assert 1.25 == values["gpu_memory_growth"]


def test_part_of_the_load_has_no_memory(probe):
    """What a server holds after a part of its load is not recorded; its weights are."""
    footprint, _ = probe
    figures = footprint.finish(is_part=True)

    assert not {"memory_bytes", "memory_peak_bytes"} & figures.values.keys()
    assert "weights_bytes_per_rank" in figures.values
    assert (
        "memory: not recorded, because the server had only a part of its load"
        in figures.notes
    )


def test_memory_that_cannot_be_read_is_a_note(probe, monkeypatch):
    """The weights stay, and the reason stands with the launch."""
    footprint, _ = probe

    def refuse(indices):
        raise memory.MemoryUnknown("asking", "no answer", "look at nvidia-smi")

    monkeypatch.setattr(memory, "gpu_bytes", refuse)
    figures = footprint.finish(is_part=False)

    assert (
        {}
        == footprint.after(m.repetition(0, {"output_throughput": 100.0})).values
    )
    assert "memory_bytes" not in figures.values
    assert any(
        note.startswith("memory: ") and "no answer" in note
        for note in figures.notes
    )
