"""Recorded tables: each that a page shows is there, with the command that makes it."""

import re

import pytest

from tools import record_tables

PAGES = sorted((record_tables.ROOT / "docs").glob("*.md"))
SHOWN = {
    name
    for page in PAGES
    for name in re.findall(r"<!-- table: ([\w-]+) -->", page.read_text())
}


def test_every_table_is_shown_and_recorded():
    """None is missing, and none is left over."""
    recorded = {path.stem for path in record_tables.TABLES.glob("*.md")}

    assert record_tables.COMMANDS.keys() == SHOWN == recorded


@pytest.mark.parametrize("name", record_tables.COMMANDS)
def test_a_table_has_its_command_and_rows(name):
    """The command runs a module that exists; each row has as many cells as the heading."""
    text = (record_tables.TABLES / f"{name}.md").read_text(encoding="utf-8")
    module = record_tables.COMMANDS[name][0]
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)

    assert f"    {' '.join(record_tables.command(name))}\n" in text
    assert (record_tables.ROOT / "benchmarks" / f"{module}.py").is_file()
    assert tables
    for table in tables:
        assert 1 == len({row.count("|") for row in table.splitlines()})


def test_the_quickest_table_has_the_headings_of_today():
    """Its simulation runs, and prints such a table."""
    name = "cpu-facts"
    stored = (record_tables.TABLES / f"{name}.md").read_text(encoding="utf-8")
    today = record_tables.page(name, record_tables.printed(name))

    assert stored.splitlines()[:6] == today.splitlines()[:6]
