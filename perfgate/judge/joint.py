"""Rows together: all rows of a server, and of a session, judged together.

Twelve losses of 5 % below thresholds of 6 % are beyond doubt together. A shift is the
mean loss of a server's loads, an outlier one row far from the other loads. Both are
contrasts (`perfgate.judge.contrast`), so their noise is measured on recorded launches.

A loss is a regression where it exceeds Student's t at 1 - FALSE_ALARMS times its
standard error, and the smallest loss that counts. Of several servers the shifts are
averaged, weighted by their inverse variance. They are not independent: launches of one
session share a part of their variance (`perfgate.judge.sessions.MACHINE_SHARE`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from perfgate import formatting
from perfgate.judge import wording
from perfgate.judge.baseline_store import Store
from perfgate.judge.contrast import Kind
from perfgate.judge.joint_rows import (
    Effect,
    JointRow,
    JointServer,
    by_kind,
    servers_of,
)
from perfgate.judge.noise import fraction_of
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.results.group_verdict import GroupVerdict

# In a run of unchanged code: for each kind the shift of a server, that of the session,
# and the outliers of a server (Bonferroni over its rows).
FALSE_ALARMS = 1e-4
# A driver or clocks change single values by 2 % (`policy.GPU_RATE`). The mean of a
# GPU's loads varies by 0.2 to 0.8 % from launch to launch, so half of that counts.
SMALLEST_SHIFT = math.log1p(0.01)
SMALLEST_OUTLIER = math.log1p(0.02)
_Outlier = tuple[JointRow, Effect, float]  # the last is its threshold (log)


def check(
    reader: RunReader, verdicts: Sequence[Verdict], store: Store
) -> Iterator[GroupVerdict]:
    """What servers lost by all of their rows, the session by its servers, single rows."""
    for kind, servers in by_kind(servers_of(reader, verdicts, store)).items():
        shifts: dict[str, Effect] = {}
        red: list[GroupVerdict] = []
        for server in servers:
            effect = server.shift()
            if effect is None:
                continue
            shifts[server.server] = effect
            if is_shift(effect):
                red.append(_of_server(server, effect))
        if not red:
            yield from _of_session(kind, shifts)
        yield from red
        for server in servers:
            yield from _outliers(server)


def is_shift(effect: Effect) -> bool:
    """Whether the loads lost together, and not one load alone."""
    if effect.loss <= effect.threshold(FALSE_ALARMS, SMALLEST_SHIFT):
        return False
    return effect.without_worst_load() > SMALLEST_SHIFT


def combined(effects: Sequence[Effect]) -> Effect:
    """The mean of several servers' shifts, weighted by inverse variance.

    Correlated by the variance that launches of a session share. The degrees of freedom
    are those of Welch and Satterthwaite, at most the largest of the servers': all of
    them know their noise from the same table.
    """
    precisions = [1 / effect.error**2 for effect in effects]
    total = math.fsum(precisions)
    shared = max(effect.shared for effect in effects)
    rows: list[JointRow] = []
    losses = []
    errors = []
    for precision, effect in zip(precisions, effects, strict=True):
        weight = precision / total
        rows += effect.rows
        losses.append(weight * effect.loss)
        errors.append(weight * effect.error)
    variances = _variances(errors, shared)
    error = math.sqrt(math.fsum(variances))
    return Effect(
        rows=tuple(rows),
        loss=math.fsum(losses),
        error=error,
        degrees_of_freedom=_degrees_of_freedom(effects, variances),
        noise=error,
        shared=shared,
        sessions=min(effect.sessions for effect in effects),
    )


def _variances(errors: Sequence[float], shared: float) -> list[float]:
    """Each server's part of the variance of their sum.

    Args:
        errors: standard error of each server's part of the sum.
        shared: of the variance of a launch, what all servers of a session share.
    """
    together = math.fsum(errors)
    variances = []
    for error in errors:
        variances.append((1 - shared) * error**2 + shared * error * together)
    return variances


def _degrees_of_freedom(
    effects: Sequence[Effect], variances: Sequence[float]
) -> float:
    """Of a sum, by Welch and Satterthwaite; at most the largest of its parts."""
    squares = []
    for variance, effect in zip(variances, effects, strict=True):
        squares.append(variance**2 / effect.degrees_of_freedom)
    freedom = math.fsum(variances) ** 2 / math.fsum(squares)
    largest = max(effect.degrees_of_freedom for effect in effects)
    return min(freedom, largest)


def _of_server(server: JointServer, effect: Effect) -> GroupVerdict:
    numbers = _numbers(effect, server.kind)
    details = [_range(effect, server.kind), _basis(effect), _rate()]
    return GroupVerdict(
        scope="server",
        subject=server.server,
        check="shift",
        outcome=Outcome.REGRESSED,
        gate="hard",
        worse_by=numbers["loss"],
        threshold=numbers["threshold"],
        false_alarm_rate=FALSE_ALARMS,
        cases=tuple(row.case for row in effect.rows),
        summary=_summary(server.kind, _loads(server, effect), numbers),
        details=(*details, *_causes(effect.rows)),
        advice=wording.LOOK_AT_SHARED,
    )


def _loads(server: JointServer, effect: Effect) -> str:
    """How many of the server's loads it speaks of."""
    if effect.loads < len(server.loads):
        return f"{effect.loads} of {len(server.loads)} loads"
    if effect.loads == 2:
        return "both loads"
    return f"all {effect.loads} loads"


def _of_session(
    kind: Kind, shifts: dict[str, Effect]
) -> Iterator[GroupVerdict]:
    """The verdict where the servers lost together; each of them hides it."""
    if len(shifts) < 2:
        return
    effects = list(shifts.values())
    effect = combined(effects)
    losing = [one for one in effects if one.loss > SMALLEST_SHIFT]
    is_red = effect.loss > effect.threshold(FALSE_ALARMS, SMALLEST_SHIFT)
    if not is_red or len(losing) < 2:
        return
    numbers = _numbers(effect, kind)
    servers = formatting.count(len(shifts), "server")
    yield GroupVerdict(
        scope="run",
        check="shift",
        outcome=Outcome.REGRESSED,
        gate="hard",
        worse_by=numbers["loss"],
        threshold=numbers["threshold"],
        false_alarm_rate=FALSE_ALARMS,
        cases=tuple(row.case for row in effect.rows),
        summary=_summary(kind, servers, numbers),
        details=(
            *_servers(kind, shifts),
            wording.SHIFT_SHARED.format(
                shared=formatting.percent(effect.shared)
            ),
            _rate(),
            *_causes(effect.rows),
        ),
        advice=wording.LOOK_AT_SHARED,
    )


def _outliers(server: JointServer) -> Iterator[GroupVerdict]:
    """A verdict for each load with rows far from the other loads: on its worst row."""
    false_alarms = FALSE_ALARMS / max(1, len(server.rows))
    by_load: dict[str, list[_Outlier]] = defaultdict(list)
    for row, effect in server.outliers(SMALLEST_OUTLIER):
        threshold = effect.threshold(false_alarms, SMALLEST_OUTLIER)
        if effect.loss > threshold and not row.is_red:
            by_load[row.load].append((row, effect, threshold))
    for found in by_load.values():
        cases = tuple(row.case for row, _, _ in found)
        row, effect, threshold = max(found, key=_beyond)
        yield _of_row(server, row, effect, threshold, cases)


def _beyond(found: _Outlier) -> float:
    """How far a row lies beyond its threshold (log)."""
    _, effect, threshold = found
    return effect.loss - threshold


def _of_row(
    server: JointServer,
    row: JointRow,
    effect: Effect,
    threshold: float,
    cases: tuple[str, ...],
) -> GroupVerdict:
    higher = row.baseline.metric.better == "higher"
    distance = fraction_of(effect.loss, higher)
    limit = fraction_of(threshold, higher)
    summary = wording.OUTLIER.format(
        metric=row.metric,
        loss=formatting.percent(fraction_of(row.loss, higher)),
        distance=formatting.percent(distance),
        loads=formatting.count(effect.loads - 1, "load"),
        threshold=formatting.percent(limit),
    )
    basis = wording.OUTLIER_BY.format(
        sessions=formatting.count(effect.sessions, "session"),
        noise=formatting.percent(effect.noise),
    )
    return GroupVerdict(
        scope="load",
        subject=f"{server.server}, {row.load}",
        check="outlier",
        outcome=Outcome.REGRESSED,
        gate="hard",
        worse_by=distance,
        threshold=limit,
        false_alarm_rate=FALSE_ALARMS,
        cases=cases,
        summary=summary,
        details=(basis, _rate(), *_causes([row])),
        advice=wording.LOOK_AT_LOAD.format(case=row.case),
    )


def _numbers(effect: Effect, kind: Kind) -> dict[str, float]:
    """Loss and threshold as fractions."""
    higher = kind == "throughput"
    threshold = effect.threshold(FALSE_ALARMS, SMALLEST_SHIFT)
    return {
        "loss": fraction_of(effect.loss, higher),
        "threshold": fraction_of(threshold, higher),
    }


def _summary(kind: Kind, loads: str, numbers: dict[str, float]) -> str:
    return wording.SHIFT_OF[kind].format(
        loads=loads,
        loss=formatting.percent(numbers["loss"]),
        threshold=formatting.percent(numbers["threshold"]),
    )


def _range(effect: Effect, kind: Kind) -> str:
    """The smallest and the largest loss of the rows, and how many fail by themselves."""
    higher = kind == "throughput"
    losses = [fraction_of(row.loss, higher) for row in effect.rows]
    red = [row for row in effect.rows if row.is_red]
    return wording.SHIFT_RANGE.format(
        smallest=_signed(min(losses)),
        largest=_signed(max(losses)),
        red=len(red),
        rows=len(effect.rows),
    )


def _signed(loss: float) -> str:
    """A loss; a gain has a minus sign."""
    text = formatting.percent(loss)
    if loss < 0:
        return f"-{text}"
    return text


def _basis(effect: Effect) -> str:
    """By what the noise is known."""
    noise = formatting.percent(effect.noise)
    if not effect.sessions:
        return wording.SHIFT_BY_ROWS.format(noise=noise)
    sessions = formatting.count(effect.sessions, "session")
    return wording.SHIFT_BY_SESSIONS.format(sessions=sessions, noise=noise)


def _rate() -> str:
    return wording.JOINT_RATE.format(runs=f"{1 / FALSE_ALARMS:,.0f}")


def _servers(kind: Kind, shifts: dict[str, Effect]) -> Iterator[str]:
    """The loss of each server with its threshold."""
    for server, effect in shifts.items():
        numbers = _numbers(effect, kind)
        yield wording.SHIFT_SERVER.format(
            server=server,
            loss=_signed(numbers["loss"]),
            threshold=formatting.percent(numbers["threshold"]),
        )


def _causes(rows: Iterable[JointRow]) -> list[str]:
    """What the rows name as a cause."""
    causes = dict.fromkeys(row.cause for row in rows if row.cause)
    if not causes:
        return []
    text = formatting.listed(list(causes))
    return [wording.JOINT_CAUSE.format(causes=text)]
