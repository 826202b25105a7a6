"""Choice: what a person decides when accepting runs."""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
from dataclasses import dataclass

from perfgate.cases import Case


@dataclass(frozen=True)
class Choice:
    """What a person decides when accepting runs.

    Attributes:
        only: ids of cases, or patterns of them ("*/closed-c32/*"); empty takes all.
        reason: why worse values, or a wide target effect, are right; stored in the
            file.
        target_effect: one other than the policy's.
        report_only: never fail a run by these cases; with a reason it stays so until
            `replace` or `target_effect`.
        known_until: keep the baseline, and let the loss pass until this day.
        replace: drop the recorded launches, even where the new ones pass.

    """

    only: tuple[str, ...] = ()
    reason: str | None = None
    target_effect: float | None = None
    report_only: bool = False
    known_until: datetime.date | None = None
    replace: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether launches are added and nothing else about a case is decided."""
        return dataclasses.replace(self, only=()) == Choice()

    def matches(self, case: Case) -> bool:
        """Whether the case is chosen."""
        if not self.only:
            return True
        return any(fnmatch.fnmatchcase(case.id, name) for name in self.only)
