"""Folder of a run: whether a session may begin in it."""

from __future__ import annotations

import shlex
from pathlib import Path

from perfgate.config.option_values import BadOption
from perfgate.files import RunDataError
from perfgate.results import merge
from perfgate.results.schema import RESULTS_FILE
from perfgate.results.schema import load as load_run


def refuse_occupied(run_dir: Path, resume: bool) -> None:
    """Refuse to start a run in a folder that holds one, unless it is resumed.

    A run without a single launch holds reasons alone, and is replaced.

    Raises:
        BadOption: the folder holds a run, or a packed one.
    """
    results = run_dir / RESULTS_FILE
    packed = run_dir / f"{RESULTS_FILE}.gz"
    has_run = _holds_launches(results) or merge.has_parts(run_dir)
    if packed.exists() and not results.exists():
        raise BadOption(
            tried=f"starting a run in {run_dir}",
            seen=f"it holds a packed run: {packed.name}",
            remedy=(
                "use another --run-dir, or resume that run: gunzip "
                f"{shlex.quote(str(packed))}, then add --resume"
            ),
        )
    if has_run and not resume:
        raise BadOption(
            tried=f"starting a run in {run_dir}",
            seen="it holds a run already",
            remedy="use another --run-dir, or resume that run with --resume",
        )


def _holds_launches(results: Path) -> bool:
    """Whether there is a run that measured something, or cannot be read."""
    if not results.exists():
        return False
    try:
        return not load_run(results).is_empty
    except RunDataError:
        return True
