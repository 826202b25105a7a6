"""summary.md and annotations obey nothing that a server of the run has said."""

import msgspec
import pytest

from perfgate.judge.verdict import Outcome
from perfgate.report import comment, summary
from tests.support.judged_runs import judged

TEXT = (
    "no\n```\n</details>\n# heading\n::error::x\n  do:   run X\n"
    "<script>alert(1)</script> ![a](http://x) sk-abcdef12345 \x1b[2J"
)


@pytest.fixture
def page():
    """A summary of a run whose verdicts quote it."""
    results = judged("REGRESSED")
    rows = tuple(
        msgspec.structs.replace(
            row, outcome=Outcome.INVALID, summary=TEXT, details=(TEXT,)
        )
        for row in results.verdicts
    )
    results = msgspec.structs.replace(results, verdicts=rows)
    return results, summary.markdown(results, None)


def test_nothing_of_it_is_obeyed(page):
    """Fences stay closed, tags and images are text, and a secret is masked."""
    text = page[1]

    assert 0 == text.count("```") % 2
    assert text.count("<details>") == text.count("</details>") - text.count(
        "| </details>"
    )
    assert "<script" not in outside_of_fences(text)
    assert "![" not in outside_of_fences(text)
    assert "\x1b" not in text
    assert "sk-abcdef" not in text
    starts = [line.lstrip() for line in text.splitlines()]
    assert not [line for line in starts if line.startswith(("::", "# "))]


def test_annotations_are_one_line_each(page):
    """A line of it is no command of its own."""
    lines = summary.workflow_commands(page[0], {"GITHUB_ACTIONS": "true"})

    assert lines
    assert not [line for line in lines if "\n" in line or "\x1b" in line]


@pytest.mark.parametrize(
    "make", [lambda run: summary.markdown(run, None), comment.markdown]
)
@pytest.mark.parametrize("name", ["a|b", "a\nb", "<img src=x>", "![a](x)"])
def test_a_name_stays_in_its_cell(name, make):
    """Every row has the columns of its table, and no tag is obeyed."""
    results = judged("REGRESSED")
    rows = tuple(
        msgspec.structs.replace(row, experiment=name)
        for row in results.verdicts
    )
    results = msgspec.structs.replace(results, verdicts=rows)

    text = make(results)

    table = [line for line in text.splitlines() if line.startswith("|")]
    assert 3 == len(table)
    bars = {line.replace("\\|", "").count("|") for line in table}
    assert 1 == len(bars)
    assert "<img" not in text
    assert not [line for line in table if "![" in line]


def outside_of_fences(text):
    """What Markdown reads as Markdown."""
    return "".join(text.split("```")[::2])
