"""Atomic files: replaced whole or not at all."""

import pytest

from perfgate.files import RunDataError, write_atomically


def test_failed_write_leaves_the_old_file(tmp_path):
    """What cannot be replaced stays as it was, and no temporary file is left."""
    target = tmp_path / "results.json"
    (target / "inside").mkdir(parents=True)

    with pytest.raises(RunDataError):
        write_atomically(target, "new")
    assert [target] == list(tmp_path.iterdir())
    assert [target / "inside"] == list(target.iterdir())
