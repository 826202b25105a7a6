"""Fake of another benchmark client with known figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

WORDS = ("ttft", "itl", "tpot", "e2el", "e2e_latency")
FIGURES = {f"median_{word}_ms": 10.0 for word in WORDS} | {
    "output_throughput": 100.0,
    "completed": 4,
}
SCRIPT = """#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in --result-dir) d=$2;; --output-file) f=$2;; esac
    shift
done
[ -n "$d" ] && f=$d/result.json
echo '%s' > $f
echo broken >&2
exit %d
"""


def other_client(
    folder: Path, figures: Mapping[str, float], code: int = 0
) -> str:
    """A stand-in for another client's Python: it writes these figures to the result file."""
    script = folder / "python"
    script.write_text(SCRIPT % (json.dumps(figures), code))
    script.chmod(0o755)
    return str(script)
