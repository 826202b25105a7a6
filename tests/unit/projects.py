"""How does a test run the whole plugin in a project of its own?

The fixture `project` in conftest.py makes one; these are what is asked of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fixtures.rundata import load

ROOT = Path(__file__).resolve().parent.parent.parent
CONFTEST = f"""
import sys, os
sys.path[:0] = [{str(ROOT)!r}]
from tests.unit import fake_suite
fake_suite.enter()
if "FAKE_GPUS" in os.environ:
    fake_suite.enter_gpus(int(os.environ["FAKE_GPUS"]), os.environ.get("FAKE_GPU_KIND", "h200"))
pytest_plugins = ["fixtures.plugin"]
"""


def outcomes(result) -> dict[str, int]:
    """Counts of pytest's own words, deselected ones left out."""
    return {word: n for word, n in result.parseoutcomes().items() if word not in ("deselected", "warnings")}


def newest_run(pytester) -> Path:
    """The run directory made last."""
    return max(path for path in (pytester.path / "runs").iterdir() if path.is_dir())


def verdicts(run_dir: Path) -> dict[str, str]:
    """What a run decided: hard case -> outcome."""
    return {row.case: row.outcome for row in load(run_dir).verdicts if row.gate == "hard"}


def perfgate(pytester, *args):
    """The command `perfgate`."""
    command = ["-c", f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from fixtures.cli import main; main()"]
    return pytester.run(sys.executable, *command, *args)


def record(project, pytester, *options: str) -> None:
    """Take what a run with these options measures over as its baselines."""
    project(*options, "--baseline-record", "--run-dir", "recorded")
    accepted = perfgate(pytester, "accept", "recorded", "--baselines", "baselines")
    assert 0 == accepted.ret, accepted.outlines + accepted.errlines
