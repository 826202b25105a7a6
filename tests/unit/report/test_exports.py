"""Exports: what other tools can read of a run."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import msgspec
import pytest

from perfgate.report import exports
from tests.support.judged_runs import judged


def test_junit_has_a_case_for_each_metric():
    """One suite a server, one case a workload and metric, figures as properties, failures."""
    tree = ElementTree.fromstring(
        exports.junit(judged("REGRESSED", "PASSED", "INCONCLUSIVE"))
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
    text = exports.junit(msgspec.structs.replace(results, verdicts=caused))
    tree = ElementTree.fromstring(text)
    properties = {p.get("name"): p.get("value") for p in tree.iter("property")}

    assert cause == properties["cause"]
    assert f"cause: {cause}" in next(tree.iter("failure")).text
    assert '"cause"' not in exports.junit(results)


def test_pytest_benchmark_reads_our_data(tmp_path):
    """Its own compare and histogram work on two of our runs; a rate is seconds per token there."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(
            exports.pytest_benchmark(judged("PASSED", "PASSED"))
        )
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "pytest_benchmark",
        "compare",
        "a.json",
        "b.json",
        "--histogram=hist",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    first = json.loads((tmp_path / "a.json").read_text())["benchmarks"][0]

    assert 0 == done.returncode, done.stderr
    assert "vllm-mixtral-8x7b-tp2/batch-1/output_throughput" in done.stdout
    assert list(tmp_path.glob("hist*.svg"))
    assert (0.001, "s per token") == (
        pytest.approx(first["stats"]["median"]),
        first["extra_info"]["unit"],
    )
