"""Golden files: texts that users see, kept under tests/goldens/ and compared here.

`compare` is the one place that reads or writes them. With
PERFGATE_UPDATE_GOLDENS=1 it writes what it is given; what no test compares any
more is deleted then, and is an error otherwise.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "goldens"
UPDATE = "PERFGATE_UPDATE_GOLDENS"
MOST_DIFF_LINES = 60
MEANT = (
    f"if this change is meant, run `{UPDATE}=1 python -m pytest tests/unit/plugin/test_goldens.py` "
    "and say why in the commit"
)

Patterns = Sequence[tuple[str, str]]

# What differs from day to day and between versions of other tools, in every text.
ALWAYS: Patterns = (
    (r"(?m)[ \t]+$", ""),  # tables are padded to their width
    (
        r'"accepted": "\d{4}-\d\d-\d\d"',
        '"accepted": "DAY"',
    ),  # the day of `perfgate accept`
    (r"(udged on) \d{4}-\d\d-\d\d", r"\1 DAY"),  # by `perfgate judge`
    (r'"version": "\d[\w.+]*"', '"version": "VERSION"'),  # of pytest-benchmark
)
# What differs between machines and runs of the suite itself, in the texts of
# live runs alone.
LIVE: Patterns = (
    (r"\b\d{8}-\d{6}-\d+\b", "RUN-ID"),
    (r"\b\d{4}-\d\d-\d\dT[\d:]+(\.\d+)?\+00:00", "TIME"),  # when a run started
    (r"(no GPU|CPU) \(.*?, \d+ cores, \w+\)", r"\1 (HOST)"),
    (
        r"\bcpu-[a-z0-9-]+-x\d+\b",
        "cpu-HOST",
    ),  # the same host as a label of baselines
    (r"(?m)^((base|candidate) fake: .*\)), .*$", r"\1, VERSIONS"),
    (r"(?m)^(time|Time): .*$", r"\1: SPENT"),
    (r"\bin \d+\.\d+s\b( \([\d:]+\))?", "in SECONDS"),  # pytest's last line
    # Seconds of each step of a server's start, first and later launches.
    (
        r"(?m)^(\| fake-\S+ \| [^|]+) \| [\d.]+ \| ([\d.]+|-) \|$",
        r"\1 | SECONDS | SECONDS |",
    ),
    # What a baseline file says of the host and of the suite.
    (
        r'"(\w+\.(cores_or_gpus|machine|python|suite|hardware_name)|suite_version)": "[^"]*"',
        r'"\1": "HERE"',
    ),
    (r'(?m)^ *"(\w+\.)?package [^"]*": "[^"]*",?\n', ""),
    (
        r"(SKIPPED \[\d+\]) \S+:\d+:",
        r"\1 FILE:LINE:",
    ),  # the line of the plugin that skipped
    (r"={3,}", "==="),  # pytest fills its lines up to the terminal's width
)


def normalised(text: str, places: dict[Path, str], patterns: Patterns) -> str:
    """The text with places and with what the patterns match put by name.

    Args:
        places: folder -> what to call it; an inner one must stand before the
            one around it.
    """
    for folder, name in places.items():
        text = text.replace(str(folder), name)
    for pattern, replacement in patterns:
        text = re.sub(pattern, replacement, text)
    return text.rstrip("\n") + "\n"


def rounded(text: str) -> str:
    """The text with long fractions to ten digits: the last ones depend on the processor."""
    return re.sub(
        r"-?\d+\.\d{8,}(e[+-]?\d+)?",
        lambda found: f"{float(found[0]):.10g}",
        text,
    )


def updating() -> bool:
    """Whether golden files are to be written."""
    return os.environ.get(UPDATE) == "1"


def compare(name: str, text: str, known: Iterable[str]) -> None:
    """Fail with a diff where the text is not that of the golden file; write it where asked to.

    Args:
        name: the file, below tests/goldens/.
        known: the names of all golden files, by which `stale` finds those that
            are left over.
    """
    assert name in known, f"{name} is missing in the list of golden files"
    path = GOLDENS / name
    if updating():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    kept = path.read_text(encoding="utf-8") if path.exists() else ""
    if kept != text:
        pytest.fail(f"{_diff(name, kept, text)}\n{MEANT}", pytrace=False)


def _diff(name: str, kept: str, text: str) -> str:
    old, new = kept.splitlines(), text.splitlines()
    lines = list(
        difflib.unified_diff(
            old, new, f"tests/goldens/{name}", "now", lineterm="", n=2
        )
    )
    shown = lines[:MOST_DIFF_LINES]
    if len(lines) > len(shown):
        shown.append(f"... {len(lines) - len(shown)} more lines of this diff")
    return "\n".join(shown)


def stale(known: Iterable[str]) -> list[str]:
    """Files under tests/goldens/ that no test compares; none is left after an update."""
    found = {
        str(path.relative_to(GOLDENS))
        for path in GOLDENS.rglob("*")
        if path.is_file()
    }
    names = sorted(found - set(known))
    if updating():
        for name in names:
            (GOLDENS / name).unlink()
        return []
    return names
