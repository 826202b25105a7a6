"""How is a baseline written down?

Every launch's value is kept, not a mean: what can be detected follows from the spread
of the launches and is computed anew at each judgement. Published figures have a
tolerance instead of launches. A file that is not exactly of this form is an error that
names the file and the field: a gate that reads a baseline half is worse than none.
"""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from perfgate.cases import GateMode
from perfgate.errors import Failure
from perfgate.models.routing import LayerShares

SCHEMA: Final = 1
# significant digits of a stored value: a hundredth of the smallest noise measured on a
# GPU
DIGITS = 6

Better = Literal["higher", "lower"]
# of what is measured here; squares of its logarithm's differences stay numbers
SMALLEST = 1e-30
FileType = TypeVar("FileType", "BaselineFile", "PublishedFile")


class BaselineError(Failure):
    """A baseline file that cannot be read; the message names the file and the field."""


class LaunchPoint(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """What one launch of one run measured; for a ratio its two sides as well, for routing each layer's shares."""

    run: str
    launch: int
    value: float
    of: float | None = None
    over: float | None = None
    shares: LayerShares | None = None


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
            greater loss stays red.
        change: what the value had changed by then, with its sign: a move the other way
            is another one.

    """

    until: str
    reason: str
    worse_by: float
    change: float | None = None


class MetricBaseline(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """One metric's recorded launches and what is promised about it.

    Attributes:
        definition: how the value was computed when it was recorded; another definition
            is not comparable.
        delta: the relative loss that the gate promises to catch.
        floor: a loss smaller than this, in `unit`, never is a regression.
        reason: why delta is wider than the policy allows, or why the metric is reported
            only.
        anchor: the value when launches were last taken over as a beginning or for a
            reason; None: that of the launches. Small losses that join one after the
            other are held against it.

    """

    unit: str
    better: Better
    definition: str
    gate: GateMode
    delta: float
    floor: float
    launches: tuple[LaunchPoint, ...]
    reason: str | None = None
    known: Known | None = None
    anchor: float | None = None

    @property
    def runs(self) -> int:
        """Sessions that the launches come from."""
        return len({point.run for point in self.launches})


class Provenance(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """Where some of the launches come from, and why they were accepted.

    Attributes:
        machine: which one of its kind they ran on, as far as it is known.
    """

    run: str
    accepted: str
    suite_version: str
    metrics: tuple[str, ...]
    reason: str | None = None
    machine: str | None = None


class BaselineFile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The recorded metrics of one server (or pair) under one workload (or pair) on one kind of hardware."""

    schema: Literal[1] = SCHEMA
    identity: dict[str, str]
    context: dict[str, str]
    provenance: tuple[Provenance, ...]
    metrics: dict[str, MetricBaseline]

    @property
    def machines(self) -> dict[str, str]:
        """Run -> which one of its kind it was on, as far as it is known."""
        return {entry.run: entry.machine for entry in self.provenance if entry.machine}


class PublishedFigure(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One figure from elsewhere.

    Attributes:
        date: ISO day of the measurement, None where the source gives none.
        tolerance: relative; wide, because the load was similar to ours and not the
            same.
        holds: False where the figure contradicts arithmetic or measurement: it is then
            shown beside ours, no guard.
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

    schema: Literal[1] = SCHEMA
    identity: dict[str, str]
    metrics: dict[str, PublishedFigure]


def read_recorded(path: Path) -> BaselineFile:
    """Parse a recorded file.

    Raises:
        BaselineError: not JSON, another schema, a field missing, unknown, of the wrong
            type or out of its range.

    """
    file = _decode(path, BaselineFile)
    for name, metric in file.metrics.items():
        at = f"metrics.{name}"
        if not metric.launches:
            raise _wrong(path, f"{at}.launches", "is empty")
        for index, point in enumerate(metric.launches):
            for field, value in (
                ("value", point.value),
                ("of", point.of),
                ("over", point.over),
            ):
                _require(
                    path,
                    f"{at}.launches[{index}].{field}",
                    value is None or _positive(value),
                    value,
                )
            _require(
                path,
                f"{at}.launches[{index}].shares",
                _sound(point.shares),
                point.shares,
            )
        most = 1 if metric.better == "higher" else math.inf
        _require(path, f"{at}.delta", 0 < metric.delta < most, metric.delta)
        _require(
            path,
            f"{at}.floor",
            math.isfinite(metric.floor) and metric.floor >= 0,
            metric.floor,
        )
        if metric.known is not None:
            known = metric.known
            _require(path, f"{at}.known.until", _is_day(known.until), known.until)
            _require(
                path, f"{at}.known.reason", bool(known.reason.strip()), known.reason
            )
            _require(
                path, f"{at}.known.worse_by", 0 < known.worse_by < most, known.worse_by
            )
        _require(
            path,
            f"{at}.anchor",
            metric.anchor is None or _positive(metric.anchor),
            metric.anchor,
        )
    return file


def read_published(path: Path) -> PublishedFile:
    """Parse a file of published figures; raises as `read_recorded` does."""
    file = _decode(path, PublishedFile)
    for name, figure in file.metrics.items():
        _require(path, f"metrics.{name}.value", _positive(figure.value), figure.value)
        _require(
            path,
            f"metrics.{name}.tolerance",
            0 < figure.tolerance < 1,
            figure.tolerance,
        )
    return file


def to_text(file: BaselineFile | PublishedFile) -> str:
    """JSON with sorted keys and one line for each launch: a recording changes few lines.

    Recorded values are rounded; published ones stay as their source has them.
    """
    tree = msgspec.to_builtins(file, order="deterministic")
    return (
        _lay_out(_rounded(tree) if isinstance(file, BaselineFile) else tree, 0) + "\n"
    )


def _decode(path: Path, kind: type[FileType]) -> FileType:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BaselineError(
            tried=f"reading the baseline {path}",
            seen=f"{type(error).__name__}: {error}",
            remedy="make the file readable, or take it back from version control",
        ) from error
    try:
        schema = msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).get("schema")
        if schema is not None and bytes(schema).strip() != str(SCHEMA).encode():
            raise _wrong(
                path,
                "schema",
                f"is {bytes(schema).decode()}, this suite reads {SCHEMA}",
            )
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        field = where.strip("`.") or "the top level"
        if field.startswith("metrics[...]"):
            field = f"metrics.{_culprit(raw, kind)}{field.removeprefix('metrics[...]')}"
        raise _wrong(path, field, message) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _wrong(path, "the file as a whole", f"is not JSON ({error})") from error


def _culprit(raw: bytes, kind: type[BaselineFile] | type[PublishedFile]) -> str:
    """Name of the first metric that cannot be read; the decoder says only that one could not."""
    metric = MetricBaseline if kind is BaselineFile else PublishedFigure
    for name, value in msgspec.json.decode(raw)["metrics"].items():
        try:
            msgspec.convert(value, metric)
        except msgspec.ValidationError:
            return str(name)
    return "?"


def _require(path: Path, field: str, good: bool, value: object) -> None:
    if not good:
        raise _wrong(path, field, f"is {value!r}, which is out of its range")


def _wrong(path: Path, field: str, what: str) -> BaselineError:
    return BaselineError(
        tried=f"reading the baseline {path}",
        seen=f"{field}: {what}",
        remedy=f"mend {field} in that file, or take the file back from version control; "
        "`perfgate accept` writes files that can be read",
    )


def _sound(found: LayerShares | None) -> bool:
    """Layers of as many experts each, every layer with choices and a noise."""
    if found is None:
        return True
    widths = {len(row) for row in found.counts}
    return (
        len(widths) == 1
        and len(found.noise) == len(found.counts)
        and all(sum(row) > 0 for row in found.counts)
    )


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
    return (
        [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
    )


def _lay_out(value: Any, depth: int) -> str:
    """Indented JSON in which an item of a list takes one line."""
    pad = " " * (depth + 1)
    if isinstance(value, dict) and value:
        rows = [
            f"{pad}{json.dumps(key)}: {_lay_out(item, depth + 1)}"
            for key, item in sorted(value.items())
        ]
        return "{\n" + ",\n".join(rows) + "\n" + " " * depth + "}"
    if isinstance(value, list) and value:
        return (
            "[\n"
            + ",\n".join(pad + json.dumps(item, ensure_ascii=False) for item in value)
            + "\n"
            + " " * depth
            + "]"
        )
    return json.dumps(value, ensure_ascii=False)
