"""Ceilings: what a person may write, and which mistakes are refused."""

import pytest

from perfgate.load.ceilings import (
    BadCeiling,
    format_ceilings,
    parse_ceilings,
    with_option,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5%", {"all": 0.05}),
        ("5 %", {"all": 0.05}),
        ("0.05", {"all": 0.05}),
        (".5 %", {"all": 0.005}),
        ("itl=3%", {"itl": 0.03}),
        ("ttft = 10 %", {"ttft": 0.10}),
        ("ttft=220%", {"ttft": 2.20}),
    ],
)
def test_shares_are_per_cent_or_fractions(text, expected):
    """For every rate, or for the family in front of an equals sign."""
    assert expected == pytest.approx(parse_ceilings([text]))


def test_the_last_one_of_a_family_counts():
    """As of any option that is given twice."""
    assert {"all": 0.05, "itl": 0.02} == parse_ceilings(
        ["5%", "itl=3%", "itl=2%"]
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("itll=3%", ("'itll'", "did you mean itl?", "throughput")),
        ("5", ("500%", "write 5%")),
        ("0%", ("out of range",)),
        ("100%", ("out of range",)),
        ("throughput=120%", ("out of range",)),
        ("-3%", ("'-3%' is no share", "itl=3%")),
        ("five", ("'five' is no share",)),
        ("itl=", ("'' is no share",)),
        ("=3%", ("there is no family of metrics ''",)),
    ],
)
def test_mistakes_are_named(text, words):
    """With the text, what is wrong, and what to write instead."""
    with pytest.raises(BadCeiling) as caught:
        parse_ceilings([text])

    for word in (repr(text), *words):
        assert word in str(caught.value)


def test_the_command_line_decides():
    """One for every rate replaces the study's; one of a family only that family's."""
    study = {"all": 0.05, "ttft": 0.10}

    assert study == with_option(study, {})
    assert {"all": 0.03} == with_option(study, {"all": 0.03})
    assert {"all": 0.05, "ttft": 0.20} == with_option(study, {"ttft": 0.20})


def test_ceilings_are_shown_as_they_are_written():
    """So that they can be copied."""
    assert "no --fail-over" == format_ceilings({})
    assert "--fail-over 5% --fail-over itl=2.5%" == format_ceilings(
        {"itl": 0.025, "all": 0.05}
    )
