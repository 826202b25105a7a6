"""Accepting a run again: launches that the baseline has are left out."""

import pytest

from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.accept.refusals import RecordingRefused
from perfgate.judge.baseline_schema import read_recorded
from perfgate.judge.baseline_store import Store
from tests.support import builders as m

SLOW, FAST = 1000.0, 1100.0


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return Store(tmp_path / "baselines")


def saved(tmp_path, number, value):
    """Folder of a run with this throughput."""
    run = m.saved(tmp_path / "runs", number, value)
    return tmp_path / "runs" / run.run_id


def accepted(store, *folders, **choice):
    """What `accept` does outside CI."""
    return accept(folders, store, Choice(**choice), env={})


def values(store):
    """The recorded launches."""
    file = read_recorded(store.path(m.THROUGHPUT, "h200x2"))
    launches = file.metrics[m.THROUGHPUT.metric].launches
    return [launch.value for launch in launches]


def test_recorded_run_has_nothing_to_accept(tmp_path, store):
    """A slow run that later faster ones joined is not refused as worse: it changes nothing."""
    folder = saved(tmp_path, 1, SLOW)
    accepted(store, folder)
    accepted(store, saved(tmp_path, 2, FAST), report_only=True, reason="trial")
    before = values(store)

    again = accepted(store, folder)

    assert ((), ()) == (again.proposals, again.paths)
    assert (
        f"run {folder.name} is already in the baseline: nothing to accept"
        == again.skipped
    )
    assert before == values(store)


def test_recorded_run_is_left_out_of_several(tmp_path, store):
    """Named with a new run, the recorded one is no observation of its own."""
    first = saved(tmp_path, 1, SLOW)
    accepted(store, first)
    second = saved(tmp_path, 2, SLOW)

    both = accepted(store, first, second)

    assert [(second.name,)] == [proposal.runs for proposal in both.proposals]
    assert [SLOW, SLOW] == values(store)


def test_decision_about_a_recorded_run_is_carried_out(tmp_path, store):
    """A target effect with a reason applies to launches that the baseline has."""
    folder = saved(tmp_path, 1, SLOW)
    accepted(store, folder)

    again = accepted(store, folder, target_effect=0.25, reason="shared host")

    assert [0.25] == [row.new.target_effect for row in again.proposals]


def test_misspelt_case_is_corrected(tmp_path, store):
    """--only with a misspelt id names the nearest measured case."""
    with pytest.raises(RecordingRefused) as refused:
        accepted(
            store,
            saved(tmp_path, 1, SLOW),
            only=(m.THROUGHPUT.id.replace("mixtral", "mixtrl"),),
        )
    assert "matches none of 1 measured cases" in refused.value.seen
    assert f"did you mean {m.THROUGHPUT.id}? " in refused.value.remedy
