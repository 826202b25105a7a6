"""Labels are output only: with every label of a report replaced, its structure stays.

The wording of verdicts is replaced in another test; here it is what `perfgate.report`
adds: headline, notices, table, summary, page.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from click.testing import CliRunner

from perfgate.cli.main import main
from perfgate.errors import FailureRow
from perfgate.judge import run_status
from perfgate.judge.baseline_store import Store
from perfgate.report import (
    headline,
    junit,
    losses,
    notices,
    page,
    summary,
    terminal,
    verdict_text,
)
from perfgate.results import schema
from perfgate.results.gates import GATES
from tests.support.relabel import relabel_report

ROOT = Path(__file__).resolve().parents[3]
STORE = Store(ROOT / "baselines")
# Regressions of one server; two builds in pairs; nothing recorded; some cases invalid.
RUNS = (
    "h200x1-planted/eager/01",
    "h100x1-pairs/delay",
    "h100x2-20261125a",
    "h200x2-20261128a",
)
GITHUB = {"GITHUB_ACTIONS": "true"}

relabelled = contextlib.contextmanager(relabel_report)


def judged(run):
    """A stored run, judged again; a server of it failed, and part of the suite is missing."""
    results = run_status.judged_again(
        schema.load(ROOT / "docs" / "runs" / run), STORE
    )
    failure = FailureRow(tried="start", seen="exit 1", remedy="look")
    return msgspec.structs.replace(
        results,
        failures={"vllm-x": failure},
        lacking={"a": "no GPU", "b": "no GPU"},
        left_out=("tests/perf/test_x.py",),
    )


def masked(text):
    """The text without its letters: what is left are rows, widths, digits and marks."""
    return re.sub("[A-Za-z]", "x", text)


def texts(results):
    """Everything that reports print, by place."""
    return {
        "sentence": headline.verdict_sentence(results),
        "table": terminal.table(results, 200, terminal=False),
        "short table": terminal.table(results, 200, False, False),
        "messages": "\n".join(terminal.attention(results)),
        "moved": "\n".join(losses.lines(results)),
        "common": terminal.in_common(results),
        "counts": terminal.totals_line(results, "required", 3),
        "notices": "\n".join(notices.important(results)),
        "ended early": "\n".join(notices.ended_early(results)),
        "launches": notices.launches(results),
        "builds": "\n".join(notices.builds(results)),
        "drift": headline.drift(results, STORE).sentence,
        "summary": summary.markdown(results, STORE),
        "annotations": "\n".join(summary.workflow_commands(results, GITHUB)),
        "junit": junit.junit(results),
        "page": page.build(page.Report([results], STORE)),
        "pages": page.build(page.Report([results, results], STORE)),
    }


def cases(results):
    """What machines read of each case: JUnit's names, properties and kinds of result."""
    rows = []
    for case in ElementTree.fromstring(junit.junit(results)).iter("testcase"):
        properties = [
            (item.get("name"), item.get("value"))
            for item in case.iter("property")
        ]
        kinds = [
            (item.tag, item.get("message"))
            for item in case
            if item.tag != "properties"
        ]
        rows.append(
            (case.get("name"), case.get("classname"), properties, kinds)
        )
    return rows


def decisions(results):
    """What is decided, and the fields by which a page or a service sorts and filters."""
    names = ("outcome", "kind", "gate", "baseline_sort", "change_sort")
    rows = page.rows(page.Report([results], STORE))
    return {
        "exit codes": [run_status.fails(results, gate) for gate in GATES],
        "rows": [[row[name] for name in names] for row in rows],
        "levels": [item.level for item in headline.attention(results)],
        "drift": headline.drift(results, STORE).rows,
        "annotations": [
            line.split(" ")[0]
            for line in summary.workflow_commands(results, GITHUB)
        ],
        "junit": cases(results),
    }


@pytest.fixture
def without_figures(monkeypatch):
    """A page without its drawings, which take seconds."""

    def apply():
        monkeypatch.setattr(page, "pictures", lambda *arguments: [])

    apply()
    return apply


@pytest.mark.parametrize("run", RUNS)
def test_structure_does_not_depend_on_labels(run, without_figures):
    """But for its letters every text is the same; every decision is the same."""
    results = judged(run)
    expected, decided = texts(results), decisions(results)

    with relabelled():
        without_figures()
        found = texts(results)
        assert decided == decisions(results)

    for place, text in expected.items():
        assert masked(text) == masked(found[place]), place


def test_every_place_has_other_labels(without_figures):
    """What is replaced is what is shown; afterwards all is as before."""
    results = judged(RUNS[1])
    before = texts(results)

    with relabelled() as number:
        without_figures()
        during = texts(results)
        assert 80 < number

    without_figures()
    empty = {place for place, text in before.items() if not text}
    same = {place for place, text in before.items() if text == during[place]}
    names_alone = {"launches", "builds", "moved"}
    assert empty | names_alone >= same
    assert "To do:" in before["summary"]
    assert "To do:" in before["page"]
    assert "To do:" not in during["summary"] + during["page"]
    assert before == texts(results)


def test_exit_codes_do_not_depend_on_labels():
    """`perfgate judge` ends with the same code, advisory and required."""

    def codes():
        found = []
        for run in RUNS:
            command = ["judge", str(ROOT / "docs" / "runs" / run)]
            command += ["--baselines", str(STORE.root)]
            for required in ([], ["--required"]):
                result = CliRunner().invoke(main, [*command, *required])
                found.append((result.exit_code, masked(result.output)))
        return found

    expected = codes()
    with relabelled():
        assert expected == codes()
    assert {0, 1} == {code for code, _ in expected}


def test_a_reader_of_labels_would_be_seen():
    """A report that takes a label apart loses what follows it."""
    results = judged(RUNS[0])
    expected = [
        line
        for row in results.verdicts
        for line in verdict_text.render(row).splitlines()
        if line.startswith("  do:")
    ]

    with relabelled():
        found = [
            line
            for row in results.verdicts
            for line in verdict_text.render(row).splitlines()
            if line.startswith("  do:")
        ]

    assert expected
    assert [] == found
