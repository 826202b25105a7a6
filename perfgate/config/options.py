"""Options: what the plugin adds to pytest's command line.

This module declares them, and reads the few values that are needed before a project is
open. `perfgate.config.parsing` parses the rest. It imports nothing heavy, because the
plugin loads it in every pytest run.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

from perfgate.models.stated_routing import STATED
from perfgate.results.gates import GATES

LoadFormat = Literal["auto", "dummy"]
PairsFor = Literal["all", "suspect", "one"]
Explain = Literal["pairs", "red", "no"]
PrepareNext = Literal["auto", "yes", "no"]
LOAD_FORMATS: tuple[LoadFormat, ...] = get_args(LoadFormat)
PAIRS_FOR: tuple[PairsFor, ...] = get_args(PairsFor)
# Takes an option's name and the keywords of `argparse.ArgumentParser.add_argument`.
AddOption = Callable[..., None]

_MARKER_OPERATORS = frozenset({"and", "or", "not", "True", "False"})


def option_names() -> list[str]:
    """The names of all options."""
    return list(_declared())


def options_with_value() -> list[str]:
    """The names of options that take a value, which could be an existing path."""
    names = []
    for name, keywords in _declared().items():
        if keywords.get("action") != "store_true":
            names.append(name)
    return names


def _declared() -> dict[str, dict[str, object]]:
    """Option name -> the keywords that argparse gets."""
    declared: dict[str, dict[str, object]] = {}

    def add(name: str, **keywords: object) -> None:
        declared[name] = keywords

    add_options(add)
    return declared


def is_given(name: str, arguments: Iterable[str]) -> bool:
    """Whether a command line contains an option, with or without "=VALUE"."""
    return any(argument.partition("=")[0] == name for argument in arguments)


def is_gate_explicit(pytest_config: Any) -> bool:
    """Whether --gate was written on this command line, or in $PYTEST_ADDOPTS."""
    return is_given("--gate", given_arguments(pytest_config))


def given_arguments(pytest_config: Any) -> list[str]:
    """The command line as it was written, behind the options of $PYTEST_ADDOPTS."""
    return [
        *shlex.split(os.environ.get("PYTEST_ADDOPTS", "")),
        *map(str, pytest_config.invocation_params.args),
    ]


def are_inherited(pytest_config: Any) -> bool:
    """Whether the options were parsed elsewhere, as for a pytest-xdist worker."""
    return hasattr(pytest_config.option, "baseline_record")


def study_file(pytest_config: Any) -> str | None:
    """The value of --study."""
    value: str | None = pytest_config.option.study
    return value


def marker_names(pytest_config: Any) -> frozenset[str]:
    """The markers in -m."""
    expression = pytest_config.option.markexpr or ""
    names = frozenset(re.findall(r"[A-Za-z_]\w*", expression))
    return names - _MARKER_OPERATORS


def add_options(add: AddOption) -> None:
    """Declare all options, each with its help.

    Args:
        add: called once for each option.
    """
    _add_selection(add)
    _add_engines(add)
    _add_models(add)
    _add_further_loads(add)
    _add_weights(add)
    _add_datasets(add)
    _add_run(add)
    _add_gate(add)
    _add_base_builds(add)
    _add_explain(add)
    _add_injections(add)
    _add_limits(add)
    _add_fleet(add)


def _add_selection(add: AddOption) -> None:
    add(
        "--study",
        metavar="FILE",
        help=(
            'use this study file instead of the project\'s; "shipped" is the study '
            "that comes with perfgate"
        ),
    )
    add(
        "--plan",
        action="store_true",
        help=(
            "show the servers to launch, their time in earlier runs, and the smallest "
            "loss that each case detects; launch nothing"
        ),
    )
    add(
        "--hardware",
        metavar="KIND",
        help="stop unless this machine is of this kind (h200, cpu)",
    )


def _add_engines(add: AddOption) -> None:
    add(
        "--engine",
        action="append",
        metavar="NAME",
        help="engine to test, repeatable (default: the study's)",
    )
    add(
        "--engine-python",
        action="append",
        default=[],
        metavar="ENGINE=PATH",
        help="Python of an engine's environment, repeatable",
    )
    add(
        "--attach",
        action="append",
        default=[],
        metavar="ENGINE=URL",
        help=(
            "measure a server that runs already, repeatable; it is neither launched "
            "nor stopped"
        ),
    )
    add(
        "--tp",
        type=int,
        metavar="N",
        help=(
            "tensor parallel size of the compared servers (default: the study's; "
            "shipped: 2)"
        ),
    )


def _add_models(add: AddOption) -> None:
    add(
        "--pair",
        action="append",
        default=[],
        metavar="PAIR",
        help=(
            "pair of models to measure, repeatable (default: the platform's): a pair "
            "of the study, or MODEL:REFERENCE of any two of its models"
        ),
    )
    add(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help=(
            "model of the study to measure alone, repeatable: all questions that "
            "need one server, and no ratio of two models"
        ),
    )
    add(
        "--stated-routing",
        action="append",
        choices=STATED,
        default=[],
        help=(
            "serve the sparse model also with tokens that are told to choose experts so, "
            "and compare it; repeatable, for made-up weights (--weights dummy) alone"
        ),
    )


def _add_further_loads(add: AddOption) -> None:
    add(
        "--deep",
        action="append",
        default=[],
        metavar="LOAD",
        help=(
            "send a load of the platform that takes long, repeatable: saturation, "
            "prefix, speculative"
        ),
    )
    add(
        "--accuracy",
        metavar="FILE",
        help=(
            "also ask these questions of each model, JSON lines with prompt and answer, "
            "and judge the share of right answers; for real weights"
        ),
    )
    add(
        "--instructions",
        action="store_true",
        help=(
            "also count the instructions of each batch of a held engine, in valgrind: 75 "
            "to 90 s a model on the CPU; they are no time"
        ),
    )
    add(
        "--soak",
        type=float,
        default=0.0,
        metavar="MINUTES",
        help=(
            "keep the closed load up for so long after all others, and compare its "
            "end with its beginning"
        ),
    )


def _add_weights(add: AddOption) -> None:
    add(
        "--weights",
        choices=LOAD_FORMATS,
        default="auto",
        help=(
            "dummy: GPU servers use random weights; times are valid, and tokens route as "
            "the study states (default: auto)"
        ),
    )
    add(
        "--model-dir",
        action="append",
        default=[],
        metavar="MODEL=DIR",
        help="folder of a model's weights, repeatable",
    )
    add(
        "--allow-download",
        action="store_true",
        help="let the engine download missing weights",
    )


def _add_datasets(add: AddOption) -> None:
    add(
        "--dataset",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help=(
            "send the prompts of this ShareGPT JSON file, or drawn ones (.jsonl of "
            "`perfgate prompts`), where the study's workloads name the data set; "
            "repeatable"
        ),
    )
    add(
        "--allow-truncated-dataset",
        action="store_true",
        help="use the whole conversations of a data set whose file is cut off",
    )


def _add_run(add: AddOption) -> None:
    add(
        "--run-dir",
        metavar="DIR",
        help="folder of this run's data (default: runs/<time>)",
    )
    add(
        "--resume",
        action="store_true",
        help="resume the run in --run-dir; complete launches are kept",
    )
    add(
        "--prepare-next",
        choices=get_args(PrepareNext),
        default="auto",
        help="let the next server import its engine while one starts; takes 1 to 2 GB of "
        "memory and a core (default: auto, on GPUs)",
    )
    add(
        "--telemetry",
        choices=("yes", "no"),
        default="yes",
        help="record GPU telemetry during the load (default: yes)",
    )
    add(
        "--history",
        metavar="FILE",
        help="history file; complete runs are added (default: runs/history.sqlite3)",
    )
    add(
        "--perf-report",
        choices=("yes", "no"),
        default="yes",
        help=(
            "write report.html, summary.md, junit.xml and pytest-benchmark.json into "
            "the run's folder (default: yes)"
        ),
    )


def _add_gate(add: AddOption) -> None:
    add(
        "--gate",
        choices=GATES,
        help=(
            "advisory (default): only REGRESSED and INVALID fail the run. required (for "
            "CI on GPUs): INCONCLUSIVE, INCOMPARABLE, a case without a verdict, a part "
            "of the suite and a run without any baseline fail it, too. strict: every "
            "outcome but PASSED and IMPROVED fails it"
        ),
    )
    add(
        "--fail-over",
        action="append",
        default=[],
        metavar="[FAMILY=]SHARE",
        help=(
            "ceiling: a case passes only where a larger loss is excluded: 5%% for every "
            "rate, itl=3%% for a family of metrics, repeatable (default: the study's, "
            "else by metric)"
        ),
    )
    add(
        "--baselines",
        metavar="DIR",
        help="baseline store (default: baselines/)",
    )
    add(
        "--baseline-record",
        action="store_true",
        help=(
            "write proposed baselines into the run's folder; accept them with "
            "`perfgate accept RUN`"
        ),
    )
    add(
        "--launches",
        type=int,
        default=1,
        metavar="N",
        help=(
            "launches of each server before the first verdict (default: 1; with "
            "--against-engine and --pairs all: launches of each build, default: 3)"
        ),
    )


def _add_base_builds(add: AddOption) -> None:
    add(
        "--against-engine",
        action="append",
        default=[],
        metavar="ENGINE=PATH",
        help=(
            "Python of a base build: base and candidate are launched in turn (ABBAAB) "
            "and compared in pairs, without baselines"
        ),
    )
    add(
        "--pairs",
        choices=PAIRS_FOR,
        help=(
            "with --against-engine: which rows are launched in pairs. all (default): "
            "every one, without baselines. suspect: one launch is judged by the "
            "baselines; pairs decide the rows that it does not clear. one: a single "
            "pair, which decides nothing (as `perfgate bisect` measures)"
        ),
    )
    add(
        "--against-delta",
        type=float,
        dest="target_effect",
        metavar="FRACTION",
        help=argparse.SUPPRESS,
    )
    add(
        "--target-effect",
        type=float,
        dest="target_effect",
        metavar="FRACTION",
        help=(
            "with --against-engine: the loss that the pairs must detect, as a fraction "
            "(0.02 is 2 %%; default: the baseline's with --pairs suspect, else 0.05 on "
            "a GPU for all but TTFT)"
        ),
    )


def _add_explain(add: AddOption) -> None:
    add(
        "--explain",
        action="store_true",
        help=(
            "launch what is red once more under the engine's profiler, base and "
            "candidate, and once more with a choice of the engine put back (default: "
            "only where a base build is named)"
        ),
    )
    add(
        "--no-explain",
        action="store_true",
        help="no such launches, even where a base build is named",
    )


def _add_injections(add: AddOption) -> None:
    """Changes on purpose; their names up to version 0.1 (--plant-*) are hidden aliases."""
    injections = {
        "delay": (
            "MODEL=MS",
            "test the gate: delay each token of a model's servers by MS milliseconds",
        ),
        "arg": (
            "MODEL=ARGS",
            "test the gate: launch a model's servers with further engine arguments, "
            "which do not count as another configuration, repeatable",
        ),
        "env": (
            "MODEL=NAME=VALUE",
            "test the gate: the same with an environment variable, repeatable",
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


def _add_limits(add: AddOption) -> None:
    add(
        "--stall-timeout",
        type=float,
        default=120.0,
        metavar="S",
        help=(
            "seconds without a token after which a server counts as hung: it is "
            "stopped and launched again (default: 120)"
        ),
    )
    add(
        "--lease-wait",
        type=float,
        default=600.0,
        metavar="S",
        help=(
            "longest wait in seconds for GPUs (or the CPU) that another session uses "
            "(default: 600)"
        ),
    )


def _add_fleet(add: AddOption) -> None:
    """What `perfgate fleet` asks of a session on one of its hosts."""
    add(
        "--units",
        metavar="FILE",
        help=(
            "write the groups of cases that must share a machine, and what this one "
            "lacks for each, as JSON; launch nothing"
        ),
    )
    add(
        "--unit",
        metavar="NAME",
        help="select the cases of this unit alone, as `perfgate fleet` does on a host",
    )
