"""Order and message: what the driver of a fleet asks of a host, and what comes back.

Both travel as JSON, so that a host and a driver of two versions refuse each other in
words.
"""

from __future__ import annotations

import msgspec

from perfgate.fleet.tagged import Tagged


class Check(Tagged, frozen=True, kw_only=True):
    """List the units that these arguments select, as that host sees them.

    Attributes:
        arguments: of pytest. project: the folder to run it in, on each host.
    """

    arguments: tuple[str, ...]
    project: str


class Measure(Tagged, frozen=True, kw_only=True):
    """Measure one unit in a session of its own, or go on with it.

    Attributes:
        arguments, project: as of `Check`.
        fleet: id of the fleet's run. task: the launch, "u02-l001".
        unit: what is measured.
        limit_s: after which the session is ended, and the launch lost.
    """

    arguments: tuple[str, ...]
    project: str
    fleet: str
    task: str
    unit: str
    limit_s: float


class Sweep(Tagged, frozen=True, kw_only=True):
    """Remove what the driver has, and name what it does not have.

    Attributes:
        delivered: tasks of which the driver has everything that this host measured.
        elsewhere: tasks that another host measured; what is here of them is removed,
            unless it is whole.
    """

    fleet: str
    delivered: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()


Order = Check | Measure | Sweep


class Piece(Tagged, frozen=True, kw_only=True):
    """A part of a file that has grown on the host.

    Attributes:
        path: relative to the run directory.
        offset: where it begins; 0 replaces the whole file.
    """

    path: str
    offset: int
    content: bytes


class Gone(Tagged, frozen=True, kw_only=True):
    """A file that is no longer there."""

    path: str


class Said(Tagged, frozen=True, kw_only=True):
    """The newest line of the session's progress."""

    line: str


class Listed(Tagged, frozen=True, kw_only=True):
    """The answer to a `Check`: a list of units as `perfgate.run.units` writes it."""

    content: bytes


class Kept(Tagged, frozen=True, kw_only=True):
    """The answer to a `Sweep`: tasks that this host measured whole, too, with folders."""

    folders: dict[str, str]


class Ended(Tagged, frozen=True, kw_only=True):
    """How the session, or the check, ended; the last message.

    Attributes:
        status: of pytest; negative for a signal.
        reason: why there is no result, with the last lines of the log; "" where there
            is one.
    """

    status: int
    reason: str = ""


Message = Piece | Gone | Said | Listed | Kept | Ended


def encode(value: Order | Message) -> bytes:
    """The value as JSON."""
    return msgspec.json.encode(value)


def order_of(content: bytes) -> Order:
    """The order of its JSON.

    Raises:
        msgspec.DecodeError: it is of another version.
    """
    order: Order = msgspec.json.decode(content, type=Order)
    return order


def message_of(content: bytes) -> Message:
    """The message of its JSON.

    Raises:
        msgspec.DecodeError: it is of another version.
    """
    message: Message = msgspec.json.decode(content, type=Message)
    return message
