"""Machines: parts of a fleet's run become one run for each machine."""

from __future__ import annotations

import msgspec
import pytest

from perfgate.errors import FailureRow
from perfgate.fleet import machines
from perfgate.fleet.machines import Part
from perfgate.judge.observation import RunReader
from perfgate.results import schema
from tests.support import builders


def part(task, host, value, uuid=""):
    """A session with one launch and this throughput, on the GPU of a host."""
    machine = builders.hardware(count=1)
    gpu = msgspec.structs.replace(machine.gpus[0], uuid=uuid or f"GPU-{host}")
    results = builders.run(
        {
            builders.MOE_LOAD: {"output_throughput": [value]},
            builders.DENSE_LOAD: {"output_throughput": [2 * value]},
        },
        [builders.THROUGHPUT, builders.RATIO],
        machine=msgspec.structs.replace(machine, gpus=(gpu,)),
    )
    return Part(task, host, results)


def test_launches_of_one_machine_are_one_run():
    """Numbered anew, in the order of the tasks; nothing is lost."""
    rows = [
        part("u01-l001", "a", 1000.0),
        part("u01-l002", "b", 900.0),
        part("u01-l003", "a", 1010.0),
    ]

    first, second = machines.merged("f1", rows)
    if first.host == "b":
        first, second = second, first

    assert ("u01-l001", "u01-l003") == first.tasks
    reader = RunReader(first.results)
    values = reader.observe(builders.THROUGHPUT).values
    assert [1000.0, 1010.0] == pytest.approx(values)
    assert [2.0, 2.0] == pytest.approx(reader.observe(builders.RATIO).values)
    assert 4 == len(first.results.launches) == len(first.results.measurements)
    assert "u01-l002" in second.tasks
    assert f"f1-{first.name}" == first.results.run_id
    schema.check_references(first.results)


def test_two_gpus_of_a_host_are_two_machines():
    """And without a GPU the host is the machine."""
    rows = [
        part("u01-l001", "a", 1000.0, "GPU-1"),
        part("u01-l002", "a", 1000.0, "GPU-2"),
    ]

    assert 2 == len(machines.merged("f1", rows))
    assert "a" == machines.machine_of(builders.hardware("cpu"), "a")


def test_a_merged_run_is_written_and_read(tmp_path):
    """In a folder for each machine, as any other run."""
    (machine,) = machines.merged("f1", [part("u01-l001", "a", 1000.0)])

    machines.save(tmp_path, machine)

    again = schema.load(tmp_path / "machines" / machine.name)
    assert machine.results == again


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"complete": False}, "the session ended before everything"),
        ({"launches": (), "measurements": ()}, "nothing was launched"),
        (
            {"failures": {"s": FailureRow(tried="", seen="sick", remedy="")}},
            "s: sick",
        ),
    ],
    ids=["whole", "cut off", "empty", "failed"],
)
def test_a_part_that_lacks_something_is_told(tmp_path, changes, expected):
    """Such a launch is made again elsewhere."""
    results = part("u01-l001", "a", 1000.0).results
    schema.save(msgspec.structs.replace(results, **changes), tmp_path)

    inspected = machines.inspect(tmp_path, "a")

    assert inspected.problem.startswith(expected)
    assert bool(inspected.problem) == bool(expected)
    assert results.hardware.machine_id == inspected.machine
    assert machines.inspect(tmp_path / "nothing", "a").problem
