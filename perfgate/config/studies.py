"""Studies of a configuration: one for each selected platform, engine and pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import product

from perfgate.config.config import Config
from perfgate.config.datasets import draw_datasets
from perfgate.load.questions import workload_of
from perfgate.load.workload import Workload
from perfgate.models.stated_routing import StatedRouting
from perfgate.study import (
    ServerChoices,
    Study,
    StudyFile,
    Subject,
    study_of,
    subjects_of,
)
from perfgate.study.schema import DeepTable


def selected_studies(config: Config, file: StudyFile) -> Iterator[Study]:
    """The studies in the order of platforms, engines and pairs."""
    for platform in config.platforms:
        subjects = config.subjects or subjects_of(file, platform)
        for engine, subject in product(config.engines, subjects):
            choices = _choices(config, file, platform, subject)
            study = study_of(file, platform, engine, subject, choices)
            yield dataclasses.replace(
                study,
                stated_routings=config.stated_routings,
                deep=_deep(config, file, platform),
                accuracy=_accuracy(config),
                soak_minutes=config.soak_minutes,
                counts_instructions=config.counts_instructions,
                has_base_build=config.is_paired,
                names_base_build=engine in config.base_builds,
                has_other_engines=len(config.engines) > 1,
            )


def _deep(
    config: Config, file: StudyFile, platform: str
) -> dict[str, DeepTable]:
    """The deep loads that --deep names, as far as the platform declares them."""
    declared = file.platforms[platform].deep
    return {name: declared[name] for name in config.deep if name in declared}


def _accuracy(config: Config) -> Workload | None:
    """The questions that --accuracy names."""
    if config.accuracy is None:
        return None
    return workload_of(config.accuracy)


def _choices(
    config: Config, file: StudyFile, platform: str, subject: Subject
) -> ServerChoices:
    """What the options change in the servers and workloads of the file."""
    datasets = draw_datasets(
        file,
        platform,
        subject,
        config.datasets,
        config.model_dirs,
        config.allow_truncated_dataset,
    )
    stated_routing: StatedRouting | None = None
    if config.external_urls:
        stated_routing = ""
    return ServerChoices(
        tensor_parallel_size=config.tensor_parallel_size,
        load_format=config.load_format,
        stated_routing=stated_routing,
        datasets=datasets,
    )
