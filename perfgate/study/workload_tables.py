"""Workload tables of a study file: lengths, a distribution of lengths, or a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from perfgate.load.frozen import Frozen
from perfgate.load.workload import (
    Conversations,
    Drawn,
    Prompts,
    Synthetic,
    Workload,
)
from perfgate.study.schema import DatasetTable, WorkloadTable
from perfgate.study.toml_file import StudyToml

# Keys of a table that describe its prompts, by the three ways to do so.
_FIXED = (
    "input_len_tokens",
    "output_len_tokens",
    "input_range_ratio",
    "output_range_ratio",
    "shared_prefix_tokens",
)
_TURNS = ("turns", "turn_len_tokens")
_DRAWN = ("input_quantiles", "output_quantiles")
_DATASET = ("dataset", "without_dataset")


@dataclass(frozen=True)
class DatasetUse:
    """Which data set a workload's prompts come from.

    Attributes:
        dataset: its name.
        otherwise: the workload that is sent where it is not given; None if there is
            none.
    """

    dataset: str
    otherwise: str | None


@dataclass(frozen=True)
class WorkloadSet:
    """The tables [workloads.SET.*].

    Attributes:
        workloads: by name; those of a data set hold no prompts yet.
        judged: name -> metrics, of those that name some.
        uses: name -> its data set, of those that have one.
    """

    workloads: Mapping[str, Workload]
    judged: Mapping[str, tuple[str, ...]]
    uses: Mapping[str, DatasetUse]


def read_sets(
    file: StudyToml, datasets: Mapping[str, DatasetTable]
) -> dict[str, WorkloadSet]:
    """Every set of workloads, by name."""
    sets = {}
    for set_name, tables in file.tables("workloads").items():
        sets[set_name] = _read_set(file, set_name, tables, datasets)
    return sets


def _read_set(
    file: StudyToml,
    set_name: str,
    tables: Mapping[str, Any],
    datasets: Mapping[str, DatasetTable],
) -> WorkloadSet:
    workloads: dict[str, Workload] = {}
    judged: dict[str, tuple[str, ...]] = {}
    uses: dict[str, DatasetUse] = {}
    for name, value in tables.items():
        place = f"workloads.{set_name}.{name}"
        if not name.replace("-", "").isalnum():
            file.refuse(
                place,
                "the name is no valid file name",
                "use letters, digits and -",
            )
        row = file.convert(file.table(value, place), WorkloadTable, place)
        workloads[name] = _workload(file, place, name, row)
        if row.judged:
            judged[name] = row.judged
        if row.dataset is not None:
            uses[name] = DatasetUse(row.dataset, row.without_dataset)
            file.check_name(row.dataset, datasets, place, "dataset")
            if row.without_dataset is not None:
                file.check_name(
                    row.without_dataset, tables, place, "without_dataset"
                )
    return WorkloadSet(workloads, judged, uses)


def _workload(
    file: StudyToml, place: str, name: str, row: WorkloadTable
) -> Workload:
    fields = msgspec.structs.asdict(row)
    del fields["judged"]
    for key in (*_FIXED, *_TURNS, *_DRAWN, *_DATASET):
        fields.pop(key)
    fields["slo_ms"] = tuple(row.slo_ms.items())
    try:
        return Workload(name=name, prompts=_prompts(file, place, row), **fields)
    except ValueError as error:
        file.refuse(place, str(error), "correct these numbers")


def _prompts(file: StudyToml, place: str, row: WorkloadTable) -> Prompts:
    """What the table says of its prompts, in one of the three ways."""
    given = []
    for keys in (_FIXED[:2], _DRAWN, _DATASET[:1]):
        if any(getattr(row, key) is not None for key in keys):
            given.append(keys)
    is_whole = len(given) == 1 and all(
        getattr(row, key) is not None for key in given[0]
    )
    if not is_whole:
        file.refuse(
            place,
            "how long prompts and answers are is not said in one way",
            "write input_len_tokens and output_len_tokens, or input_quantiles and "
            "output_quantiles, or dataset",
        )
    if row.dataset is not None:
        return Frozen(path="", source="not given", file=row.dataset, sha256="")
    if row.input_quantiles is not None and row.output_quantiles is not None:
        return Drawn(
            input_quantiles=row.input_quantiles,
            output_quantiles=row.output_quantiles,
        )
    lengths = {key: getattr(row, key) for key in _FIXED}
    if row.turns is None:
        return Synthetic(**lengths)
    return Conversations(
        turns=row.turns,
        first_len_tokens=lengths["input_len_tokens"],
        turn_len_tokens=row.turn_len_tokens,
        output_len_tokens=lengths["output_len_tokens"],
    )
