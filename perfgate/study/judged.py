"""Judged metrics: those that can fail a run, by the tables of a study file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perfgate import formatting
from perfgate.cases import Case
from perfgate.load.metrics import FAMILIES, METRICS, family_of
from perfgate.study.reader import StudyFile
from perfgate.study.toml_file import BadStudy


@dataclass(frozen=True)
class JudgedMetrics:
    """Which metrics can fail a run on one platform.

    Attributes:
        only: metrics or families; None for all.
        report_only: metrics or families of them that cannot.
    """

    only: tuple[str, ...] | None = None
    report_only: tuple[str, ...] = ()

    def includes(self, metric: str) -> bool:
        """Whether the metric can fail a run."""
        names = {metric, family_of(metric)}
        if self.only is not None and names.isdisjoint(self.only):
            return False
        return names.isdisjoint(self.report_only)

    def apply(self, case: Case) -> Case:
        """The case; report-only if its metric cannot fail a run."""
        if self.includes(case.metric):
            return case
        return case.report_only


def judged_metrics(file: StudyFile, platform: str) -> JudgedMetrics:
    """Those of a platform: of the whole file, less what the platform only reports."""
    report_only = file.platforms[platform].report_only
    return JudgedMetrics(
        only=file.judged.only,
        report_only=(*file.judged.report_only, *report_only),
    )


def check_metrics(file: StudyFile) -> None:
    """Refuse an unknown name; called once plugins have declared their metrics.

    Raises:
        BadStudy: a table names neither a metric nor a family.
    """
    _check(file, "[judged]: only", file.judged.only or ())
    _check(file, "[judged]: report_only", file.judged.report_only)
    for set_name, members in file.judged_workloads.items():
        for name, metrics in members.items():
            place = f"[workloads.{set_name}.{name}]: judged"
            _check(file, place, metrics, families=())
    for name, platform in file.platforms.items():
        place = f"[platforms.{name}]: report_only"
        _check(file, place, platform.report_only)


def _check(
    file: StudyFile,
    place: str,
    names: Iterable[str],
    families: tuple[str, ...] = FAMILIES,
) -> None:
    known = (*families, *METRICS)
    kinds = "neither a metric nor a family" if families else "no metric"
    for name in names:
        if name in known:
            continue
        suggestion = formatting.suggestion(name, known)
        raise BadStudy(
            tried=f"reading the study {file.path}",
            seen=f"{place} names {name!r}, which is {kinds}",
            remedy=f"{suggestion}use one of: {', '.join(known)}",
        )
