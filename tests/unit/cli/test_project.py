"""Stores that commands read: a folder that is not there is refused, but where one is made."""

import pytest

from perfgate.cli import project
from perfgate.config.project import BadProject


@pytest.mark.parametrize(
    ("store_of", "tried"),
    [
        (project.judging_store, "judging against the baselines in "),
        (project.existing_store, "reading the baselines in "),
    ],
)
def test_a_store_that_is_not_there_is_refused(tmp_path, store_of, tried):
    """By what was to be done with it; one that is there may be empty."""
    missing = tmp_path / "missing"

    with pytest.raises(BadProject) as raised:
        store_of(missing)

    assert f"{tried}{missing}" == raised.value.tried
    assert tmp_path == store_of(tmp_path).root


def test_accepted_launches_begin_a_store(tmp_path):
    """Its folder need not be there."""
    assert tmp_path / "new" == project.own_store(tmp_path / "new").root
