"""Other options: the studies that a study file makes of some servers under any options.

They are for questions alone: the prompts of data sets and of graded answers are
stand-ins, and nothing of them can be sent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import permutations, product

from perfgate.config.config import Config
from perfgate.config.options import LOAD_FORMATS
from perfgate.engines.base import ServerConfig
from perfgate.load.frozen import Frozen
from perfgate.load.prompts import PromptFile
from perfgate.load.questions import ACCURACY
from perfgate.load.workload import Workload
from perfgate.models.stated_routing import STATED
from perfgate.study import (
    ServerChoices,
    Study,
    StudyFile,
    Subject,
    study_of,
    subjects_of,
)
from perfgate.study.selection import select

_GRADED = Workload(
    name=ACCURACY,
    prompts=PromptFile(path=""),
    num_prompts=1,
    max_concurrency=1,
    repetitions=1,
    graded=True,
)


@dataclass(frozen=True)
class _Options:
    """One set of options.

    Attributes:
        has_more: whether everything is asked for that takes an option of its own:
            --deep, --soak, --accuracy, --instructions and --stated-routing.
    """

    choices: ServerChoices
    has_more: bool


def other_sessions(
    config: Config, file: StudyFile, servers: Collection[ServerConfig]
) -> Iterator[list[Study]]:
    """The studies of one session after the other, each with another set of options.

    Their platforms and engines are those of the configuration.

    Args:
        servers: their models alone are measured, on as many ranks as any of them has.
    """
    for options in _all_options(file, servers):
        studies = []
        for platform in config.platforms:
            subjects = _subjects(file, platform, servers)
            for engine, subject in product(config.engines, subjects):
                study = study_of(
                    file, platform, engine, subject, options.choices
                )
                if options.has_more:
                    study = _with_more(study, file, options.choices)
                studies.append(study)
        yield studies


def _all_options(
    file: StudyFile, servers: Collection[ServerConfig]
) -> Iterator[_Options]:
    sizes: list[int | None] = [None]
    sizes += sorted({server.tensor_parallel_size for server in servers})
    given = {name: _given(name) for name in file.datasets}
    for size, datasets, load_format, has_more in product(
        sizes, ({}, given), LOAD_FORMATS, (False, True)
    ):
        choices = ServerChoices(
            tensor_parallel_size=size,
            load_format=load_format,
            datasets=datasets,
        )
        yield _Options(choices, has_more)


def _given(name: str) -> Frozen:
    """Prompts that stand for those of a data set."""
    return Frozen(path="", source=name, file="", sha256="")


def _subjects(
    file: StudyFile, platform: str, servers: Collection[ServerConfig]
) -> tuple[Subject, ...]:
    """Each pair of the servers' models, and each of them alone."""
    models = sorted({server.model for server in servers} & file.models.keys())
    models = [name for name in models if file.models[name].served]
    pairs = [f"{model}:{other}" for model, other in permutations(models, 2)]
    own = [
        subject
        for subject in subjects_of(file, platform)
        if set(subject.models) <= set(models)
    ]
    return tuple(dict.fromkeys([*own, *select(file, pairs, models)]))


def _with_more(study: Study, file: StudyFile, choices: ServerChoices) -> Study:
    """The study with all that takes an option of its own."""
    stated = STATED if choices.load_format == "dummy" else ()
    return dataclasses.replace(
        study,
        stated_routings=stated,
        deep=file.platforms[study.platform].deep,
        accuracy=_GRADED,
        soak_minutes=1.0,
        counts_instructions=True,
    )
