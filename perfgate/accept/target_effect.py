"""Target effect: the loss to catch that a person states when accepting runs."""

from __future__ import annotations

import msgspec

from perfgate import formatting
from perfgate.accept.evidence import Evidence
from perfgate.accept.remarks import Remarks
from perfgate.judge.baseline_schema import MetricBaseline
from perfgate.judge.measured_case import metric_of
from perfgate.judge.noise import Noise, fraction_of, log_loss, step_up


def with_target(
    new: MetricBaseline,
    old: MetricBaseline | None,
    noise: Noise,
    evidence: Evidence,
    remarks: Remarks,
) -> MetricBaseline:
    """The metric with a person's target effect; without one the policy's counts."""
    choice = evidence.choice
    target, reason = choice.target_effect, choice.reason
    if target is None and old is not None and not choice.replace:
        target, reason = old.target_effect, old.reason
    if target is None:
        if new.gate == "hard":
            remarks.notes += _about_noise(noise, evidence)
        return new
    new = msgspec.structs.replace(
        new, target_effect=target, reason=reason or new.reason
    )
    if new.better == "higher" and target >= 1:
        loss = formatting.percent(target)
        remarks.objections.append(
            f"a target effect of {loss} is impossible: give a fraction below 1, such "
            "as --target-effect 0.05"
        )
    if new.gate == "hard":
        _check_target(target, reason, noise, evidence, remarks)
    return new


def _about_noise(noise: Noise, evidence: Evidence) -> list[str]:
    """A note where the launches cannot detect the loss that the policy lets pass."""
    higher = metric_of(evidence.case).better == "higher"
    ceiling = log_loss(evidence.policy.fail_over, higher)
    if noise.margin(1) <= ceiling:
        return []
    margin = formatting.percent(fraction_of(noise.margin(1), higher))
    limit = formatting.percent(evidence.policy.fail_over)
    return [
        f"will be NOT_EXCLUDED: these launches tell a loss to {margin}, and {limit} is "
        "wanted; record more launches"
    ]


def _check_target(
    target: float,
    reason: str | None,
    noise: Noise,
    evidence: Evidence,
    remarks: Remarks,
) -> None:
    """Object to a target effect that needs a reason, or that cannot be detected."""
    policy = evidence.policy
    higher = metric_of(evidence.case).better == "higher"
    mde = noise.mde(higher)
    if target > policy.fail_over and not reason:
        limit = formatting.percent(policy.fail_over)
        remarks.objections.append(
            f"a target effect above {limit} needs a reason: add --reason WHY"
        )
    elif noise.established and target < mde - 1e-9:
        loss = formatting.percent(target)
        enough = f"--target-effect {step_up(mde, higher):g}"
        remarks.objections.append(
            f"a loss of {loss} cannot be detected, the minimum detectable effect is "
            f"{formatting.percent(mde)}: add {enough} or more, or --report-only"
        )
