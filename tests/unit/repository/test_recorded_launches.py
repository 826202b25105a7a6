"""Recorded launches: unchanged ones alone, by series and machine."""

from __future__ import annotations

import msgspec
import pytest
from click.testing import CliRunner

from benchmarks import recorded_launches
from benchmarks.recorded_launches import (
    NoLaunches,
    by_machine,
    by_series,
    read_all,
)
from perfgate.results import schema as rundata
from tests.support import builders as m

CASES = (m.THROUGHPUT, m.ITL)


def saved(folder, day, values, uuid="GPU-0", injected=None, load=m.MOE_LOAD):
    """A run of that day in which the load has these throughputs, one a launch."""
    machine = m.hardware()
    gpu = msgspec.structs.replace(machine.gpus[0], uuid=uuid)
    results = m.run(
        {load: {"output_throughput": values}},
        CASES,
        run_id=f"202606{day:02}-120000-1",
        machine=msgspec.structs.replace(machine, gpus=(gpu,)),
        injected=injected,
    )
    rundata.save(results, folder / str(day))


def test_rows_have_what_a_launch_measured(tmp_path):
    """A row has the median and every valid repetition; a launch without any has none."""
    saved(tmp_path, 1, [1000.0, None])

    rows = read_all(tmp_path)

    assert 1 == len(rows)
    row = rows[0]
    assert f"h200x2/{m.MOE.key}/closed-c32/output_throughput" == row.name
    assert (0, "closed", 1000.0) == (row.launch, row.arrivals, row.value)
    assert pytest.approx((999.0, 1000.0, 1001.0)) == row.repetitions


def test_what_was_changed_on_purpose_is_left_out(tmp_path):
    """Launches of a server with an injection are no unchanged launches."""
    saved(tmp_path, 1, [1000.0])
    saved(tmp_path, 2, [500.0], injected={"arguments": "--enforce-eager"})

    assert [1000.0] == [row.value for row in read_all(tmp_path)]


def test_a_base_build_is_the_same_server(tmp_path):
    """The base build of a paired run belongs to the series of its candidate."""
    saved(tmp_path, 1, [1000.0])
    saved(tmp_path, 2, [1010.0], load=m.MOE_LOAD.base)

    series = by_series(read_all(tmp_path))

    assert [2] == [len(rows) for rows in series.values()]


def test_machines_are_told_apart(tmp_path):
    """One series has the launches of all machines of a kind."""
    for day, uuid in ((1, "GPU-a"), (2, "GPU-b"), (3, "GPU-a")):
        saved(tmp_path, day, [1000.0], uuid)
    rows = read_all(tmp_path)

    assert 1 == len(by_series(rows))
    assert [2, 1] == [len(own) for own in by_machine(rows).values()]


def test_another_configuration_is_another_series(tmp_path):
    """Launches that the gate would not compare are not put together."""
    server = msgspec.structs.replace(m.MOE, extra_args=("--enforce-eager",))
    other = msgspec.structs.replace(m.MOE_LOAD, server=server)
    saved(tmp_path, 1, [1000.0])
    saved(tmp_path, 2, [1000.0], load=other)

    assert 2 == len(by_series(read_all(tmp_path)))


def test_the_table_and_the_file(tmp_path):
    """The command counts launches and values, and writes the rows."""
    saved(tmp_path / "runs", 1, [1000.0, 1001.0])
    written = tmp_path / "launches.json"

    done = CliRunner().invoke(
        recorded_launches.main, [str(tmp_path / "runs"), "--json", str(written)]
    )

    assert 0 == done.exit_code
    assert done.output.splitlines()[2].endswith("| 1 | 2 | 2 |")
    rows = msgspec.json.decode(
        written.read_bytes(), type=list[recorded_launches.Row]
    )
    assert [1000.0, 1001.0] == [row.value for row in rows]


def test_no_launch_is_said(tmp_path):
    """A folder without runs is an error that says what to name."""
    with pytest.raises(NoLaunches, match="no unchanged launch"):
        read_all(tmp_path)
    done = CliRunner().invoke(recorded_launches.main, [str(tmp_path)])
    assert 1 == done.exit_code
