"""Which options cannot be meant: at all, together, or on this machine?

All that can be known before anything is collected is refused here, once, and not by
every test anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from perfgate import formatting
from perfgate.config import choices
from perfgate.engines import environment, injection
from perfgate.engines.registry import ENGINES
from perfgate.errors import Failure
from perfgate.judge.paired import PAIRS
from perfgate.judge.verdict import GATES
from perfgate.machine.hardware import Hardware
from perfgate.models import catalogue as models
from perfgate.results import merge as workers
from perfgate.results.schema import RESULTS_FILE
from perfgate.study import StudyFile


class BadUsage(Failure):
    """Options that contradict the machine or each other."""


def check(
    option: argparse.Namespace,
    study: StudyFile,
    requested: Sequence[str],
    run_dir: Path,
    machine: Callable[[], Hardware],
    worker_count: int = 0,
) -> None:
    """Refuse what cannot be meant.

    Args:
        option: the parsed options.
        study: says which platforms and engines there are.
        requested: platforms that -m names; without one nothing is measured.
        run_dir: where this session's data would go.
        machine: asked only where an option speaks of it.
        worker_count: of `-n`, 0 without it.

    Raises:
        Failure: with what to do instead.
    """
    _check_numbers(option)
    _check_engines(option, study)
    asserted = option.hardware
    if asserted and asserted != machine().kind:
        raise BadUsage(
            f"--hardware {asserted}",
            f"this machine is {machine().describe}",
            "correct the option",
        )
    _check_names(option)
    _check_against(option)
    _check_injections(option)
    if option.resume and not option.run_dir:
        raise BadUsage(
            "--resume",
            "no --run-dir says which run to go on with",
            "name it: --run-dir=DIR --resume",
        )
    if requested:
        _check_session(option, study, requested, run_dir, machine, worker_count)


def _check_session(
    option: argparse.Namespace,
    study: StudyFile,
    requested: Sequence[str],
    run_dir: Path,
    machine: Callable[[], Hardware],
    worker_count: int,
) -> None:
    """What a session that measures, or says what it would, must have."""
    if option.gate not in GATES:
        raise BadUsage(
            f"PERFGATE_GATE={option.gate}",
            f"a gate is {' or '.join(GATES)}",
            "correct the variable",
        )
    if not (option.collectonly or option.plan):
        _check_folders(option, run_dir)
    if not option.collectonly:
        choices.attachments(tuple(option.attach))
    if worker_count and option.plan:
        raise BadUsage("-n with --plan", "nothing is run", "leave -n out")
    if worker_count:
        _check_workers(option, study, requested, machine(), worker_count)
        alone = (run_dir / RESULTS_FILE).exists() and not (
            run_dir / workers.FOLDER
        ).exists()
        if option.resume and alone:
            seen = "each worker goes on with its own part, and that run was made without workers"
            raise BadUsage("-n with --resume", seen, "leave -n out")


def check_gate(
    requested: Sequence[str], option: argparse.Namespace, platforms: Sequence[str]
) -> None:
    """Refuse --gate=required where nothing would be gated: that must not end green.

    Raises:
        BadUsage: no platform is named, or nothing is to be run.
    """
    if not requested:
        raise BadUsage(
            "--gate=required",
            "it gates nothing without a platform",
            f"add -m {' or -m '.join(platforms)}",
        )
    for flag, given in (
        ("--collect-only", option.collectonly),
        ("--plan", option.plan),
    ):
        if given:
            raise BadUsage(
                f"--gate=required with {flag}",
                "that gates nothing",
                "leave one of them out",
            )


def _check_numbers(option: argparse.Namespace) -> None:
    least = {"tp": 1, "launches": 1, "stall_timeout": 1, "lease_wait": 0}
    for name, smallest in least.items():
        if getattr(option, name) is not None and getattr(option, name) < smallest:
            flag = f"--{name.replace('_', '-')}"
            raise BadUsage(
                f"{flag} {getattr(option, name):g}",
                f"{smallest} is the least",
                f"correct {flag}",
            )


def _check_engines(option: argparse.Namespace, study: StudyFile) -> None:
    """Engines under test must be known, by whoever names them."""
    _refuse_unknown_engines("--engine", dict.fromkeys(option.engine or (), ""))
    _refuse_unknown_engines(
        f"engines in {study.path}", dict.fromkeys(study.engines, "")
    )


def _check_names(option: argparse.Namespace) -> None:
    """Engines and models that are named must be known, and what they are given must be there."""
    pythons = choices.pairs("--engine-python", option.engine_python)
    _refuse_unknown_engines("--engine-python", pythons)
    for engine in pythons:
        environment.find_python(engine, "cuda", pythons)
    for model, folder in choices.pairs("--model-dir", option.model_dir).items():
        models.lookup(model)
        if not Path(folder).expanduser().is_dir():
            raise BadUsage(
                f"--model-dir {model}={folder}",
                f"{folder} is no folder",
                "name the one with its config.json",
            )
    for model in choices.injected(option):
        models.lookup(model)


def _refuse_unknown_engines(flag: str, named: Mapping[str, str]) -> None:
    unknown = sorted(set(named) - set(ENGINES))
    if unknown:
        near = formatting.suggestion(unknown[0], ENGINES)
        names = ", ".join(unknown)
        raise BadUsage(
            flag,
            f"there is no engine {names}",
            f"{near}name one of {', '.join(ENGINES)}",
        )


def _check_against(option: argparse.Namespace) -> None:
    """A comparison of two builds launches both, and records neither."""
    against = choices.pairs("--against-engine", option.against_engine)
    if not against:
        if option.against_delta is not None:
            raise BadUsage(
                "--against-delta",
                "there are no pairs to judge",
                "name a base build: --against-engine",
            )
        return
    _refuse_unknown_engines("--against-engine", against)
    for engine in against:
        environment.find_python(engine, "cuda", against, "--against-engine")
    if option.against_delta is not None and not 0 < option.against_delta < 1:
        raise BadUsage(
            f"--against-delta {option.against_delta:g}",
            "it is a part of the whole",
            "0.02 means 2 %",
        )
    if lacking := sorted(set(option.engine or ()) - set(against)):
        raise BadUsage(
            "--against-engine",
            f"no base build for {', '.join(lacking)}",
            "name one, or leave it out",
        )
    _refuse_others(
        option,
        "--against-engine",
        "both builds are launched here in turn, and neither becomes a baseline",
    )
    if 1 < option.launches < PAIRS:
        raise BadUsage(
            "--launches with --against-engine",
            f"{PAIRS} pairs are the fewest",
            "ask for more",
        )


def _check_injections(option: argparse.Namespace) -> None:
    """What is changed on purpose becomes no baseline, and can be changed only in servers of our own."""
    if option.inject_delay or option.inject_arg or option.inject_env:
        seen = "servers are changed on purpose: only ours can be, and they become no baseline"
        _refuse_others(option, injection.OPTIONS, seen)


def _refuse_others(option: argparse.Namespace, beside: str, seen: str) -> None:
    """Servers of somebody else, and new baselines, are not had beside these options."""
    for flag, given in (
        ("--attach", option.attach),
        ("--baseline-record", option.baseline_record),
    ):
        if given:
            raise BadUsage(f"{beside} with {flag}", seen, f"leave {flag} out")


def _check_folders(option: argparse.Namespace, run_dir: Path) -> None:
    """The run's own folder must be free, or be gone on with; a store that is named must be there."""
    choices.refuse_taken(run_dir, option.resume)
    if option.baselines and not Path(option.baselines).is_dir():
        remedy = f"correct it, or begin a new store there: mkdir {option.baselines}"
        raise BadUsage(
            f"--baselines={option.baselines}", "there is no such folder", remedy
        )


def _check_workers(
    option: argparse.Namespace,
    study: StudyFile,
    requested: Sequence[str],
    machine: Hardware,
    count: int,
) -> None:
    """Workers' servers run side by side, each on GPUs of its own."""
    for platform in requested:
        if study.device_of(platform) == "cpu":
            seen = "servers side by side on the same cores measure each other"
            raise BadUsage(f"-n is refused with -m {platform}", seen, "leave -n out")
    ranks = option.tp or max(
        study.servers[study.platforms[name].server].tensor_parallel_size
        for name in requested
    )
    room = machine.count // ranks if machine.gpus else count
    if count > room:
        seen = (
            f"{machine.describe} has room for {room} servers of TP={ranks} side by side"
        )
        raise BadUsage(
            f"-n {count}",
            seen,
            f"use -n {room} at most" if room > 1 else "leave -n out",
        )
