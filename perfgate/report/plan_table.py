"""Tables of a plan: their look, and how wide they are."""

from __future__ import annotations

from rich import box
from rich.table import Table

from perfgate.report import terminal

LINE_WIDTH = 140  # of a log, which has no width
NARROWEST = 80


def table(*names: str) -> Table:
    """An empty table with these columns, whose cells fold."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        grid.add_column(name, overflow="fold")
    return grid


def rendered(grid: Table, width: int) -> str:
    """The table as text, as wide as the terminal, or as NARROWEST."""
    return terminal.printed(grid, max(width, NARROWEST))
