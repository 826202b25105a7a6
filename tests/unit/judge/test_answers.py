"""Answers: how many of the fixed greedy answers changed between runs, or launches."""

import pytest

from perfgate.judge.answers import (
    AnswerChange,
    compare,
    context_differences,
    joined,
    largest_change,
    with_counts,
)

ONE = ("aaaaaa111111", "bbbbbb222222", "cccccc333333")
OTHER = ("aaaaaa111111", "bbbbbb222222", "dddddd444444")


def test_six_digits_of_each_answer_are_kept():
    """Launches that agree make one field; those without answers take no part."""
    assert "aaaaaa bbbbbb cccccc" == joined([ONE, (), ONE])


def test_launches_that_disagree_leave_the_place_of_the_answer():
    """So that the others can be compared all the same."""
    assert "aaaaaa bbbbbb varies" == joined([ONE, OTHER])


def test_without_answers_there_is_no_field():
    """As in every run of before."""
    assert "" == joined([(), ()])


@pytest.mark.parametrize(
    ("current", "reference", "expected"),
    [
        ("a b c", "a b c", AnswerChange(0, 3)),
        ("a b c", "a x y", AnswerChange(2, 3)),
        ("a varies c", "a b x", AnswerChange(1, 2)),
        ("varies", "a", None),
        ("a b", "a b c", None),
        ("a b", "", None),
        ("", "", None),
    ],
    ids=["same", "two", "varies", "all-vary", "fewer", "unknown", "none"],
)
def test_answers_are_compared_one_by_one(current, reference, expected):
    """Where launches disagree, and where a side has none, nothing is compared."""
    assert expected == compare(current, reference)


@pytest.mark.parametrize(
    ("changed", "is_most"), [(8, False), (9, True), (0, False)]
)
def test_most_is_more_than_half(changed, is_most):
    """Of 16 answers nine are most, eight are not."""
    assert is_most == AnswerChange(changed, 16).is_most


def test_the_worse_side_of_a_ratio_counts():
    """One server with wrong tokens is enough."""
    current = {"numerator.answers": "a b", "denominator.answers": "x y"}
    reference = {"numerator.answers": "a b", "denominator.answers": "a y"}

    assert AnswerChange(1, 2) == largest_change(current, reference)
    assert largest_change(current, {}) is None


def test_a_context_names_the_number_of_changed_answers():
    """Hashes mean nothing to a reader."""
    current = {"driver": "2", "answers": "a x c"}

    assert [
        "driver: 2 now, 1 in the baseline",
        "answers: 1 of 3 changed",
    ] == context_differences(current, {"driver": "1", "answers": "a b c"})


def test_answers_that_the_baseline_does_not_have_are_no_difference():
    """A baseline of before this field stays silent, and so does a run without it."""
    assert [] == context_differences({"answers": "a b"}, {})
    assert [] == context_differences({}, {"answers": "a b"})


def test_a_context_says_where_launches_disagree():
    """Whether or not the baseline knows the answers."""
    assert ["answers: 1 differ between launches"] == context_differences(
        {"answers": "a varies"}, {}
    )


def test_a_table_of_contexts_has_counts_in_place_of_hashes():
    """Equal answers, like unknown ones, have no row."""
    current = {"driver": "1", "answers": "a x c"}

    assert (
        {"driver": "1", "answers": "1 of 3 changed"},
        {"driver": "1", "answers": "0 of 3 changed"},
    ) == with_counts(current, {"driver": "1", "answers": "a b c"})
    assert ({"driver": "1"}, {}) == with_counts(current, {})
