"""JUnit XML stays XML, whatever a server of the run has said."""

from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.judge.verdict import Outcome
from perfgate.report import exports
from tests.support.judged_runs import judged

HOSTILE = [
    "\x1b[31mred",
    "\x00\x08\x0b",
    "\ufffe\uffff",
    "\ud800",
    "]]>&<!--",
    "a\r\n::error::b",
]


def spoken(text):
    """A run whose verdicts quote that text."""
    results = judged("REGRESSED", "INVALID")
    rows = tuple(
        msgspec.structs.replace(
            row,
            outcome=Outcome.INVALID,
            summary=f"HTTP 500: {text}",
            details=(text,),
            advice=text,
            cause=text,
        )
        for row in results.verdicts
    )
    return msgspec.structs.replace(results, verdicts=rows)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_leaves_it_well_formed(text):
    """Stored runs of older versions hold such text."""
    root = ElementTree.fromstring(exports.junit(spoken(text)))

    assert root.findall(".//failure")


@settings(deadline=None, max_examples=30)
@given(st.text())
def test_any_text_leaves_it_well_formed(text):
    """Every character that a string can hold."""
    ElementTree.fromstring(exports.junit(spoken(text)))
