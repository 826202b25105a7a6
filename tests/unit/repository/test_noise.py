"""Noise table: variation of launches, repetitions and machines."""

from __future__ import annotations

import math
import statistics

import msgspec
import pytest
from click.testing import CliRunner

from benchmarks import noise
from benchmarks.gate_simulation import main as simulate
from benchmarks.gate_simulation import measured_settings
from benchmarks.simulated_launches import MEDIAN_VARIANCE, measured_machine
from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.judge.baseline_schema import read_recorded
from perfgate.judge.baseline_store import Store
from perfgate.judge.noise import noise_of
from perfgate.judge.policy import GPU_RATE
from perfgate.results import schema as rundata
from tests.support import builders as m

CASES = (m.THROUGHPUT, m.ITL)


def saved(folder, number, *launches, uuid="GPU-0", injected=None):
    """A run with these throughputs, one a launch, on that GPU; repetitions vary by 0.1 %."""
    machine = m.hardware()
    machine = msgspec.structs.replace(
        machine, gpus=(msgspec.structs.replace(machine.gpus[0], uuid=uuid),)
    )
    values = {
        m.MOE_LOAD: {
            "output_throughput": launches,
            "itl_median_ms": [10.0] * len(launches),
        }
    }
    results = m.run(
        values,
        CASES,
        run_id=f"202606{number:02}-120000-1",
        machine=machine,
        injected=injected,
    )
    rundata.save(results, folder / str(number))
    return folder / str(number)


def shown(*words):
    """The command's lines."""
    done = CliRunner().invoke(noise.main, [str(word) for word in words])
    return done.exit_code, done.output.splitlines()


@pytest.fixture
def six(tmp_path):
    """Six runs that vary as on an H200, on two machines; an injected one does not count."""
    folders = [
        saved(tmp_path, n, 1000 * f, uuid=f"GPU-{n % 2}")
        for n, f in enumerate(m.QUIET, 1)
    ]
    return [
        *folders,
        saved(tmp_path, 9, 500.0, injected={"arguments": "--enforce-eager"}),
    ]


def test_noise_of_runs(six, tmp_path):
    """Variation between and within launches, and the loss that the gate's rule detects.

    By one launch and by three.
    """
    status, lines = shown(
        *six, "--json", tmp_path / "noise.json", "--only", "*/output_throughput"
    )

    table = noise.read(tmp_path / "noise.json").rows
    values = [1000 * factor for factor in m.QUIET]
    expected = noise_of(values, [str(n) for n in range(6)], GPU_RATE)
    assert (0, 1) == (status, len(table))
    row = table[0]
    assert ("h200x2", m.MOE.key, "closed-c32", 6, 6, True, 3) == (
        *(
            row.hardware,
            row.server,
            row.workload,
            row.launches,
            row.runs,
            row.established,
            row.repetitions,
        ),
    )
    assert (
        pytest.approx(statistics.stdev(map(math.log, values))) == row.launch_cv
    )
    # Repetitions at 0.999, 1 and 1.001.
    assert (
        pytest.approx(statistics.stdev(map(math.log, (0.999, 1.0, 1.001))))
        == row.repetition_cv
    )
    detectable = row.detectable_one_launch, row.detectable_three_launches
    assert (
        pytest.approx((expected.mde(True, 1), expected.mde(True, 3)))
        == detectable
    )
    assert "| 6 of 6 | 0.19 % | 0.10 % |" in lines[2]


def test_machines_are_compared(six):
    """Launches on two machines: each one's median, and the spread between them."""
    _, lines = shown(*six, "--only", "*/output_throughput")

    assert lines[4].endswith("| CV between machines |")
    # Runs 1, 3, 5: 997.9, 997.9, 1000; runs 2, 4, 6: 1002.1, 1002.1, 1000.
    assert "997.9 tok/s" in lines[6]
    assert "1,002 tok/s" in lines[6]
    assert "0.30 % |" in lines[6]


def test_one_machine_says_nothing_about_others(tmp_path):
    """Where all launches were on one machine, that is said."""
    _, lines = shown(saved(tmp_path, 1, 1000.0, 1001.0))

    assert lines[-1].startswith(
        "Between machines the variation cannot be told: all launches whose machine is known"
    )
    assert "(provisional)" in lines[2]


def test_noise_of_recorded_launches(six, tmp_path):
    """Launches and machines come from the store, repetitions from a run that is named as well."""
    store = Store(tmp_path / "baselines")
    accept(six[:6], store, Choice(), env={})
    words = (
        "--baselines",
        store.root,
        "--hardware",
        "h200x2",
        "--only",
        "*/output_throughput",
    )
    _, alone = shown(*words)
    _, with_run = shown(*words, six[0])

    assert "| 6 of 6 | 0.19 % | - |" in alone[2]
    assert "997.9 tok/s" in alone[6]
    assert "| 6 of 6 | 0.19 % | 0.10 % |" in with_run[2]
    provenance = read_recorded(store.path(m.THROUGHPUT, "h200x2")).provenance
    assert 2 == len({entry.machine for entry in provenance})


def test_nothing_to_read_is_said(tmp_path):
    """No launch, no metric that matches, and a file that is no noise are errors with what to do."""
    assert "no launch was read" in "".join(shown()[1])
    folder = saved(tmp_path, 1, 1000.0)
    assert "none of them matches" in "".join(
        shown(folder, "--only", "no/such/metric")[1]
    )
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(noise.NoNoise, match="rows"):
        measured_settings(tmp_path / "broken.json")
    shown(folder, "--json", tmp_path / "one.json")
    with pytest.raises(
        noise.NoNoise, match="no metric of it was measured on two launches"
    ):
        measured_settings(tmp_path / "one.json")


@pytest.mark.parametrize("repetitions", [1, 3, 5])
def test_parts_of_measured_noise(repetitions):
    """The parts add up to the spread that was seen; what repetitions explain is theirs alone."""
    explained = 0.002**2 * MEDIAN_VARIANCE[repetitions]
    machine = measured_machine("x", 0.005, 0.002, repetitions)
    quiet = measured_machine("x", 0.0001, 0.002, repetitions)

    assert (
        pytest.approx(0.005**2)
        == machine.machine**2 + machine.launch**2 + explained
    )
    assert (0.0, 0.0, 0.002) == (quiet.machine, quiet.launch, quiet.repetition)


def test_measured_noise_is_simulated(six, tmp_path):
    """The simulation takes the measured metrics in place of those of the store."""
    shown(*six, "--json", tmp_path / "noise.json")
    words = ["--noise", str(tmp_path / "noise.json"), "--scale", "0.0005"]
    done = CliRunner().invoke(simulate, words)

    assert 0 == done.exit_code, done.output
    assert f"| h200x2 {m.THROUGHPUT.id} | 10 | 1 |" in done.output
    assert "ITL, closed" not in done.output
