"""The fields of a ratio have the side in front of their name."""

import pytest

from perfgate.judge.identity import ratio_fields, without_side

FIELDS = {"driver": "580.1", "numerators": "2"}


def test_fields_of_one_load_have_no_side():
    """It is the only one."""
    assert FIELDS == ratio_fields([FIELDS])


def test_both_sides_keep_their_fields():
    """Also where they differ."""
    other = {"driver": "590.2"}

    fields = ratio_fields([FIELDS, other])

    assert 3 == len(fields)
    assert ["driver", "numerators", "driver"] == [
        without_side(name) for name in fields
    ]
    assert [*FIELDS.values(), *other.values()] == list(fields.values())


@pytest.mark.parametrize("name", ["driver", "numerators", "a.numerator."])
def test_other_names_stay(name):
    """Only what stands in front is a side."""
    assert name == without_side(name)
