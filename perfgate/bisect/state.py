"""State of a bisection: bisect.json, the pairs measured so far; written after each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from perfgate.errors import NOT_JSON, Failure
from perfgate.files import read_bounded, write_atomically
from perfgate.judge.noise import loss_of

STATE_FILE = "bisect.json"
PairOutcome = Literal["measured", "invalid", "failed"]
"""Measured; launched without a value that counts; not built or not started."""


class BadBisection(Failure):
    """A bisection that cannot begin, go on or end; names the option or the file."""


class Row(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One case of a session of pairs.

    Attributes:
        values: (reference, build) of each pair of launches.
        higher: whether a higher value is better.
        cv: launch-to-launch variation that is expected of the metric.
        degrees_of_freedom: with which that is known.
        floor: smallest loss that counts, in the metric's unit; 0 for any.
    """

    values: tuple[tuple[float, float], ...]
    unit: str
    higher: bool
    cv: float
    degrees_of_freedom: float
    floor: float = 0.0

    @property
    def losses(self) -> list[float]:
        """The loss of the build within each pair, as a logarithm."""
        return [
            loss_of(build, reference, self.higher)
            for reference, build in self.values
        ]


class Session(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One session of pairs: a build compared with a reference.

    Attributes:
        run: the run directory, in the bisection's folder; "" if there was no run.
        seconds: what it took, without making the build.
        reason: why nothing of it counts.
        confirms: whether it compared the last good build with the first bad one.
        rows: by id of the case.
    """

    reference: str
    build: str
    run: str
    outcome: PairOutcome
    seconds: float = 0.0
    reason: str = ""
    confirms: bool = False
    rows: dict[str, Row] = {}


class Question(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What a bisection asks; to go on it must be asked again.

    Attributes:
        builds: names of all builds, the good one first, the bad one last.
        arguments: of pytest: what is served, and which tests measure it.
    """

    engine: str
    builds: tuple[str, ...]
    arguments: tuple[str, ...]


class State(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Everything that a bisection has done."""

    schema: Literal[1] = 1
    question: Question
    sessions: tuple[Session, ...] = ()


def opened(folder: Path, question: Question) -> State:
    """The state in a folder, or a new one where there is none.

    Raises:
        BadBisection: the folder holds the state of another question, or one that cannot
            be read.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return State(question=question)
    state = read(path)
    for name in ("engine", "builds", "arguments"):
        before, now = getattr(state.question, name), getattr(question, name)
        if before != now:
            raise BadBisection(
                tried=f"going on with the bisection in {path}",
                seen=f"its {name} were {_shown(before)}, now they are {_shown(now)}",
                remedy="give the same arguments, or name another folder with --folder",
            )
    return state


def _shown(value: str | tuple[str, ...]) -> str:
    if isinstance(value, str):
        return value
    return " ".join(value) or "(none)"


def read(path: Path) -> State:
    """The state in a file.

    Raises:
        BadBisection: it cannot be read; the field is named.
    """
    try:
        return msgspec.json.decode(read_bounded(path), type=State)
    except (OSError, *NOT_JSON) as error:
        raise BadBisection(
            tried=f"reading the bisection in {path}",
            seen=str(error),
            remedy="restore the file, or begin anew: name another folder with --folder",
        ) from error


def save(folder: Path, state: State) -> None:
    """Write the state whole."""
    folder.mkdir(parents=True, exist_ok=True)
    content = msgspec.json.encode(state, order="deterministic")
    write_atomically(
        folder / STATE_FILE, msgspec.json.format(content, indent=1)
    )
