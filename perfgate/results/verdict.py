"""Verdict: the decision about one case, as fields; the same class is judged and stored.

`perfgate.judge` makes verdicts, `perfgate.report.verdict_text` turns them into text.
Nothing reads the text again.
"""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

from perfgate.cases import Case, GateMode, is_ratio
from perfgate.formatting import RATIO_UNIT
from perfgate.load.metrics import METRICS

Reference = Literal["recorded", "published", "paired", "none"]
Moved = Literal["numerator", "denominator", "both"]


def unit_of(case_id: str, metric: str) -> str:
    """Unit of a case's values: "x" for a ratio, "" for a metric that is not registered."""
    if is_ratio(case_id):
        return RATIO_UNIT
    if metric in METRICS:
        return METRICS[metric].unit
    return ""


class Outcome(enum.StrEnum):
    """What a judgement can end in. "Not judged" is no outcome, because it is never green.

    NOT_EXCLUDED: no loss beyond the threshold, but one above the ceiling is possible.
    """

    PASSED = "PASSED"
    NOT_EXCLUDED = "NOT_EXCLUDED"
    IMPROVED = "IMPROVED"
    REGRESSED = "REGRESSED"
    NO_BASELINE = "NO_BASELINE"
    INCOMPARABLE = "INCOMPARABLE"
    INVALID = "INVALID"
    INCONCLUSIVE = "INCONCLUSIVE"


class Screen(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What a launch showed by its baseline, before pairs decided the case instead.

    Attributes: as those of `Verdict`.
    """

    outcome: Outcome
    reference: Reference
    value: float | None = None
    baseline: float | None = None
    change: float | None = None
    threshold: float | None = None
    launches: int = 0


class Verdict(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One case judged.

    Attributes:
        case: id of the case, "subject/workload/metric".
        test: id of the test that asked. experiment: the study's number, "E1".
        gate: a "hard" verdict can fail the run, a "report" verdict never does.
        reference: what the value was compared with.
        value: geometric mean of the valid launches, in `unit`.
        unit: of value and baseline; "x" for a ratio.
        baseline: the value that it was compared with.
        change: (value - baseline) / baseline.
        worse_by: the loss as a fraction, negative if better.
        threshold: the loss, as a fraction, beyond which it is a regression.
        target_effect: the loss, as a fraction, that the gate is to catch.
        mde: minimum detectable effect, the smallest loss that these launches detect.
        excluded: the smallest loss, as a fraction, that is excluded with 95 %
            confidence.
        allowed: the loss, as a fraction, beyond which it cannot pass: the smaller of
            threshold and ceiling, but never below the floor.
        fail_over: the ceiling, as a fraction, but never below the floor: a case passes
            only where a loss above it is excluded.
        noise: launch-to-launch variation of the baseline, as a fraction.
        launches: valid launches, or pairs, that the verdict rests on.
        moved: which side of a ratio moved, where both are known.
        cause: what explains the change, where something does.
        report_only_reason: why a case that the study judges is report-only.
        injected: what was changed on purpose in its servers, in words.
        implausible: whether the value is too good to be true: INVALID until a person
            accepts it with a reason (`perfgate.judge.plausibility`).
        screen: what the baseline said of a case that pairs decided then; else None.
        summary: what was decided, with the number that decided. No value, no subject.
        details: further facts, one sentence each.
        advice: what to do next; "" where there is nothing to do.
        store: with which words the advice names the baselines that judged it
            (" --baselines DIR"); "" for those that commands take by themselves.

    """

    case: str
    test: str = ""
    experiment: str = ""
    metric: str
    outcome: Outcome
    gate: GateMode
    reference: Reference = "none"
    value: float | None = None
    unit: str = ""
    baseline: float | None = None
    change: float | None = None
    worse_by: float | None = None
    threshold: float | None = None
    target_effect: float | None = None
    mde: float | None = None
    excluded: float | None = None
    allowed: float | None = None
    fail_over: float | None = None
    noise: float | None = None
    launches: int = 0
    moved: Moved | None = None
    cause: str = ""
    report_only_reason: str = ""
    injected: str = ""
    implausible: bool = False
    screen: Screen | None = None
    summary: str
    details: tuple[str, ...] = ()
    advice: str = ""
    store: str = ""

    @property
    def limit(self) -> float | None:
        """The loss, as a fraction, beyond which it cannot pass; None without a comparison.

        Pairs, published figures and older runs have a threshold alone.
        """
        if self.allowed is None:
            return self.threshold
        return self.allowed

    @property
    def has_accepted_loss(self) -> bool:
        """Whether it passed beyond its limit: by a loss that is accepted until a day."""
        if self.outcome is not Outcome.PASSED or self.reference != "recorded":
            return False
        share = self.share_of_limit
        return share is not None and share > 1

    @property
    def share_of_limit(self) -> float | None:
        """The loss over its limit, negative if better; None where one is unknown."""
        if self.worse_by is None or not self.limit:
            return None
        return self.worse_by / self.limit

    def row(self, case: Case, test: str) -> Verdict:
        """The verdict as it is stored, with its experiment and the test that asked."""
        fields = {}
        for name in Verdict.__struct_fields__:
            fields[name] = getattr(self, name)
        fields["experiment"] = case.experiment
        fields["test"] = test
        return Verdict(**fields)
