"""Losses of a plan: what recorded launches detect, and what they exclude.

Both follow from the recorded launches, as in the judgement itself. Nothing is started.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from perfgate import formatting
from perfgate.cases import Case
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.machine_scope import (
    detectable,
    for_any,
    narrow_to,
    target_effect_of,
)
from perfgate.judge.measured_case import gate_mode
from perfgate.judge.noise import (
    DECISION_LAUNCHES,
    launches_to_exclude,
    log_loss,
)
from perfgate.judge.observation import hardware_label
from perfgate.judge.policy import Policy, policy_of
from perfgate.machine.hardware import Hardware
from perfgate.report import plan_table

State = Literal["established", "provisional", "no baseline", "report-only"]
# With a loss that is detected, and without one.
WITH_LOSS: tuple[State, ...] = ("established", "provisional")
WITHOUT_LOSS: tuple[State, ...] = ("no baseline", "report-only")
DetectableLosses = Mapping[str, Mapping[State, Sequence[float]]]


def detectable_losses(
    cases: Iterable[Case], store: Store, hardware: Hardware, platform: str
) -> DetectableLosses:
    """Metric -> state of its baseline -> the smallest loss detected in each case, as a fraction.

    In cases without a baseline, or that are report-only, it is 0.

    Args:
        platform: that was selected. Where this machine is of another kind, the
            baselines are those of any such machine.
    """
    losses: dict[str, dict[State, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for case in cases:
        name = case.metric
        if case.is_ratio:
            name += ", ratios"
        state, loss = _detectable_loss(case, store, hardware, platform)
        losses[name][state].append(loss)
    return losses


def _detectable_loss(
    case: Case, store: Store, hardware: Hardware, platform: str
) -> tuple[State, float]:
    """State of the case's baseline, and the smallest loss that the gate detects."""
    label = _label(case, hardware, platform)
    policy = policy_of(case, label)
    baseline = store.find(case, label)
    if not isinstance(baseline, Recorded):
        if gate_mode(case, policy) == "hard":
            return "no baseline", 0.0
        return "report-only", 0.0
    if gate_mode(case, policy, baseline.metric.gate) != "hard":
        return "report-only", 0.0
    narrowed = _narrowed(case, baseline, hardware, platform, policy)
    return _smallest_loss(narrowed, policy)


def _is_here(case: Case, hardware: Hardware, platform: str) -> bool:
    """Whether the case can be measured on this machine."""
    gpus = max(load.server.gpu_count for load in case.loads)
    return hardware.kind == platform or not gpus


def _label(case: Case, hardware: Hardware, platform: str) -> str:
    """The kind of hardware whose baselines count."""
    gpus = max(load.server.gpu_count for load in case.loads)
    if _is_here(case, hardware, platform):
        return hardware_label(hardware, case)
    return f"{platform}x{gpus}"


def _narrowed(
    case: Case,
    baseline: Recorded,
    hardware: Hardware,
    platform: str,
    policy: Policy,
) -> Recorded:
    """The baseline for this machine; for any of its kind where this is another kind."""
    if _is_here(case, hardware, platform):
        return narrow_to(baseline, _machine(case, hardware), policy)
    return for_any(baseline, policy)


def _machine(case: Case, hardware: Hardware) -> str | None:
    """By the GPUs that the case's servers get where no other session has them."""
    gpus = max(load.server.gpu_count for load in case.loads)
    if not gpus:
        return hardware.machine_id
    return hardware.machine_of(gpu.index for gpu in hardware.gpus[:gpus])


def _smallest_loss(narrowed: Recorded, policy: Policy) -> tuple[State, float]:
    """Whether the baseline is established, and the loss that is detected."""
    loss = detectable(narrowed, policy)
    if narrowed.noise(policy).established:
        return "established", loss
    return "provisional", loss


@dataclass(frozen=True)
class Exclusion:
    """A row that is recorded and judged.

    Attributes:
        ceiling: the largest loss, as a fraction, that may pass.
        launches: as many exclude a larger loss, of code that is no slower; None where
            more launches have to be recorded.
    """

    ceiling: float
    launches: int | None


def exclusions(
    cases: Iterable[Case],
    store: Store,
    hardware: Hardware,
    platform: str,
    fail_over: Mapping[str, float],
) -> list[Exclusion]:
    """How many launches exclude a loss above the ceiling, of each recorded row.

    Args:
        platform: as of `detectable_losses`.
        fail_over: family of metrics -> ceiling that an option or the study sets.
    """
    rows = []
    for case in cases:
        label = _label(case, hardware, platform)
        policy = policy_of(case, label, fail_over)
        baseline = store.find(case, label)
        if not isinstance(baseline, Recorded):
            continue
        if gate_mode(case, policy, baseline.metric.gate) != "hard":
            continue
        narrowed = _narrowed(case, baseline, hardware, platform, policy)
        rows.append(_exclusion(narrowed, policy))
    return rows


def _exclusion(narrowed: Recorded, policy: Policy) -> Exclusion:
    ceiling = max(policy.fail_over, target_effect_of(narrowed, policy))
    higher = narrowed.metric.better == "higher"
    noise = narrowed.noise(policy)
    needed = launches_to_exclude(
        noise, log_loss(ceiling, higher), max_launches=noise.launches
    )
    if needed is None:
        return Exclusion(ceiling, None)
    _, launches = needed
    return Exclusion(ceiling, launches)


def format_exclusions(rows: Sequence[Exclusion], launches: int) -> list[str]:
    """Lines: how many rows can exclude their ceiling by what is recorded.

    Args:
        launches: of each server.
    """
    by_ceiling = defaultdict(list)
    for row in rows:
        by_ceiling[row.ceiling].append(row)
    lines = []
    for ceiling, alike in sorted(by_ceiling.items()):
        lines.append(_exclusion_line(ceiling, alike, launches))
    return lines


def _exclusion_line(
    ceiling: float, rows: Sequence[Exclusion], launches: int
) -> str:
    now = more = 0
    for row in rows:
        if row.launches is None:
            continue
        if row.launches <= launches:
            now += 1
        else:
            more += 1
    line = f"{now} of {len(rows)} recorded rows exclude {_lost(ceiling)}"
    if more:
        line += f", {more} more with --launches {DECISION_LAUNCHES}"
    hidden = len(rows) - now - more
    if hidden:
        line += f"; {hidden} more after further recorded launches"
    return f"{line}."


def _lost(ceiling: float) -> str:
    """A loss; one of a start is several times what was recorded."""
    if ceiling < 1:
        return f"a loss of {formatting.percent(ceiling)}"
    return f"{1 + ceiling:.1f} times the recorded time"


def format_losses(losses: DetectableLosses, kind: str, width: int) -> list[str]:
    """Lines: a table of the smallest loss that is detected in each metric."""
    grid = plan_table.table("metric", *WITH_LOSS, *WITHOUT_LOSS)
    for metric, by_state in sorted(losses.items()):
        cells = []
        for state in WITH_LOSS:
            cell = _loss_cell(by_state.get(state, ()))
            if width < plan_table.LINE_WIDTH:
                # A number stays with its unit.
                cell = cell.replace(": ", ":\n").replace(" to ", "\nto ")
            cells.append(cell)
        for state in WITHOUT_LOSS:
            count = len(by_state.get(state, ()))
            cells.append(_count_cell(count))
        grid.add_row(metric, *cells)
    return [
        f"Losses that {DECISION_LAUNCHES} launches on {kind} detect, by the state of "
        "the baseline:",
        plan_table.rendered(grid, width),
    ]


def _loss_cell(losses: Sequence[float]) -> str:
    """The cases and their losses: "3 cases: 2.0 % or more"."""
    if not losses:
        return "-"
    low = formatting.percent(min(losses))
    high = formatting.percent(max(losses))
    count = _count_cell(len(losses))
    if low == high:
        return f"{count}: {low} or more"
    return f"{count}: {low} to {high}"


def _count_cell(count: int) -> str:
    if not count:
        return "-"
    return formatting.count(count, "case")
