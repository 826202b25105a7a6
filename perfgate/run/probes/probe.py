"""Probe: reads memory, energy or clocks of one launch, and returns figures.

A probe writes nothing. The launch runner puts its figures into the repetition or into
the launch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from perfgate.load.repetition import Repetition
from perfgate.machine.telemetry import GpuSummary


@dataclass(frozen=True)
class Figures:
    """What a probe read.

    Attributes:
        values: metric name -> value.
        notes: what could not be read, and why.
        invalid: reasons why a repetition may not be judged.
        gpus: what each GPU did during a repetition.
        client_values: what else the repetition says of the client and its machine.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    gpus: tuple[GpuSummary, ...] = ()
    client_values: Mapping[str, float] = field(default_factory=dict)


NOTHING = Figures()


class Probe(Protocol):
    """Reads a server while it is measured; one object for each launch.

    The order of calls: `start`, then `before` and `after` around each repetition,
    `finish` if the server is healthy at the end, and `stop` whatever happened. A launch
    that is sent more load later starts its probes again.
    """

    def start(self) -> Figures:
        """Begin, before the warm-up; returns notes for the launch."""

    def before(self) -> None:
        """A repetition begins."""

    def after(self, repetition: Repetition) -> Figures:
        """A repetition has ended; returns figures of it."""

    def finish(self, is_part: bool) -> Figures:
        """The load has ended; returns figures of the launch.

        Args:
            is_part: whether the server was sent a part of its load only.
        """

    def stop(self) -> None:
        """End reading; does nothing if it was not started."""


def with_figures(
    repetition: Repetition, figures: Iterable[Figures]
) -> Repetition:
    """The repetition with everything that probes read of it."""
    values = dict(repetition.values)
    client_values = dict(repetition.client_values)
    invalid = repetition.invalid
    notes = repetition.notes
    gpus = repetition.gpus
    for part in figures:
        values |= part.values
        client_values |= part.client_values
        invalid += part.invalid
        notes += part.notes
        gpus += part.gpus
    return msgspec.structs.replace(
        repetition,
        values=values,
        client_values=client_values,
        invalid=invalid,
        notes=notes,
        gpus=gpus,
    )
