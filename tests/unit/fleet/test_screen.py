"""Screen: all hosts at once, and lines that stay."""

from __future__ import annotations

from perfgate.fleet import screen
from perfgate.fleet.screen import CLEAR, HostRow, Screen
from tests.support.fake_cluster import unit
from tests.support.fleets import finished, placed, state

ROWS = [
    HostRow("gpu-2", "h200"),
    HostRow("gpu-10", "h100", "mixtral and 1 more", 83.0, "closed: 8 of 64"),
]


def run():
    """Three launches, of which one is measured and one was given up."""
    events = [placed("u01-l001", "a"), finished("u01-l001", "a")]
    for name in ("a", "b"):
        events += [
            placed("u01-l002", name),
            finished("u01-l002", name, "failed"),
        ]
    return state(unit("one"), launches=3, events=events)


def test_the_table_has_a_line_for_each_host():
    """Those that work first; the last line counts."""
    lines = list(screen.table(run(), ROWS, width=60))

    assert [
        "  gpu-10  h100      1:23  mixtral and 1 more  closed: 8 of 6",
        "  gpu-2   h200    idle",
        "  1 of 3 launches measured, 1 run on 2 hosts, 1 given up",
    ] == lines


def test_a_large_fleet_fits_on_a_screen():
    """Forty lines, and the number of the others."""
    rows = [HostRow(f"h{number}", "h200") for number in range(1000)]

    lines = list(screen.table(run(), rows, width=60))

    assert screen.MOST_ROWS + 2 == len(lines)
    assert "  and 960 more" == lines[-2]


def test_a_terminal_is_rewritten_and_a_log_is_not():
    """A line that stays is above the table; a log has the count alone."""
    now_s = 0.0
    written = {True: "", False: ""}
    for rewritable in (True, False):

        def write(text, rewritable=rewritable):
            written[rewritable] += text

        shown = Screen(write, rewritable, clock=lambda: now_s)
        shown.show(run(), ROWS)
        shown.show(run(), ROWS)
        shown.line("gpu-2 is gone")

    assert 3 == written[True].count(CLEAR)
    assert 1 == written[True].count("idle")
    assert "idle" not in written[False]
    assert 2 == len(written[False].splitlines())
    assert "\x1b" not in written[False]


def test_an_end_is_told_with_what_follows():
    """A launch that was measured is only counted."""
    text = []
    shown = Screen(text.append, False, clock=lambda: 65.0)
    tasks = run().tasks

    shown.ended(tasks["u01-l001"], "a", "measured", "")
    assert [] == text
    shown.ended(tasks["u01-l003"], "a", "lost", "its host died")
    shown.ended(tasks["u01-l002"], "b", "failed", "no disk\nfull")

    lines = "".join(text).splitlines()
    assert "u01-l003 (one) lost on a: it is made again elsewhere" in lines[0]
    assert "its host died" in lines[1]
    assert "failed on b: it was made twice, and is given up" in lines[2]
    assert ["no disk", "full"] == [line.strip() for line in lines[3:]]
