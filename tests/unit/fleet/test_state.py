"""State: events of a run, written, folded and read again."""

from __future__ import annotations

import pytest

from perfgate.files import RunDataError
from perfgate.fleet import state as states
from perfgate.fleet.state import FILE, EventFile, OtherFleet
from tests.support.fake_cluster import unit
from tests.support.fleets import begun, finished, placed

ONE, TWO = unit("one"), unit("two")


def written(folder, *events):
    """A run's file with these events."""
    file = EventFile(folder)
    for event in events:
        file.append(event)


def test_each_unit_has_its_first_launch_before_any_second():
    """So that a run that is cut off knows something of each."""
    tasks = states.tasks_of(begun(ONE, TWO, launches=2))

    assert ["u01-l001", "u02-l001", "u01-l002", "u02-l002"] == list(tasks)


def test_what_is_written_is_read(tmp_path):
    """A second driver counts, and begins nothing anew."""
    first = begun(ONE, launches=2)
    written(
        tmp_path,
        first,
        placed("u01-l001", "a"),
        finished("u01-l001", "a"),
        placed("u01-l002", "a"),
        first,
    )

    state = states.read(tmp_path)

    assert 2 == state.sessions
    assert ["u01-l001"] == [task.id for task in state.measured]
    assert [("u01-l002", "a")] == [(row.id, row.host) for row in state.open]


def test_a_line_that_was_cut_is_no_event(tmp_path):
    """It is removed before the next event is appended."""
    written(tmp_path, begun(ONE), placed("u01-l001", "a"))
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"type":"Fini')

    assert "a" == states.read(tmp_path).open[0].host
    states.trim(tmp_path)
    written(tmp_path, finished("u01-l001", "a"))
    assert 1 == len(states.read(tmp_path).measured)


@pytest.mark.parametrize(
    "line",
    [
        b"{}\n",
        b'{"type":"Placed","task":"none","host":"a","kind":"","unix_s":1}\n',
    ],
)
def test_a_damaged_file_names_its_line(tmp_path, line):
    """It is not gone on with."""
    written(tmp_path, begun(ONE))
    with (tmp_path / FILE).open("ab") as file:
        file.write(line)

    with pytest.raises(RunDataError, match=FILE):
        states.read(tmp_path)
    with pytest.raises(RunDataError, match="perfgate fleet run"):
        states.read(tmp_path / "nothing")


def test_other_arguments_are_refused():
    """Two studies are not one run."""
    state = states.folded([begun(ONE)])

    states.refuse_other(state, ("-m", "gpu"), 1)
    with pytest.raises(OtherFleet, match="--launches 1 -- -m gpu"):
        states.refuse_other(state, ("-m", "cpu"), 1)
    with pytest.raises(OtherFleet):
        states.refuse_other(state, ("-m", "gpu"), 2)
