"""Tables of stored GPU runs: medians, ranges, ratios and noise, without what was injected."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from benchmarks import gpu_tables
from perfgate.cases import Case, Load
from perfgate.load.workload import Workload
from perfgate.results import schema
from tests.support import builders as m

RUNS = Path(__file__).resolve().parents[3] / "docs" / "runs"
FULL = Workload(name="closed-c32", num_prompts=256, max_concurrency=32)
BATCH = Workload(name="batch-2", num_prompts=8, max_concurrency=2)
BATCH_32 = Workload(name="batch-32", num_prompts=96, max_concurrency=32)


def run(number, throughput, injected=None):
    """A run of the dense model on a machine of its own, with the ITL of two batches."""
    machine = m.hardware("h200", 1)
    gpu = msgspec.structs.replace(machine.gpus[0], uuid=f"GPU-{number}")
    values = {
        Load(server=m.DENSE, workload=FULL): {"output_throughput": throughput},
        Load(server=m.DENSE, workload=BATCH): {"itl_median_ms": [5.0]},
        Load(server=m.DENSE, workload=BATCH_32): {"itl_median_ms": [6.0]},
    }
    ratio = Case(
        experiment="E4",
        metric="itl_median_ms",
        numerator=Load(server=m.DENSE, workload=BATCH_32),
        denominator=Load(server=m.DENSE, workload=BATCH),
    )
    results = m.run(
        values,
        [ratio],
        run_id=f"2026060{number}-120000-1",
        machine=msgspec.structs.replace(machine, gpus=(gpu,)),
        injected=injected,
    )
    return results


def cells(table):
    """The cells of each row of a table, by what the row begins with."""
    rows = [line.strip("| ").split(" | ") for line in table]
    return {row[0]: row[1:] for row in rows[2:]}


def test_a_value_is_the_median_with_its_range():
    """Of the launches of all runs; what was not measured is a dash."""
    runs = [run(1, [4000.0, 5000.0]), run(2, [4500.0])]
    (row,) = cells(gpu_tables.speeds(runs)).values()

    assert "4,500 (4,000 to 5,000)" == row[0]
    assert {"-"} == set(row[1:])


def test_injected_launches_are_left_out():
    """A run with a delay is in no table of speeds."""
    changed = run(2, [1.0], injected={"arguments": "--enforce-eager"})
    (row,) = cells(gpu_tables.speeds([run(1, [4000.0]), changed])).values()

    assert "4,000" == row[0]
    assert {} == cells(gpu_tables.speeds([changed]))


def test_series_and_ratios():
    """A batch has its column; a ratio of two batches is 6 / 5."""
    runs = [run(1, [4000.0])]
    (batches,) = cells(gpu_tables.batches(runs)).values()
    (ratio,) = cells(gpu_tables.ratios(runs)).values()

    assert ["`itl_median_ms`", "-", "5", "-", "-", "-", "6", "-"] == batches
    assert ["`itl_median_ms`", "1.2", "1"] == ratio
    assert {} == cells(gpu_tables.rates(runs))


def test_later_loads_have_a_table_of_their_own():
    """With a row for each server that had one; the single stream is a batch of one."""
    steady = Workload(name="steady-c32", num_prompts=256, max_concurrency=32)
    single = Workload(name="single-stream", num_prompts=8, max_concurrency=1)
    values = {
        Load(server=m.DENSE, workload=steady): {
            "steady_output_throughput": [4600.0]
        },
        Load(server=m.DENSE, workload=single): {"itl_median_ms": [5.0]},
        Load(server=m.DENSE, workload=BATCH_32): {"itl_median_ms": [6.0]},
    }
    runs = [m.run(values, [], machine=m.hardware("h200", 1))]
    table = list(gpu_tables.speeds(runs))
    (later,) = cells(table[table.index("") + 1 :]).values()
    (batches,) = cells(gpu_tables.batches(runs)).values()

    assert ("4,600", {"-"}) == (later[0], set(later[1:]))
    assert ("5", "6") == (batches[1], batches[6])


def test_noise_of_launches_and_machines():
    """Two launches that differ by 2 % vary by 1.4 %; three machines at 1, 2, 3 % by 1 %."""
    one = [run(1, [1000.0, 1020.2])]
    three = [run(n, [1000.0 * 1.01**n]) for n in (1, 2, 3)]
    (within,) = cells(gpu_tables.noise(one)).values()
    rows = [*gpu_tables.noise(three)]

    assert ["closed-c32", "`output_throughput`"] == within[:2]
    assert ["1.4 % (2 launches)", "-"] == within[2:]
    assert any(row.endswith("| - | 1.0 % (3 machines) |") for row in rows)


@pytest.mark.parametrize("folder", ["h200x2-planted", "h100x1-pairs"])
def test_injected_changes_of_stored_runs(folder):
    """Each stored run with a change has lost something, and no unchanged one has."""
    rows = [
        line.strip("| ").split(" | ")
        for line in gpu_tables.injected(RUNS / folder)
    ][2:]
    changed = [row for row in rows if not row[0].startswith("nothing")]

    assert changed
    assert all("REGRESSED" in row[2] for row in changed)
    assert all(row[-1].endswith(", 0") for row in rows if row not in changed)


def test_command_prints_all_tables(tmp_path):
    """Five, of the runs that are named."""
    schema.save(run(1, [4000.0, 4100.0]), tmp_path / "run")
    done = CliRunner().invoke(gpu_tables.main, [str(tmp_path / "run")])

    assert 0 == done.exit_code, done.output
    assert 5 == done.output.count("\n|---")
