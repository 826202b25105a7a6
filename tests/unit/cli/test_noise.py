"""`perfgate noise`: the noise table of a store, and how it is learned anew."""

from __future__ import annotations

import datetime
import math

import msgspec
import pytest

from perfgate.cli.main import main
from perfgate.cli.noise import noise as noise_command
from perfgate.judge import noise_table
from perfgate.judge.baseline_schema import Provenance
from perfgate.judge.baseline_store import Store
from tests.support import builders as m
from tests.support.baseline_files import recorded_file

MACHINES = ("gpu-a", "gpu-b", "gpu-c")


@pytest.fixture
def store(tmp_path):
    """A store with one throughput: three machines, six launches of each."""
    values, entries = [], []
    for number, machine in enumerate(MACHINES):
        for factor in m.QUIET:
            entry = Provenance(
                run=f"run-{len(values):02}",
                accepted="2026-06-01",
                suite_version="0.1.0",
                metrics=("output_throughput",),
                machine=machine,
            )
            entries.append(entry)
            values.append(1000.0 * 1.02**number * factor)
    metric = m.recorded(m.THROUGHPUT, values).metric
    file = msgspec.structs.replace(
        recorded_file({"output_throughput": metric}),
        provenance=tuple(entries),
        arrivals="closed",
    )
    found = Store(tmp_path / "baselines")
    found.write(found.path(m.THROUGHPUT, "h200x2"), file)
    return found


def test_update_learns_the_table_and_shows_it(call, store):
    """From all recorded launches, with today's date; the machines differ by 2 %."""
    done = call(noise_command, "--baselines", store.root, "--update")

    assert 0 == done.exit_code, done.output
    table = noise_table.read(store.root / noise_table.FILE)
    assert datetime.date.today().isoformat() == table.learned
    assert (18, {"gpu/throughput", "gpu/output_throughput/closed"}) == (
        table.launches,
        set(table.groups),
    )
    group = table.groups["gpu/throughput"]
    assert math.log(1.02) == pytest.approx(group.machines.cv, rel=0.02)
    assert "from 18 recorded values, 2 groups" in done.output
    assert f"Wrote {store.root / noise_table.FILE}" in done.output


def test_the_table_is_shown_and_not_written(call, store):
    """A line for each group: CV and weight of launches, series, CV and weight of machines."""
    call(noise_command, "--baselines", store.root, "--update")
    path = store.root / noise_table.FILE
    before = path.read_bytes()

    done = call(noise_command, "--baselines", store.root)

    group = noise_table.read(path).groups["gpu/throughput"]
    row = next(
        line
        for line in done.output.splitlines()
        if line.startswith("gpu/throughput ")
    )
    launches, machines = group.launches, group.machines
    assert [
        "gpu/throughput",
        f"{100 * launches.cv:.2f}",
        "%",
        f"{launches.degrees_of_freedom:.1f}",
        "3",
        f"{100 * machines.cv:.2f}",
        "%",
        "2.0",
    ] == row.split()
    assert before == path.read_bytes()
    assert "Wrote" not in done.output


def test_a_group_without_machines_leaves_their_columns_out(call, tmp_path):
    """Nothing is shown where nothing is known."""
    spread = noise_table.Spread(cv=0.01, degrees_of_freedom=9.0)
    group = noise_table.GroupNoise(launches=spread, series=4)
    table = noise_table.NoiseTable(
        learned="2026-11-28", launches=24, groups={"cpu/itl": group}
    )
    noise_table.write(tmp_path / noise_table.FILE, table)

    done = call(noise_command, "--baselines", tmp_path)

    last = done.output.splitlines()[-1]
    assert ["cpu/itl", "1.00", "%", "9.0", "4"] == last.split()


def test_an_update_without_launches_writes_nothing(perfgate, tmp_path):
    """An empty table would take the place of the shipped one."""
    done = perfgate("noise", "--baselines", str(tmp_path), "--update")

    assert 1 == done.exit_code
    assert "too few launches are recorded there" in done.output
    assert [] == list(tmp_path.iterdir())


def test_launches_that_are_too_few_are_not_denied(perfgate, store):
    """Of one case with three launches it had said that none has several."""
    path = store.path(m.THROUGHPUT, "h200x2")
    file = store.file(path)
    metric = m.recorded(m.THROUGHPUT, [1000.0, 1010.0, 990.0]).metric
    few = {"output_throughput": metric}
    store.write(path, msgspec.structs.replace(file, metrics=few))

    done = perfgate("noise", "--baselines", str(store.root), "--update")

    assert 1 == done.exit_code
    assert "too few launches are recorded there" in done.output
    assert "until 2 cases or machines of a kind have 7 launches" in done.output
    assert not (store.root / noise_table.FILE).exists()


@pytest.mark.parametrize("update", [[], ["--update"]])
def test_a_store_that_is_not_there_is_named(perfgate, tmp_path, update):
    """The shipped table is not that of a folder with a typo in its name."""
    done = perfgate("noise", "--baselines", str(tmp_path / "none"), *update)

    assert 1 == done.exit_code
    assert f"reading the baselines in {tmp_path / 'none'}" in done.output
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("content", ["{}", 9_000 * '{"x":'])
def test_a_table_that_cannot_be_read_is_named(tmp_path, capsys, content):
    """With the command that makes it anew."""
    path = tmp_path / noise_table.FILE
    path.write_text(content)

    with pytest.raises(SystemExit) as ended:
        main(["noise", "--baselines", str(tmp_path)])

    text = capsys.readouterr().err
    assert ended.value.code
    assert str(path) in text
    assert "perfgate noise --update" in text


def test_update_replaces_a_table_that_cannot_be_read(call, store):
    """The remedy that the error names works."""
    (store.root / noise_table.FILE).write_text("{}")

    done = call(noise_command, "--baselines", store.root, "--update")

    assert 0 == done.exit_code, done.output


def test_without_any_table_the_command_that_makes_one_is_told(
    call, tmp_path, monkeypatch
):
    """Neither the store nor the shipped one has a table."""
    monkeypatch.setattr(
        "perfgate.cli.noise.existing_store", lambda folder: Store(folder)
    )

    done = call(noise_command, "--baselines", tmp_path)

    assert 0 == done.exit_code, done.output
    assert "There is no noise table" in done.output
    assert "`perfgate noise --update`" in done.output
