"""JUnit XML: what a CI service reads of a run."""

from xml.etree import ElementTree

import msgspec
import pytest

from perfgate.report.junit import junit
from tests.support import builders
from tests.support.judged_runs import judged


def test_junit_has_a_case_for_each_metric():
    """One suite a server, one case a workload and metric, figures as properties, failures."""
    tree = ElementTree.fromstring(
        junit(judged("REGRESSED", "PASSED", "INCONCLUSIVE"))
    )
    case = next(
        c for c in tree.iter("testcase") if c.find("failure") is not None
    )
    properties = {p.get("name"): p.get("value") for p in case.iter("property")}

    assert ("3", "1", "1") == (
        tree.get("tests"),
        tree.get("failures"),
        tree.get("skipped"),
    )
    assert "batch-1/output_throughput" == case.get("name")
    assert ("1000", "1050", "tok/s") == tuple(
        properties[name] for name in ("value", "baseline", "unit")
    )


def test_junit_names_the_cause():
    """As a property of the case, and in the text of the failure."""
    results = judged("REGRESSED")
    cause = "graphs on -> off, chosen by the engine"
    caused = tuple(
        msgspec.structs.replace(row, cause=cause) for row in results.verdicts
    )
    text = junit(msgspec.structs.replace(results, verdicts=caused))
    tree = ElementTree.fromstring(text)
    properties = {p.get("name"): p.get("value") for p in tree.iter("property")}

    assert cause == properties["cause"]
    assert f"cause: {cause}" in next(tree.iter("failure")).text
    assert '"cause"' not in junit(results)


@pytest.mark.parametrize(
    ("gate", "tag"), [("required", "failure"), ("advisory", "skipped")]
)
def test_a_case_without_a_verdict_has_its_reason(gate, tag):
    """That of its skip, or that a server failed; else that there is none."""
    results = judged("PASSED", "PASSED", "PASSED", "PASSED", "PASSED")
    first, *_, last = results.cases
    results = msgspec.structs.replace(
        results,
        gate=gate,
        verdicts=results.verdicts[1:2],
        skipped={f"tests/perf/test_a.py::test_b[x-{first.id}]": "no prompts"},
        lacking={"other/batch-1/itl_median_ms": "no data set"},
        failures={last.numerator.server.key: builders.DIED},
        cases=(*results.cases[:3], last),
    )
    tree = ElementTree.fromstring(junit(results))
    found = {}
    for case in tree.iter("testcase"):
        if case.get("classname") == "perfgate.not_measured":
            found[case.get("name")] = case.find(tag).text

    assert {
        first.id: "no prompts",
        results.cases[2].id: "it has neither a verdict nor a reason",
        last.id: "a server of it failed",
        "other/batch-1/itl_median_ms": "no data set",
    } == found
