"""Options: what the plugin adds to pytest's command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from perfgate.judge.verdict import GATES


def option_names() -> list[str]:
    """The names of all options."""
    return list(_declared())


def options_with_value() -> list[str]:
    """Those that take a value, which could be the path of a file or folder."""
    return [
        name for name, how in _declared().items() if how.get("action") != "store_true"
    ]


def _declared() -> dict[str, dict[str, object]]:
    """Name -> what argparse is told of it."""
    found: dict[str, dict[str, object]] = {}

    def note(name: str, **how: object) -> None:
        found[name] = how

    add_options(note)
    return found


def add_options(add: Callable[..., None]) -> None:
    """All of them, each with its help, by argparse's words."""
    add(
        "--study",
        metavar="FILE",
        help=(
            'the study file that replaces the project\'s; "shipped" is the one that '
            "comes with perfgate"
        ),
    )
    add(
        "--gate",
        choices=GATES,
        help="required: everything but PASSED and IMPROVED is red, a skipped or "
        "missing case too (for CI on GPUs). "
        "advisory (default): REGRESSED and INVALID are red, the rest is shown",
    )
    add(
        "--run-dir",
        metavar="DIR",
        help="where this run's data go (default: runs/<time>)",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with the run in --run-dir: launches measured whole are kept",
    )
    add(
        "--launches",
        type=int,
        default=1,
        metavar="N",
        help="launch every server N times before deciding (default 1; of each build "
        "with --against-engine, "
        "default 3)",
    )
    add(
        "--plan",
        action="store_true",
        help="say what would be launched, how long that took in earlier runs, and "
        "which losses would be caught; start "
        "nothing",
    )
    add(
        "--telemetry",
        choices=("yes", "no"),
        default="yes",
        help="look at the GPUs while they are measured (default)",
    )
    add(
        "--history",
        metavar="FILE",
        help="the history that complete runs are added to (default: runs/history.sqlite3)",
    )
    add(
        "--perf-report",
        choices=("yes", "no"),
        default="yes",
        help=(
            "write report.html, summary.md, junit.xml, pytest-benchmark.json beside "
            "the run (default)"
        ),
    )
    add("--baselines", metavar="DIR", help="the baseline store (default: baselines/)")
    add(
        "--baseline-record",
        action="store_true",
        help="write proposed baselines beside the run; `perfgate accept` takes them over",
    )
    add(
        "--tp",
        type=int,
        metavar="N",
        help="tensor parallel size of the compared servers (default: the study's; shipped: 2)",
    )
    add(
        "--weights",
        choices=("auto", "dummy"),
        default="auto",
        help="dummy: GPU servers make weights up (timings are real, routing is not)",
    )
    add(
        "--engine",
        action="append",
        metavar="NAME",
        help="engine to test, repeatable (default: the study's)",
    )
    add(
        "--attach",
        action="append",
        default=[],
        metavar="ENGINE=URL",
        help="measure a server that somebody else runs, repeatable; nothing is launched or stopped",
    )
    add(
        "--engine-python",
        action="append",
        default=[],
        metavar="ENGINE=PATH",
        help="the Python that runs an engine",
    )
    add(
        "--against-engine",
        action="append",
        default=[],
        metavar="ENGINE=PATH",
        help="the Python of a base build: it is launched in turn with the engine "
        "under test (ABBAAB), and pairs are "
        "judged instead of baselines",
    )
    add(
        "--against-delta",
        type=float,
        metavar="FRACTION",
        help="the loss that such pairs are to catch (0.02 is 2 %%; default 0.05 on a "
        "GPU for all but TTFT, since three "
        "pairs do not tell how quiet the machine is)",
    )
    add(
        "--model-dir",
        action="append",
        default=[],
        metavar="MODEL=DIR",
        help="folder of a model's weights",
    )
    add(
        "--stall-timeout",
        type=float,
        default=120.0,
        metavar="S",
        help=(
            "a server that sends no token for so long hangs: it is ended, and "
            "launched once more (120)"
        ),
    )
    add(
        "--lease-wait",
        type=float,
        default=600.0,
        metavar="S",
        help="how long to wait for GPUs (or the CPU) that another session here holds (default 600)",
    )
    add(
        "--allow-download",
        action="store_true",
        help="let the engine download weights that are not here",
    )
    _add_injections(add)
    add(
        "--hardware",
        metavar="KIND",
        help="assert what this machine is; an error if it is something else",
    )


def _add_injections(add: Callable[..., None]) -> None:
    """Changes on purpose; their names up to 0.1, --plant-*, still work and stay hidden."""
    injections = {
        "delay": (
            "MODEL=MS",
            "slow a model's servers down by MS for each token, to see the gate fire",
        ),
        "arg": (
            "MODEL=ARGS",
            "launch a model's servers with more engine arguments than their identity "
            "tells, repeatable: they stand for a change inside the engine",
        ),
        "env": (
            "MODEL=NAME=VALUE",
            "likewise with an environment variable, repeatable",
        ),
    }
    for name, (metavar, text) in injections.items():
        add(
            f"--inject-{name}",
            action="append",
            default=[],
            metavar=metavar,
            help=text,
        )
        add(
            f"--plant-{name}",
            action="append",
            dest=f"inject_{name}",
            metavar=metavar,
            help=argparse.SUPPRESS,
        )
