"""Data sets of a session: the files that --dataset and the study name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from perfgate import formatting, locations
from perfgate.config.option_values import BadOption
from perfgate.load.frozen import SUFFIX, Frozen, frozen, read_frozen
from perfgate.load.prompts import WORDS, ShareGPT
from perfgate.models.catalogue import Model
from perfgate.models.weights import find_tokenizer
from perfgate.study import StudyFile, Subject
from perfgate.study.schema import DatasetTable
from perfgate.study.workload_tables import DatasetUse


def check_datasets(
    files: Mapping[str, str], study: StudyFile
) -> dict[str, str]:
    """The files of --dataset by name of their data set.

    Raises:
        BadOption: the study has no such data set, or there is no such file.
    """
    for name, path in files.items():
        tried = f"--dataset {name}={path}"
        if name not in study.datasets:
            suggestion = formatting.suggestion(name, study.datasets)
            names = ", ".join(study.datasets) or "none"
            raise BadOption(
                tried=tried,
                seen=f"the study's data sets are: {names}",
                remedy=f"{suggestion}add [datasets.{name}] to the study file",
            )
        if not locations.expanded(path).is_file():
            raise BadOption(
                tried=tried,
                seen=f"there is no file {path}",
                remedy="give a ShareGPT JSON file, or drawn prompts (.jsonl)",
            )
    return dict(files)


def draw_datasets(
    file: StudyFile,
    platform: str,
    subject: Subject,
    given: Mapping[str, str],
    model_dirs: Mapping[str, str],
    allow_truncated: bool,
) -> dict[str, Frozen]:
    """The prompts of each data set that the platform's workloads use and that is there.

    Args:
        given: name -> file, of --dataset.
        model_dirs: model -> folder, as the user named them.
        allow_truncated: whether files that are cut off may be used.

    Raises:
        UnusableWorkload: a file cannot be used.
        BadOption: a data set is missing that nothing takes the place of, or its
            prompts need a tokenizer that is not on this machine.
    """
    uses = file.dataset_uses.get(file.platforms[platform].workloads, {})
    drawn = {}
    for name in dict.fromkeys(use.dataset for use in uses.values()):
        table = file.datasets[name]
        path = _path(file, table, given.get(name))
        if path is None:
            _refuse_missing(name, file, uses)
            continue
        if path.suffix == SUFFIX:
            drawn[name] = read_frozen(path)
            continue
        spec = ShareGPT(
            path=str(path),
            tokenizer=_tokenizer(file, table, subject, model_dirs, path),
            allow_truncated=allow_truncated or table.allow_truncated,
        )
        drawn[name] = frozen(name, spec)
    return drawn


def _refuse_missing(
    name: str, file: StudyFile, uses: Mapping[str, DatasetUse]
) -> None:
    """Refuse a session in which a workload would have no prompts."""
    for workload, use in uses.items():
        if use.dataset == name and use.otherwise is None:
            raise BadOption(
                tried=f"reading the workload {workload} of {file.path}",
                seen=f"the data set {name} is not given",
                remedy=f"add --dataset {name}=FILE",
            )


def _path(
    file: StudyFile, table: DatasetTable, given: str | None
) -> Path | None:
    """The option's file, else the study's; None where neither names one."""
    if given is not None:
        return locations.expanded(given)
    if table.file is None:
        return None
    return file.path.parent / locations.expanded(table.file)


def _tokenizer(
    file: StudyFile,
    table: DatasetTable,
    subject: Subject,
    model_dirs: Mapping[str, str],
    path: Path,
) -> str:
    """What makes tokens of the texts: the same for all models, so that all get one load."""
    if table.tokenizer == WORDS:
        return WORDS
    if table.tokenizer is not None:
        return str(file.path.parent / locations.expanded(table.tokenizer))
    model: Model = file.models[subject.models[0]]
    if model.hub_id is None and not model.folder:
        return WORDS
    folder = find_tokenizer(model, model_dirs)
    if folder is None:
        raise BadOption(
            tried=f"drawing prompts from {path}",
            seen=f"no tokenizer.json of {model.name} is on this machine",
            remedy=(
                f"draw them where there is one (perfgate prompts {path.name} "
                f"--tokenizer DIR --out drawn{SUFFIX}), and give that file"
            ),
        )
    return str(folder)
