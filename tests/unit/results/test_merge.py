"""Merging: the runs of a session's workers make one run."""

import msgspec
import pytest

from perfgate.results import merge
from perfgate.results.schema import Server, load, save
from perfgate.results.timing import Session
from tests.support import builders as m


def part(index, **changes):
    """The run of one worker, with one launch of the sparse server."""
    launch = m.launched(index)
    rows = {
        "servers": {
            launch.server: Server(config=m.MOE_CPU, python="p", versions={})
        },
        "workloads": {m.CLOSED.name: m.CLOSED},
        "launches": (launch,),
        "measurements": (m.measurement(index, m.repetition(0, 100.0 + index)),),
        "complete": True,
    }
    return m.bare_run(**rows | changes)


def test_a_server_travels_whole():
    """What another worker knows of it takes the place of what was held; others stay."""
    other = m.launched(0, m.DENSE_CPU)
    mine = part(0, launches=(m.launched(0), other))
    theirs = part(1)
    key = m.MOE_CPU.key

    found = merge.paste(mine, key, merge.cut(theirs, key))

    assert (other, *theirs.launches) == found.launches
    assert theirs.measurements == found.measurements


def test_workers_make_one_run():
    """All launches in order, begun with the first, ended with the last."""
    early = part(
        1, started="2026-06-01T11:00:00", finished="2026-06-01T12:00:00"
    )
    late = part(
        0, finished="2026-06-01T13:00:00", skipped={"t": "needs 2x H200"}
    )
    found = merge.combine([late, early], "one")

    assert ("one", early.started, late.finished) == (
        found.run_id,
        found.started,
        found.finished,
    )
    assert [0, 1] == [launch.index for launch in found.launches]
    assert [0, 1] == [row.launch for row in found.measurements]
    assert ({"t": "needs 2x H200"}, True) == (found.skipped, found.complete)


def test_one_that_was_cut_off_makes_all_incomplete():
    """Of a launch that several know, the one with its end wins."""
    ended = m.launched(0)
    start = msgspec.structs.replace(ended.start, stop="SIGTERM")
    ended = msgspec.structs.replace(ended, start=start)
    parts = [part(0), part(0, launches=(ended,)), part(0, complete=False)]

    for order in (parts, parts[::-1]):
        found = merge.combine(order, "one")
        assert ((ended,), False) == (found.launches, found.complete)


def test_what_workers_wrote_is_gathered(tmp_path):
    """None where no worker measured anything; else one run in the session's folder."""
    assert merge.gather(tmp_path, "one", True, lambda cases: ()) is None

    for index in (0, 1):
        save(part(index), merge.session_dir(tmp_path, "one") / f"gw{index}")
    merge.gather(tmp_path, "one", True, lambda cases: ("x",))

    found = load(tmp_path)
    assert ("one", 2, ("x",)) == (
        found.run_id,
        len(found.launches),
        found.left_out,
    )


def test_parts_of_other_ceilings_are_refused():
    """Their verdicts would not mean the same."""
    with pytest.raises(merge.UnlikeParts, match="--fail-over 3%"):
        merge.combine([part(0), part(1, fail_over={"all": 0.03})], "one")

    alike = [part(index, fail_over={"all": 0.03}) for index in (0, 1)]
    assert {"all": 0.03} == merge.combine(alike, "one").fail_over


def test_a_killed_workers_rows_do_not_replace_those_of_its_successor():
    """Both count their launches from 0; rows go with the launch that was measured."""
    whole = part(0)
    killed = msgspec.structs.replace(
        m.launched(0),
        measured=False,
        start=msgspec.structs.replace(m.launched(0).start, pid=7),
    )
    row = m.measurement(0, m.repetition(0, 1.0))
    cut = part(0, launches=(killed,), measurements=(row,), complete=False)

    for order in ([whole, cut], [cut, whole]):
        found = merge.combine(order, "one")
        assert (whole.launches, whole.measurements) == (
            found.launches,
            found.measurements,
        )


def test_what_a_killed_controller_did_not_merge_is_recovered(tmp_path):
    """Once: a run that has the last session's parts is left as it is."""
    session = Session(started_unix_s=5.0, seen_unix_s=6.0)
    save(
        part(0, sessions=(session,)), merge.session_dir(tmp_path, "one") / "gw0"
    )

    merge.recover(tmp_path)

    found = load(tmp_path)
    assert ("one", 1, False) == (
        found.run_id,
        len(found.launches),
        found.complete,
    )
    save(msgspec.structs.replace(found, launches=(), measurements=()), tmp_path)
    merge.recover(tmp_path)
    assert () == load(tmp_path).launches
