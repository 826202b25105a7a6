"""Baseline files: the schema of recorded and of published baselines, read and written as JSON.

The value of every launch is kept, not a mean: what can be detected follows from the
launch-to-launch variation and is computed anew at each judgement. Published figures
have a tolerance instead of launches. A file that is not exactly of this form is an
error that names the file and the field: a gate that reads half a baseline is worse than
none.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from perfgate.cases import GateMode
from perfgate.errors import NOT_JSON, Failure
from perfgate.files import RepeatedKey, read_bounded, refuse_repeated_keys
from perfgate.judge import baseline_upgrade
from perfgate.load.workload import Arrivals
from perfgate.models.routing import LayerShares, RoutingUnreadable
from perfgate.models.routing_requests import decode
from perfgate.results.samples import Sample

SCHEMA: Final = 3
# Significant digits of a stored value: a hundredth of the smallest noise measured on a
# GPU.
DIGITS = 6
# Of what is measured here; squares of the differences of its logarithms stay numbers.
SMALLEST = 1e-30

# As it stands in a file -> the schema.
_OLDER = {str(n): n for n in range(baseline_upgrade.OLDEST, SCHEMA)}

Better = Literal["higher", "lower"]
FileType = TypeVar("FileType", "BaselineFile", "PublishedFile")


class BaselineError(Failure):
    """A baseline file that cannot be read; the message names the file and the field."""


class Known(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """A regression that a person accepted until a day.

    Attributes:
        until: last day, ISO ("2026-12-31").
        worse_by: fraction by which the metric was worse when that was accepted; a
            greater loss still fails the run.
        change: by which fraction the value had changed by then, with its sign: a change
            in the other direction is another regression.

    """

    until: str
    reason: str
    worse_by: float
    change: float | None = None

    def is_over(self, today: datetime.date | None = None) -> bool:
        """Whether its last day has passed; None asks the clock."""
        day = today or datetime.date.today()
        return day > datetime.date.fromisoformat(self.until)

    def is_other_way(self, rises: bool) -> bool:
        """Whether a value that is larger now, or smaller, changed in the other direction."""
        return self.change is not None and rises != (self.change > 0)


class MetricBaseline(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """One metric's recorded launches and the loss that the gate must catch.

    Attributes:
        definition: how the value was computed when it was recorded; another definition
            is not comparable.
        target_effect: the relative loss that the gate must catch, where a person chose
            it; None: what the noise permits at each judgement.
        floor: a loss smaller than this, in `unit`, never is a regression.
        launches: each with a value, and without reasons why it would not count.
        reason: why the target effect is larger than the policy allows, or why the
            metric is reported only.
        anchor: the value when launches were last accepted as a beginning or for a
            reason; None: that of the launches. Small losses that join one after the
            other are compared with it.
        anchors: machine -> the same of its own launches, where the machine is known.

    """

    unit: str
    better: Better
    definition: str
    gate: GateMode
    floor: float
    launches: tuple[Sample, ...]
    target_effect: float | None = None
    reason: str | None = None
    known: Known | None = None
    anchor: float | None = None
    anchors: dict[str, float] = {}

    @property
    def runs(self) -> int:
        """Sessions that the launches come from."""
        return len({sample.run for sample in self.launches})


class Provenance(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """Where some of the launches come from, and why they were accepted.

    Attributes:
        reason: what a person gave as one, needed or not.
        excused: metrics that would have been refused without it; None in files of
            older versions: all of them.
        machine: which one of its kind they ran on, as far as it is known.
    """

    run: str
    accepted: str
    suite_version: str
    metrics: tuple[str, ...]
    reason: str | None = None
    excused: tuple[str, ...] | None = None
    machine: str | None = None

    def excuses(self, metric: str) -> bool:
        """Whether launches of the metric were accepted for the reason."""
        if not self.reason or metric not in self.metrics:
            return False
        return self.excused is None or metric in self.excused


class BaselineFile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Recorded metrics of one server under one workload on one kind of hardware.

    Of a ratio, of a pair of servers or of workloads.

    Attributes:
        arrivals: how requests arrive, of a ratio those of its numerator; None for a
            server without load, and in files of older versions.
        identity: what a person fixed; equal, or nothing is compared.
        chosen: what the engine chose by itself in the newest accepted run. A change is
            named as the cause of a verdict.
        context: what may differ, and is printed.
    """

    schema: Literal[3] = SCHEMA
    identity: dict[str, str]
    chosen: dict[str, str] = {}
    context: dict[str, str]
    provenance: tuple[Provenance, ...]
    metrics: dict[str, MetricBaseline]
    arrivals: Arrivals | None = None

    @property
    def machines(self) -> dict[str, str]:
        """Run -> which one of its kind it was on, as far as it is known."""
        machines = {}
        for entry in self.provenance:
            if entry.machine:
                machines[entry.run] = entry.machine
        return machines


class PublishedFigure(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One figure from elsewhere.

    Attributes:
        date: ISO day of the measurement, None where the source gives none.
        tolerance: relative; wide, because the load was similar to ours and not the
            same.
        holds: False where the figure contradicts arithmetic or measurement: it is then
            shown for comparison and judges nothing.
        note: what is known about it.

    """

    value: float
    unit: str
    better: Better
    tolerance: float
    source: str
    date: str | None
    holds: bool
    note: str


class PublishedFile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Published figures; identity names only the fields that the source states."""

    schema: Literal[3] = SCHEMA
    identity: dict[str, str]
    metrics: dict[str, PublishedFigure]


def stored_sample(sample: Sample, with_shares: bool) -> Sample:
    """A sample with a value as a baseline keeps it: without reasons of invalid repetitions."""
    shares = sample.shares if with_shares else None
    return msgspec.structs.replace(sample, invalid=(), shares=shares)


def read_recorded(path: Path) -> BaselineFile:
    """Parse a recorded file, of this schema or of an older one.

    Raises:
        BaselineError: not JSON, an unknown schema, a field missing, unknown, of the
            wrong type or out of its range.

    """
    file, check = _decode(path, BaselineFile)
    for name, metric in file.metrics.items():
        _check_metric(check, f"metrics.{name}", metric)
    return file


def read_published(path: Path) -> PublishedFile:
    """Parse a file of published figures; raises as `read_recorded` does."""
    file, check = _decode(path, PublishedFile)
    for name, figure in file.metrics.items():
        is_fraction = 0 < figure.tolerance < 1
        check.require(
            f"metrics.{name}.value", _positive(figure.value), figure.value
        )
        check.require(
            f"metrics.{name}.tolerance", is_fraction, figure.tolerance
        )
    return file


def to_text(file: BaselineFile | PublishedFile) -> str:
    """JSON with sorted keys and one line for each launch: one more launch changes few lines.

    Recorded values are rounded; published ones stay as their source has them.
    """
    tree = msgspec.to_builtins(file, order="deterministic")
    if isinstance(file, BaselineFile):
        tree = _rounded(tree)
    return _lay_out(tree, 0) + "\n"


class _Check:
    """Raises for a value that is out of its range, by the field name that stands in the file."""

    def __init__(self, path: Path, has_old_names: bool) -> None:
        self._path = path
        self._has_old_names = has_old_names

    def require(self, field: str, is_good: bool, value: object) -> None:
        if not is_good:
            raise self.wrong(field, f"is {value!r}, which is out of its range")

    def wrong(self, field: str, problem: str) -> BaselineError:
        if self._has_old_names:
            field = baseline_upgrade.old_names(f".{field}")[1:]
            problem = baseline_upgrade.old_names(problem)
        return BaselineError(
            tried=f"reading the baseline {self._path}",
            seen=f"{field}: {problem}",
            remedy=f"correct {field} in that file, or restore the file from version "
            "control; `perfgate accept` writes files that can be read",
        )


def _check_metric(check: _Check, field: str, metric: MetricBaseline) -> None:
    if not metric.launches:
        raise check.wrong(f"{field}.launches", "is empty")
    for number, sample in enumerate(metric.launches):
        _check_sample(check, f"{field}.launches[{number}]", sample)
    limit = 1 if metric.better == "higher" else math.inf
    effect, floor = metric.target_effect, metric.floor
    is_possible = effect is None or 0 < effect < limit
    check.require(f"{field}.target_effect", is_possible, effect)
    check.require(f"{field}.floor", math.isfinite(floor) and floor >= 0, floor)
    if metric.known is not None:
        _check_known(check, f"{field}.known", metric.known, limit)
    if metric.anchor is not None:
        check.require(
            f"{field}.anchor", _positive(metric.anchor), metric.anchor
        )
    for machine, anchor in metric.anchors.items():
        name = f"{field}.anchors.{machine}"
        check.require(name, _positive(anchor), anchor)


def _check_sample(check: _Check, field: str, sample: Sample) -> None:
    has_value = sample.value is not None and _positive(sample.value)
    check.require(f"{field}.value", has_value, sample.value)
    for name in ("numerator", "denominator"):
        value = getattr(sample, name)
        check.require(
            f"{field}.{name}", value is None or _positive(value), value
        )
    check.require(f"{field}.invalid", not sample.invalid, sample.invalid)
    check.require(f"{field}.shares", _complete(sample.shares), sample.shares)
    for number, answer in enumerate(sample.answers):
        name = f"{field}.answers[{number}]"
        check.require(name, answer.is_whole, answer)
    if sample.shares is not None and sample.shares.requests is not None:
        try:
            decode(sample.shares)
        except RoutingUnreadable as failure:
            raise check.wrong(
                f"{field}.shares.requests", failure.seen
            ) from failure


def _check_known(check: _Check, field: str, known: Known, limit: float) -> None:
    check.require(f"{field}.until", _is_day(known.until), known.until)
    check.require(f"{field}.reason", bool(known.reason.strip()), known.reason)
    check.require(
        f"{field}.worse_by", 0 < known.worse_by < limit, known.worse_by
    )


def _decode(path: Path, kind: type[FileType]) -> tuple[FileType, _Check]:
    try:
        raw = read_bounded(path)
    except OSError as error:
        raise BaselineError(
            tried=f"reading the baseline {path}",
            seen=f"{type(error).__name__}: {error}",
            remedy="make the file readable, or restore it from version control",
        ) from error
    check = _Check(path, has_old_names=False)
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        schema = bytes(fields.get("schema", b"")).decode().strip()
        refuse_repeated_keys(raw)
        if schema in ("", str(SCHEMA)):
            return msgspec.json.decode(raw, type=kind), check
        if schema not in _OLDER:
            readable = f"{baseline_upgrade.OLDEST} to {SCHEMA}"
            raise check.wrong(
                "schema", f"is {schema}, this suite reads {readable}"
            )
        check = _Check(path, has_old_names=_OLDER[schema] == 1)
        tree = _upgraded(msgspec.json.decode(raw), kind)
        return msgspec.convert(tree, kind), check
    except msgspec.ValidationError as error:
        raise _invalid(raw, kind, check, error) from error
    except RepeatedKey as error:
        field, _, problem = str(error).partition(": ")
        raise check.wrong(field, problem) from error
    except NOT_JSON as error:
        raise check.wrong(
            "the file as a whole", f"is not JSON ({error})"
        ) from error


def _upgraded(tree: Any, kind: type[BaselineFile] | type[PublishedFile]) -> Any:
    """The tree in this schema, from whichever it is of."""
    schema = tree.get("schema", SCHEMA)
    if schema == SCHEMA:
        return tree
    is_recorded = kind is BaselineFile
    return baseline_upgrade.upgraded(tree, schema, is_recorded)


def _invalid(
    raw: bytes,
    kind: type[BaselineFile] | type[PublishedFile],
    check: _Check,
    error: msgspec.ValidationError,
) -> BaselineError:
    """The decoder's error, with the name of the metric that it leaves out."""
    problem, _, path = str(error).partition(" - at `$")
    field = path.strip("`.") or "the top level"
    unnamed = "metrics[...]"
    if field.startswith(unnamed):
        field = f"metrics.{_culprit(raw, kind)}{field.removeprefix(unnamed)}"
    return check.wrong(field, problem)


def _culprit(raw: bytes, kind: type[BaselineFile] | type[PublishedFile]) -> str:
    """Name of the first metric that cannot be read; the decoder says only that one could not."""
    metric = MetricBaseline if kind is BaselineFile else PublishedFigure
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        values = msgspec.json.decode(
            fields["metrics"], type=dict[str, msgspec.Raw]
        )
        schema = bytes(fields.get("schema", b"")).decode().strip()
        if schema in _OLDER:
            tree = _upgraded(msgspec.json.decode(raw), kind)["metrics"]
            values = {
                name: msgspec.Raw(msgspec.json.encode(value))
                for name, value in tree.items()
            }
    except (msgspec.MsgspecError, KeyError, TypeError):
        return "?"
    for name, value in values.items():
        try:
            msgspec.json.decode(value, type=metric)
        except msgspec.ValidationError:
            return name
    return "?"


def _complete(shares: LayerShares | None) -> bool:
    """Layers of as many experts each, every layer with choices and a noise."""
    if shares is None:
        return True
    widths = {len(row) for row in shares.counts}
    if len(widths) != 1 or len(shares.noise) != len(shares.counts):
        return False
    return all(sum(row) > 0 for row in shares.counts)


def _positive(value: float) -> bool:
    return SMALLEST < value < 1 / SMALLEST


def _is_day(text: str) -> bool:
    try:
        return bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def _lay_out(value: Any, depth: int) -> str:
    """Indented JSON in which an item of a list takes one line."""
    pad = " " * (depth + 1)
    if isinstance(value, dict) and value:
        rows = []
        for key, item in sorted(value.items()):
            rows.append(f"{pad}{json.dumps(key)}: {_lay_out(item, depth + 1)}")
        return _block("{}", rows, depth)
    if isinstance(value, list) and value:
        rows = [pad + json.dumps(item, ensure_ascii=False) for item in value]
        return _block("[]", rows, depth)
    return json.dumps(value, ensure_ascii=False)


def _block(brackets: str, rows: Iterable[str], depth: int) -> str:
    body = ",\n".join(rows)
    return f"{brackets[0]}\n{body}\n{' ' * depth}{brackets[1]}"
