"""JUnit XML: what a CI service reads of a run."""

from xml.etree import ElementTree

import msgspec

from perfgate.report.junit import junit
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
