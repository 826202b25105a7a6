"""Parsing of options: command line, environment variables and project file become a `Config`.

After it, no other module sees an option as text. Checks that need the machine are in
`perfgate.config.machine_checks`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perfgate import formatting, locations
from perfgate.config import options
from perfgate.config.config import Config
from perfgate.config.contradictions import (
    refuse_contradictions,
    refuse_empty_gate,
    refuse_unusable_session,
)
from perfgate.config.datasets import check_datasets
from perfgate.config.option_values import (
    BadOption,
    name_value_pairs,
    refuse_below,
    refuse_endless,
    refuse_unknown_engines,
)
from perfgate.config.options import Explain, PairsFor
from perfgate.config.other_plugins import refuse_other_plugins, worker_count
from perfgate.config.project import Project
from perfgate.config.run_folder import refuse_occupied
from perfgate.engines import environment, injection
from perfgate.engines.injection import Injection
from perfgate.engines.registry import ENGINES
from perfgate.foreign_text import shown_arguments
from perfgate.judge.baseline_store import Store
from perfgate.load.ceilings import BadCeiling, parse_ceilings, with_option
from perfgate.machine.leases import usable_folder
from perfgate.models import catalogue
from perfgate.results.gates import GATES, Gate
from perfgate.results.schema import new_run_id
from perfgate.servers.external import attach
from perfgate.study.selection import select


def config_from_pytest(pytest_config: Any, project: Project) -> Config:
    """Parse and validate the options of a pytest session.

    The models of servers named by --attach are read from them, unless the session
    only collects.

    Args:
        pytest_config: a `pytest.Config` with the options of
            `perfgate.config.options`.

    Raises:
        BadOption: a value is bad, or two options exclude each other.
        BadInjection, EngineMissing, UnknownModel: an option names something bad.
        BadAttachment, NotReachable, UnknownDeployment: of --attach.
    """
    option = pytest_config.option
    markers = options.marker_names(pytest_config)
    platforms = tuple(
        name for name in project.study.platforms if name in markers
    )
    if options.is_gate_explicit(pytest_config):
        refuse_empty_gate(option, project, platforms)
    worker = getattr(pytest_config, "workerinput", {})
    config = dataclasses.replace(
        _parse(option, project, _run_dir(option, project, worker)),
        platforms=platforms,
        markers=markers,
        arguments=shown_arguments(
            [str(word) for word in pytest_config.invocation_params.args]
        ),
        worker=worker.get("workerid"),
        session=worker.get("perfgate_session", ""),
    )
    refuse_contradictions(config)
    if not platforms:
        return config
    config = dataclasses.replace(config, gate=_gate(option, project))
    refuse_unusable_session(config)
    if config.runs_tests:
        refuse_other_plugins(pytest_config)
        # Another worker may have begun the run: one that died is replaced.
        if config.worker is None:
            refuse_occupied(config.run_dir, config.resume)
        _refuse_missing_store(option)
    if config.collect_only:
        return config
    return dataclasses.replace(config, attached=attach(config.external_urls))


def _parse(
    option: argparse.Namespace, project: Project, run_dir: Path
) -> Config:
    """Every option by itself; the caller adds platforms, gate and worker."""
    _refuse_bad_numbers(option)
    if option.resume and not option.run_dir:
        raise BadOption(
            tried="--resume",
            seen="the run to resume is not named",
            remedy="add its folder: --run-dir=DIR --resume",
        )
    base_builds = _base_builds(option, project)
    pairs = option.pairs or project.pairs
    return Config(
        run_dir=run_dir,
        store=_store(option, project),
        fail_over=_fail_over(option, project),
        hardware_kind=option.hardware,
        engines=_engines(option, project, base_builds, pairs),
        engines_are_required=bool(option.engine),
        engine_pythons=_engine_pythons(option, project),
        model_dirs=_model_dirs(option, project),
        datasets=_datasets(option, project),
        allow_truncated_dataset=option.allow_truncated_dataset,
        study=option.study,
        subjects=select(project.study, option.pair, option.model),
        tensor_parallel_size=option.tp,
        load_format=option.weights,
        stated_routings=tuple(dict.fromkeys(option.stated_routing)),
        deep=_deep(option, project),
        accuracy=_accuracy(option),
        soak_minutes=option.soak,
        counts_instructions=option.instructions,
        allow_download=option.allow_download,
        injections=_injections(option),
        external_urls=tuple(option.attach),
        base_builds=base_builds,
        pairs=pairs,
        target_effect=option.target_effect,
        explain=_explain(option),
        launches=option.launches,
        silence_timeout_s=option.stall_timeout,
        lease_wait_s=option.lease_wait,
        leases_dir=_leases_dir(),
        prepare_next=option.prepare_next,
        telemetry=option.telemetry == "yes",
        resume=option.resume,
        plan=option.plan,
        units=_units(option),
        unit=option.unit or "",
        collect_only=option.collectonly,
        verbose=getattr(option, "verbose", 0) > 0,
        history=_history(option, project),
        runs=_earlier_runs(option, project),
        writes_report=option.perf_report == "yes",
        proposes_baselines=option.baseline_record,
        worker_count=worker_count(option),
        run_id=_run_id(option, run_dir),
    )


def _explain(option: argparse.Namespace) -> Explain:
    """Which red loads are profiled."""
    if option.explain and option.no_explain:
        raise BadOption(
            tried="--explain with --no-explain",
            seen="they exclude each other",
            remedy="leave one of them out",
        )
    if option.no_explain:
        return "no"
    if option.explain:
        return "red"
    return "pairs"


def _deep(option: argparse.Namespace, project: Project) -> tuple[str, ...]:
    """The deep loads that --deep names, each declared by a platform."""
    declared: dict[str, None] = {}
    for platform in project.study.platforms.values():
        declared |= dict.fromkeys(platform.deep)
    for name in option.deep:
        if name not in declared:
            names = ", ".join(declared) or "none is declared"
            suggestion = formatting.suggestion(name, declared)
            raise BadOption(
                tried=f"--deep {name}",
                seen=f"no platform of {project.study.path} declares such a load",
                remedy=f"{suggestion}use one of: {names}",
            )
    return tuple(dict.fromkeys(option.deep))


def _accuracy(option: argparse.Namespace) -> Path | None:
    """The file of questions, if one is named."""
    if not option.accuracy:
        return None
    path: Path = locations.expanded(option.accuracy).resolve()
    if not path.is_file():
        raise BadOption(
            tried=f"--accuracy {option.accuracy}",
            seen="there is no such file",
            remedy="name a file of JSON lines with prompt and answer",
        )
    return path


def _units(option: argparse.Namespace) -> Path | None:
    """The file to list the units in, if one is named."""
    if not option.units:
        return None
    return locations.expanded(option.units).resolve()


def _leases_dir() -> Path:
    """The folder of leases: $PERFGATE_LEASES_DIR, else the machine's."""
    folder = os.environ.get("PERFGATE_LEASES_DIR")
    if folder:
        return locations.expanded(folder)
    return usable_folder()


def _gate(option: argparse.Namespace, project: Project) -> Gate:
    """The gate of the option, else of the variable, else of the project."""
    name = option.gate or os.environ.get("PERFGATE_GATE") or project.gate
    for gate in GATES:
        if name == gate:
            return gate
    raise BadOption(
        tried=f"PERFGATE_GATE={name}",
        seen="there is no such gate",
        remedy=f"set PERFGATE_GATE to {', '.join(GATES)}",
    )


def _fail_over(
    option: argparse.Namespace, project: Project
) -> dict[str, float]:
    """The ceilings of the study, replaced by those of the option."""
    try:
        given = parse_ceilings(option.fail_over)
    except BadCeiling as failure:
        raise BadOption(
            tried=f"--fail-over: {failure.tried}",
            seen=failure.seen,
            remedy=failure.remedy,
        ) from None
    pairs = option.pairs or project.pairs
    if given and option.against_engine and pairs != "suspect":
        raise BadOption(
            tried="--fail-over with --against-engine",
            seen="pairs are judged by their target effect",
            remedy="write --target-effect instead, or add --pairs suspect",
        )
    return with_option(project.study.fail_over, given)


def _refuse_bad_numbers(option: argparse.Namespace) -> None:
    refuse_below("--tp", option.tp, 1)
    refuse_below("--launches", option.launches, 1)
    refuse_below("--stall-timeout", option.stall_timeout, 1)
    refuse_below("--lease-wait", option.lease_wait, 0)
    refuse_below("--soak", option.soak, 0)
    refuse_endless("--soak", option.soak)


def _run_dir(
    option: argparse.Namespace, project: Project, worker: Mapping[str, Any]
) -> Path:
    """Folder of the whole session's run: the controller's, the named one, or a new one."""
    if "perfgate_run_dir" in worker:
        return Path(worker["perfgate_run_dir"])
    if option.run_dir:
        return locations.expanded(option.run_dir).resolve()
    return project.locations.runs / new_run_id()


def _run_id(option: argparse.Namespace, run_dir: Path) -> str:
    """The name of a folder that was made for this run; a new id in a named folder."""
    if option.run_dir:
        return new_run_id()
    return run_dir.name


def _store(option: argparse.Namespace, project: Project) -> Store:
    """The baselines to judge against: the named store, or the project's."""
    if not option.baselines:
        return project.store()
    return project.store(locations.expanded(option.baselines).resolve())


def _refuse_missing_store(option: argparse.Namespace) -> None:
    folder = option.baselines
    if folder and not locations.expanded(folder).is_dir():
        raise BadOption(
            tried=f"--baselines={folder}",
            seen="there is no such folder",
            remedy=f"correct the path, or start a new store there: mkdir {folder}",
        )


def _history(option: argparse.Namespace, project: Project) -> Path:
    """The file of the history: the named one, or the project's."""
    if option.history:
        return locations.expanded(option.history)
    return project.locations.history


def _earlier_runs(option: argparse.Namespace, project: Project) -> Path:
    """Folder of earlier runs: that of the named history, or the project's."""
    if option.history:
        return locations.expanded(option.history).parent
    return project.locations.runs


def _engines(
    option: argparse.Namespace,
    project: Project,
    base_builds: Mapping[str, str],
    pairs: PairsFor,
) -> tuple[str, ...]:
    """Engines under test: the named ones, those with a base build, the study's, or all.

    Those without a base build are judged too where their baselines judge them.
    """
    if pairs == "suspect":
        base_builds = {}
    refuse_unknown_engines("--engine", option.engine or ())
    refuse_unknown_engines(
        f"engines in {project.study.path}", project.study.engines
    )
    missing = sorted(set(option.engine or ()) - set(base_builds))
    if base_builds and missing:
        raise BadOption(
            tried="--against-engine",
            seen=f"no base build for {', '.join(missing)}",
            remedy=f"add --against-engine {missing[0]}=PATH",
        )
    for engines in (option.engine, sorted(base_builds), project.study.engines):
        if engines:
            return tuple(engines)
    return tuple(sorted(ENGINES))


def _engine_pythons(
    option: argparse.Namespace, project: Project
) -> dict[str, str]:
    """Engine -> Python; the command line overrides the project file."""
    pythons = dict(project.engine_python)
    pythons |= name_value_pairs("--engine-python", option.engine_python)
    refuse_unknown_engines("--engine-python", pythons)
    for engine in pythons:
        environment.find_python(engine, "cuda", pythons)
    return pythons


def _base_builds(
    option: argparse.Namespace, project: Project
) -> dict[str, str]:
    """Engine -> Python of its base build; the command line overrides the project file."""
    name = "--against-engine"
    builds = name_value_pairs(name, option.against_engine)
    if not option.attach:
        # An external server is launched by its operator, never in pairs.
        builds = dict(project.against_engine) | builds
    if option.pairs and not builds:
        raise BadOption(
            tried=f"--pairs {option.pairs}",
            seen="without a base build there are no pairs",
            remedy=f"add {name} ENGINE=PATH",
        )
    refuse_unknown_engines(name, builds)
    for engine in builds:
        environment.find_python(engine, "cuda", builds, name)
    effect = option.target_effect
    if effect is None:
        return builds
    if not builds:
        raise BadOption(
            tried="--target-effect",
            seen="without a base build there are no pairs to judge",
            remedy=f"add {name} ENGINE=PATH",
        )
    if not 0 < effect < 1:
        raise BadOption(
            tried=f"--target-effect {effect:g}",
            seen="it is not a fraction between 0 and 1",
            remedy="write --target-effect 0.02 for 2 %",
        )
    return builds


def _model_dirs(option: argparse.Namespace, project: Project) -> dict[str, str]:
    """Model -> folder of its weights; the command line overrides the project file."""
    folders = dict(project.model_dir)
    folders |= name_value_pairs("--model-dir", option.model_dir)
    for model, folder in folders.items():
        catalogue.lookup(model)
        if not locations.expanded(folder).is_dir():
            raise BadOption(
                tried=f"--model-dir {model}={folder}",
                seen=f"there is no folder {folder}",
                remedy="use the folder with the model's config.json",
            )
    return _with_equal_weights(folders, project)


def _datasets(option: argparse.Namespace, project: Project) -> dict[str, str]:
    """Data set -> the file that the option names."""
    files = name_value_pairs("--dataset", option.dataset)
    return check_datasets(files, project.study)


def _with_equal_weights(
    folders: Mapping[str, str], project: Project
) -> dict[str, str]:
    """The folders, also of models that have the hub id of one that is named.

    Such a model is another one in another precision, or on another server.
    """
    models = project.study.models
    by_hub_id: dict[str | None, str] = {}
    for name, folder in folders.items():
        if name in models and models[name].hub_id is not None:
            by_hub_id.setdefault(models[name].hub_id, folder)
    shared = {}
    for name, model in models.items():
        if model.hub_id in by_hub_id:
            shared[name] = by_hub_id[model.hub_id]
    return shared | dict(folders)


def _injections(option: argparse.Namespace) -> dict[str, Injection]:
    """Model -> the change injected in its servers."""
    injections = injection.parse_injections(
        option.inject_delay, option.inject_arg, option.inject_env
    )
    for model in injections:
        catalogue.lookup(model)
    return injections
