"""Journal: nothing that was recorded is lost, at any cut, and little is written twice."""

import os

import msgspec
import pytest

from perfgate.files import RunDataError
from perfgate.results import journal
from perfgate.results import schema as rundata
from perfgate.results.recorder import LaunchEnd, Measured, Recorder
from perfgate.results.schema import RESULTS_FILE, RunResults, Server, load
from tests.support.builders import (
    BURST,
    CLOSED,
    DIED,
    MOE_CPU,
    bare_run,
    launched,
    measurement,
    repetition,
)
from tests.support.goldens import ROOT

SERVERS = {MOE_CPU.key: Server(config=MOE_CPU, python="p", versions={})}
JOURNAL = RESULTS_FILE + journal.SUFFIX
ROWS = tuple(repetition(index, 200.0 + index) for index in range(3))

# Fields of a run that a session fills.
MEASURED = (
    "servers",
    "environments",
    "workloads",
    "launches",
    "measurements",
    "cases",
    "verdicts",
    "sessions",
    "models",
    "metrics",
)


def started():
    """A run with one launch."""
    return bare_run(
        servers=SERVERS,
        workloads={CLOSED.name: CLOSED, BURST.name: BURST},
        launches=(launched(measured=False),),
    )


def steps(recorder):
    """Let a session measure, and yield after each thing that it saved."""
    for count in (1, 2, 3):
        recorder.add(Measured(measurement(0, *ROWS[:count])))
        yield
    recorder.add(Measured(measurement(0, ROWS[0], workload=BURST)))
    yield
    row = msgspec.structs.replace(
        recorder.results.measurements[0], failure=DIED
    )
    recorder.put_measurement(row)
    yield
    recorder.update(failures={MOE_CPU.key: DIED}, skipped={"a": "b", "c": "d"})
    yield
    recorder.update(failures={}, skipped={"c": "e"}, left_out=("-k",))
    yield
    recorder.add_launch(launched(1))
    yield
    recorder.add(LaunchEnd(MOE_CPU.key, 0))
    yield
    recorder.update(measurements=recorder.results.measurements[1:])
    yield


def test_every_step_can_be_read_at_once(tmp_path):
    """The run is what was recorded, though results.json was written once."""
    recorder = Recorder(started(), tmp_path)
    whole = (tmp_path / RESULTS_FILE).read_bytes()

    for _ in steps(recorder):
        assert recorder.results == load(tmp_path)
        assert recorder.results == load(tmp_path / RESULTS_FILE)
    assert whole == (tmp_path / RESULTS_FILE).read_bytes()


def test_a_finished_session_leaves_results_json_alone(tmp_path):
    """It holds everything, as `save` writes it, and no journal is beside it."""
    recorder = Recorder(started(), tmp_path)
    for _ in steps(recorder):
        pass
    recorder.finish(complete=True)

    assert [RESULTS_FILE] == [path.name for path in tmp_path.iterdir()]
    text = (tmp_path / RESULTS_FILE).read_bytes()
    assert rundata.encode(recorder.results) == text
    assert load(tmp_path).complete


def test_a_journal_cut_anywhere_holds_all_whole_steps(tmp_path):
    """Of a step that was cut nothing counts; those before it are all there."""
    recorder = Recorder(started(), tmp_path)
    states = {0: recorder.results}
    path = tmp_path / JOURNAL
    for _ in steps(recorder):
        states[path.stat().st_size] = recorder.results
    content = path.read_bytes()

    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        newest = max(end for end in states if end <= size)
        assert states[newest] == load(tmp_path)


def test_a_repetition_is_written_once(tmp_path):
    """A step holds what it adds, not the repetitions before it."""
    recorder = Recorder(started(), tmp_path)
    for count in (1, 2, 3):
        recorder.add(Measured(measurement(0, *ROWS[:count])))

    text = (tmp_path / JOURNAL).read_text()
    for row in ROWS:
        assert 1 == text.count(f'"started_unix_s":{row.started_unix_s}')


def test_results_json_is_rewritten_when_the_journal_outgrows_it(
    tmp_path, monkeypatch
):
    """Ten times as much is measured: it is written whole a few times more, not ten times."""
    monkeypatch.setattr(journal, "LEAST_BYTES", 0)
    counts = []
    for rows in (20, 200):
        folder = tmp_path / str(rows)
        recorder = Recorder(started(), folder)
        versions = set()
        for index in range(rows):
            recorder.add_launch(launched(index + 1))
            versions.add((folder / RESULTS_FILE).stat().st_mtime_ns)
        counts.append(len(versions))
        assert recorder.results == load(folder)

    few, more = counts
    assert few < more < few + 6


def test_a_journal_left_behind_is_ignored(tmp_path):
    """Killed between the two files, a session leaves one whose steps are in the other."""
    recorder = Recorder(started(), tmp_path)
    for _ in steps(recorder):
        pass
    left = (tmp_path / JOURNAL).read_bytes()
    recorder.finish(complete=True)
    (tmp_path / JOURNAL).write_bytes(left)

    assert recorder.results == load(tmp_path)
    # The next session removes it.
    Recorder(load(tmp_path), tmp_path)
    assert not (tmp_path / JOURNAL).exists()


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b'[{"at":["nowhere","x"],"value":1}]',
        b'[{"at":["launches",9],"value":1}]',
        b'[{"at":[],"value":1}]',
        b'[{"at":["gate"],"value":"?"}]',
        b'[{"at":["started"],"at":["gate"],"value":"advisory"}]',
    ],
)
def test_a_damaged_step_is_an_error(tmp_path, line):
    """What is no step is not passed over: later steps would be wrong without it."""
    recorder = Recorder(started(), tmp_path)
    for _ in steps(recorder):
        pass
    path = tmp_path / JOURNAL
    head, _, *others = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([head, line, *others]))

    with pytest.raises(RunDataError, match=RESULTS_FILE):
        load(tmp_path)


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt()])
def test_a_step_that_was_broken_off_is_not_appended_to(
    tmp_path, monkeypatch, error
):
    """What follows is written whole, so that no step stands behind a part of one."""
    recorder = Recorder(started(), tmp_path)
    recorder.add(Measured(measurement(0, ROWS[0])))
    sync, errors = os.fsync, [error]

    def fsync(descriptor):
        if errors:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - 7)
            raise errors.pop()
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    try:
        recorder.add(Measured(measurement(0, *ROWS[:2])))
    except KeyboardInterrupt:
        assert ROWS[:1] == load(tmp_path).measurements[0].repetitions
    recorder.add(Measured(measurement(0, *ROWS)))

    assert recorder.results == load(tmp_path)
    assert ROWS == load(tmp_path).measurements[0].repetitions


def test_a_journal_that_was_deleted_costs_nothing(tmp_path):
    """The session that goes on writes everything it knows."""
    recorder = Recorder(started(), tmp_path)
    recorder.add(Measured(measurement(0, ROWS[0])))
    (tmp_path / JOURNAL).unlink()
    recorder.add(Measured(measurement(0, *ROWS[:2])))

    assert recorder.results == load(tmp_path)


def test_changes_of_a_recorded_run_make_it_again():
    """Field by field, from nothing measured to a run on two GPUs."""
    after = load(ROOT / "docs" / "runs" / "h200x2-20261128c")
    before = msgspec.structs.replace(
        after, **{name: type(getattr(after, name))() for name in MEASURED}
    )
    content = rundata.encode(before)
    lines = journal.line(journal.Head(journal.hash_of(content)))
    for name in MEASURED:
        between = msgspec.structs.replace(
            before, **{name: getattr(after, name)}
        )
        lines += journal.line(tuple(journal.changes(before, between)))
        before = between

    made = journal.continued(content, lines)

    assert after == msgspec.json.decode(made, type=RunResults)


def test_a_journal_of_another_content_is_never_applied():
    """Its steps would fit: they stand on what was there before."""
    old, new = b'{"complete":false}', b'{"complete":true}'
    head = journal.line(journal.Head(journal.hash_of(old)))
    step = journal.line((journal.Change(("complete",), "changed"),))

    assert new == journal.continued(new, head + step)
    assert b'{"complete":"changed"}' == journal.continued(old, head + step)
