"""Verdict wording: output only; reports and exit codes depend on fields alone."""

import re
from pathlib import Path
from string import Formatter
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from perfgate.cli.main import main
from perfgate.judge import run_status, wording
from perfgate.judge.baseline_store import Store
from perfgate.report import headline, junit, notices, page, summary, terminal
from perfgate.results import schema
from perfgate.results.gates import GATES

ROOT = Path(__file__).resolve().parents[3]
# Regressions of one server; two builds in pairs; nothing recorded; some cases invalid.
RUNS = (
    "h200x1-planted/eager/01",
    "h100x1-pairs/delay",
    "h100x2-20261125a",
    "h200x2-20261128a",
)


def nonsense(number, template):
    """A template without a word, with the same named places."""
    places = [field for _, field, _, _ in Formatter().parse(template) if field]
    text = " ".join(f"{{{place}}}" for place in places)
    return f"§{number}§ {text}"


def reworded(patch):
    """Replace every template of the wording; returns how many there were."""
    number = 0
    for name, value in vars(wording).copy().items():
        if not name.isupper() or name == "RUN":
            continue
        if isinstance(value, str):
            patch.setattr(wording, name, nonsense(number, value))
            number += 1
        if isinstance(value, dict):
            texts = {
                key: text and nonsense(number, text)
                for key, text in value.items()
            }
            patch.setattr(wording, name, texts)
            number += len(texts)
    return number


def structure(run):
    """Everything that a report of the run shows, less its sentences."""
    store = Store(ROOT / "baselines")
    results = run_status.judged_again(
        schema.load(ROOT / "docs" / "runs" / run), store
    )
    return {
        "verdicts": [fields(row) for row in run_status.ordered(results)],
        "exit codes": [run_status.fails(results, gate) for gate in GATES],
        "sentence": headline.verdict_sentence(results),
        "counts": terminal.totals_line(
            results, "advisory", run_status.missing(results)
        ),
        "common": terminal.in_common(results),
        "table": terminal.table(results, 200, terminal=False),
        "messages": len(terminal.attention(results)),
        "items": [item_structure(item) for item in headline.attention(results)],
        "notices": [
            len(part(results)) for part in (notices.lacking, notices.injected)
        ],
        "summary": markdown_structure(summary.markdown(results, store)),
        "junit": junit_structure(junit.junit(results)),
        "annotations": annotations(results),
        "page": [
            row_structure(row)
            for row in page.rows(page.Report([results], store))
        ],
    }


def fields(row):
    """A verdict less its texts; whether there is advice and a reason must stay."""
    names = ("summary", "details", "advice", "report_only_reason")
    numbers = [
        getattr(row, name)
        for name in row.__struct_fields__
        if name not in names
    ]
    is_filled = [bool(getattr(row, name)) for name in names]
    return numbers, len(row.details), is_filled


def item_structure(item):
    """A card: title, level, how many messages, and that its columns are not empty."""
    return (
        item.title,
        item.level,
        len(item.messages),
        bool(item.finding),
        bool(item.advice),
    )


def row_structure(row):
    """A row of the page less its message."""
    return {
        name: value for name, value in row.items() if name != "message"
    }, bool(row["message"])


def markdown_structure(text):
    """Headings and table rows, and how many parts are folded away."""
    rows = [
        line for line in text.splitlines() if line.startswith(("## ", "| "))
    ]
    return rows, text.count("<details>"), text.count("To do:")


def junit_structure(text):
    """Cases with their properties, and which of them failed or were skipped."""
    cases = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        properties = [
            (p.get("name"), p.get("value")) for p in case.iter("property")
        ]
        results = [
            (r.tag, r.get("message"), bool(r.text))
            for r in case
            if r.tag != "properties"
        ]
        cases.append((case.get("name"), properties, results))
    return cases


def annotations(results):
    """Level and title of each annotation."""
    lines = summary.workflow_commands(results, {"GITHUB_ACTIONS": "true"})
    return [
        re.match(r"::(\w+) title=([^:]*)::.", line).groups() for line in lines
    ]


@pytest.mark.parametrize("run", RUNS)
def test_reports_do_not_depend_on_sentences(run, monkeypatch):
    """With every template replaced, rows, sections, counts and exit codes stay."""
    expected = structure(run)
    assert 60 < reworded(monkeypatch)

    assert expected == structure(run)


def test_exit_codes_do_not_depend_on_sentences(monkeypatch):
    """`perfgate judge` ends with the same code, advisory and required."""

    def codes():
        options = ["--baselines", str(ROOT / "baselines")]
        found = []
        for run in RUNS:
            command = ["judge", str(ROOT / "docs" / "runs" / run), *options]
            for more in ([], ["--required"]):
                found.append(
                    CliRunner().invoke(main, [*command, *more]).exit_code
                )
        return found

    expected = codes()
    reworded(monkeypatch)

    assert expected == codes()
    assert {0, 1} == set(expected)


def test_sentences_are_in_the_text(monkeypatch):
    """What is replaced is what is printed: the messages have the new words."""
    reworded(monkeypatch)
    store = Store(ROOT / "baselines")
    results = run_status.judged_again(
        schema.load(ROOT / "docs" / "runs" / RUNS[0]), store
    )

    assert all(
        message.count("§") >= 6 for message in terminal.attention(results)
    )
