"""Run lock: one session at a time uses a run directory."""

import os

import pytest

from perfgate.files import RunDataError
from perfgate.run import run_lock
from perfgate.run.run_lock import RunInUse, reserve


def test_a_second_session_is_refused_with_who_holds_it(tmp_path):
    """Until the first one lets it go."""
    first = reserve(tmp_path / "run")

    with pytest.raises(RunInUse, match=f"pid {os.getpid()} of") as refused:
        reserve(tmp_path / "run")
    assert "another --run-dir" in refused.value.remedy

    first.release()
    reserve(tmp_path / "run").release()


def test_a_session_that_wrote_nothing_leaves_nothing(tmp_path):
    """Folders that were there before, or hold something, stay."""
    (tmp_path / "runs").mkdir()
    reserve(tmp_path / "runs" / "a" / "b").release()
    assert [] == list((tmp_path / "runs").iterdir())

    held = reserve(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "a" / "results.json").write_text("{}")
    held.release()
    held.release()
    names = [path.name for path in (tmp_path / "runs" / "a").iterdir()]
    assert ["results.json"] == names


def test_a_lock_file_that_was_removed_meanwhile_is_no_reservation(
    tmp_path, monkeypatch
):
    """Who locked a file that its last owner has removed tries again with a new one."""
    lock = run_lock._lock
    leases = []

    def late(run_dir):
        leases.append(lock(run_dir))
        if len(leases) == 1:
            (run_dir / run_lock.FILE).unlink()
        return leases[-1]

    monkeypatch.setattr(run_lock, "_lock", late)
    reserve(tmp_path).release()

    assert [(), ()] == [lease.descriptors for lease in leases]


def test_a_folder_that_cannot_be_made_is_a_failure(tmp_path):
    """With the cause and another folder as the remedy."""
    (tmp_path / "file").write_text("")

    with pytest.raises(RunDataError, match="--run-dir"):
        reserve(tmp_path / "file" / "run")


def test_a_lock_that_cannot_be_made_is_no_other_session(tmp_path):
    """As in a folder of another user, or on a full disk: no wait would help."""
    (tmp_path / run_lock.FILE).mkdir()

    with pytest.raises(RunDataError, match="is a directory") as caught:
        reserve(tmp_path)

    assert "wait" not in caught.value.remedy
