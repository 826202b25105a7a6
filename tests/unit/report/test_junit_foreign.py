"""JUnit XML is valid, whatever a server of the run has said."""

from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.errors import FailureRow
from perfgate.judge.verdict import Outcome
from perfgate.report.junit import LONGEST_TEXT, junit
from perfgate.results.diagnosis import Diagnosis
from perfgate.results.group_verdict import GroupVerdict
from tests.support.judged_runs import judged
from tests.support.junit_schema import SCHEMA

HOSTILE = [
    "\x1b[31mred",
    "\x00\x08\x0b",
    "\ufffe\uffff",
    "\ud800",
    "]]>&<!--",
    "a\r\n::error::b",
    "x" * 100_000,
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
    group = GroupVerdict(
        scope="load",
        subject=text,
        check="stalls",
        outcome=Outcome.REGRESSED,
        gate="hard",
        summary=text,
        details=(text,),
    )
    diagnosis = Diagnosis(
        cause="unknown",
        who="server",
        phase="unknown",
        servers=(text,),
        evidence=(text,),
        differs=(text,),
    )
    failure = FailureRow(tried="starting", seen=text, remedy=text)
    return msgspec.structs.replace(
        results,
        verdicts=rows,
        group_verdicts=(group,),
        diagnoses=(diagnosis,),
        failures={f"vllm-{text}": failure},
        lacking={"a/b/c": text},
    )


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("gate", ["advisory", "required"])
def test_hostile_text_leaves_it_valid(text, gate):
    """Stored runs of older versions hold such text; a message has a limit."""
    results = msgspec.structs.replace(spoken(text), gate=gate)
    written = junit(results)
    root = ElementTree.fromstring(written)

    SCHEMA.validate(written)
    assert root.findall(".//failure")
    assert root.findall(".//error")
    longest = max(len(row.text or "") for row in root.iter())
    assert longest < 2 * LONGEST_TEXT


@settings(deadline=None, max_examples=30)
@given(st.text())
def test_any_text_leaves_it_valid(text):
    """Every character that a string can hold."""
    SCHEMA.validate(junit(spoken(text)))


def test_a_run_without_a_measurement_is_valid():
    """It has no suite, or says of each case why there is no verdict."""
    results = msgspec.structs.replace(judged(), cases=(), verdicts=())

    SCHEMA.validate(junit(results))

    results = msgspec.structs.replace(results, lacking={"a/b/c": "no GPU"})
    text = junit(results)
    SCHEMA.validate(text)
    assert "no GPU" == ElementTree.fromstring(text).find(".//skipped").text
