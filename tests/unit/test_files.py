"""Atomic files: replaced whole or not at all."""

import os
import stat

import pytest

from perfgate.files import RunDataError, free_name, write_atomically


def test_failed_write_leaves_the_old_file(tmp_path):
    """What cannot be replaced stays as it was, and no temporary file is left."""
    target = tmp_path / "results.json"
    (target / "inside").mkdir(parents=True)

    with pytest.raises(RunDataError):
        write_atomically(target, "new")
    assert [target] == list(tmp_path.iterdir())
    assert [target / "inside"] == list(target.iterdir())


def test_what_is_no_file_is_not_replaced(tmp_path):
    """A device or a pipe stays what it is, and nothing waits for a reader."""
    target = tmp_path / "pipe"
    os.mkfifo(target)

    with pytest.raises(RunDataError) as raised:
        write_atomically(target, "new")

    assert f"not a regular file: {target}" == raised.value.seen
    assert stat.S_ISFIFO(target.stat().st_mode)
    assert [target] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("taken", "free"), [((), "a"), (("a",), "a-2"), (("a", "a-2"), "a-3")]
)
def test_a_name_that_is_taken_gets_a_number(taken, free):
    """The first that is free."""
    assert free == free_name("a", taken.__contains__)
