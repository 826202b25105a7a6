"""The text of a report's page as a person reads it: a line for each element, for goldens.

A heading keeps its level as `#`, a row of a table is one line, and a message
that stands in a cell follows its row, indented. A drawing is told by its title
and by how many marks it has of each tag. Of the numbers behind a figure the
first rows are kept, the rest by their digest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from html.parser import HTMLParser

ROWS_OF_A_FIGURE = 10
HEADINGS = {
    "title": "title: ",
    "h1": "# ",
    "h2": "## ",
    "h3": "### ",
    "li": "* ",
    "dd": "  ",
}
LINES = {
    "p",
    "dt",
    "label",
    "option",
    "summary",
    "nav",
    "div",
    "section",
    "figcaption",
}
LINES |= {"pre", "details", "ul", "dl", "header", "main", "body"}
UNSEEN = {"style", "script"}


class PageText(HTMLParser):
    """Collects the lines of one page in `lines`."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._text = ""  # of the line or the cell that is open
        self._unseen = False
        self._pre = False
        self._row: list[str] | None = None
        self._below_row: list[str] = []
        self._figure_rows: list[str] | None = None
        self._svg: Counter[str] | None = None
        self._svg_title = ""
        self._svg_tag = ""

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        """A tag opens."""
        if tag in UNSEEN:
            self._unseen = True
        elif tag == "svg" or self._svg is not None:
            self._begin_mark(tag)
        elif tag == "tr":
            self._row, self._below_row, self._text = [], [], ""
        elif tag == "figure":
            self._end_line()
            self._figure_rows = []
        elif tag in HEADINGS:
            self._end_line()
            self._text = HEADINGS[tag]
        elif tag in LINES:
            self._pre = tag == "pre"
            self._end_line_or_cell_part()

    def handle_endtag(self, tag: str) -> None:
        """A tag closes."""
        if tag in UNSEEN:
            self._unseen = False
        elif self._svg is not None:
            self._end_mark(tag)
        elif tag in ("td", "th") and self._row is not None:
            self._row.append(" ".join(self._text.split()))
            self._text = ""
        elif tag == "tr":
            self._end_row()
        elif tag == "figure":
            self._end_line()
            self._end_figure()
        elif tag in HEADINGS or tag in LINES:
            self._pre = False
            self._end_line_or_cell_part()

    def _begin_mark(self, tag: str) -> None:
        if self._svg is None:
            self._end_line()
            self._svg, self._svg_title = Counter(), ""
        else:
            self._svg_tag = tag
            self._svg[tag] += 1

    def _end_mark(self, tag: str) -> None:
        self._svg_tag = ""
        if tag == "svg":
            self._end_drawing()

    def handle_data(self, data: str) -> None:
        """Text between two tags."""
        if self._unseen:
            return
        if self._svg is not None:
            if self._svg_tag == "title":
                self._svg_title += data
        elif self._pre:
            below = self.lines if self._row is None else self._below_row
            for line in data.splitlines():
                below.append(f"    {line}")
        else:
            self._text += data

    def _end_line_or_cell_part(self) -> None:
        if self._row is None:
            self._end_line()
        else:
            self._text += " "

    def _end_line(self) -> None:
        indent = (
            "  " if self._text.startswith("  ") and self._text.strip() else ""
        )
        line = " ".join(self._text.split())
        self._text = ""
        if line:
            self.lines.append(indent + line)

    def _end_row(self) -> None:
        row = " | ".join(self._row or [])
        if self._figure_rows is not None:
            self._figure_rows.append(row)
        else:
            self.lines += [row, *self._below_row]
        self._row = None

    def _end_drawing(self) -> None:
        marks = self._svg or Counter()
        del marks["title"], marks["desc"]
        told = ", ".join(f"{tag} {marks[tag]}" for tag in sorted(marks))
        self.lines.append(f"[drawing: {self._svg_title}; {told}]")
        self._svg = None

    def _end_figure(self) -> None:
        rows = self._figure_rows or []
        head, rest = rows[: ROWS_OF_A_FIGURE + 1], rows[ROWS_OF_A_FIGURE + 1 :]
        self.lines += head
        if rest:
            digest = hashlib.sha256("\n".join(rest).encode()).hexdigest()[:16]
            self.lines.append(f"... {len(rest)} more rows, sha256 {digest}")
        self._figure_rows = None


def page_text(html: str) -> str:
    """The lines of a page."""
    reader = PageText()
    reader.feed(html)
    reader.close()
    return "\n".join(reader.lines)
