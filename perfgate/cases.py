"""Case: one metric of one load, or a ratio of two.

A case is one question of the study: a metric of one load, or the ratio of that metric
between two loads of the same session. A load is a server under a workload, or (workload
None) the server itself: its memory, its start-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from perfgate.engines.base import ServerConfig
from perfgate.load.workload import Workload

GateMode = Literal["hard", "report"]


class Load(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A server and what is sent to it; workload None means the server itself."""

    server: ServerConfig
    workload: Workload | None = None

    @property
    def workload_name(self) -> str:
        """The workload's name, or "launch" for the server itself."""
        return "launch" if self.workload is None else self.workload.name

    @property
    def base(self) -> Load:
        """The same load on the base build of its server."""
        return msgspec.structs.replace(self, server=self.server.base)

    @property
    def asks_routing(self) -> bool:
        """Whether it is asked where its tokens go, and not timed: all that a server is for that is launched for it."""
        return bool(self.server.routing) or (
            self.workload is not None and self.workload.asks_routing
        )


def asking_routing(
    server: ServerConfig, workloads: Sequence[Workload]
) -> list[Workload]:
    """Those of a server's workloads that ask where its tokens go; the others are timed."""
    return [
        workload
        for workload in workloads
        if Load(server=server, workload=workload).asks_routing
    ]


class Case(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One thing that is judged.

    Attributes:
        experiment: the study's number, "E1" to "E11".
        metric: a name in `perfgate.load.metrics.METRICS`.
        numerator: the load whose value is judged.
        denominator: the load by whose value it is divided, if the case is a ratio.
        gate: "hard" cases turn a run red, "report" cases are shown beside their
            baseline and never do.
        two_sided: a move in either direction is a regression. True for ratios where
            absolute values are not judged (the CPU): which of the two moved cannot be
            told, so neither direction may pass.

    """

    experiment: str
    metric: str
    numerator: Load
    denominator: Load | None = None
    gate: GateMode = "hard"
    two_sided: bool = False

    @property
    def subject(self) -> str:
        """The server, or "A--over--B" where two servers are compared: a folder of the baseline store."""
        if (
            self.denominator is None
            or self.denominator.server == self.numerator.server
        ):
            return self.numerator.server.key
        return (
            f"{self.numerator.server.key}--over--{self.denominator.server.key}"
        )

    @property
    def workload(self) -> str:
        """The workload, or "A--over--B" where two workloads are compared: a file of the baseline store."""
        if (
            self.denominator is None
            or self.denominator.workload_name == self.numerator.workload_name
        ):
            return self.numerator.workload_name
        return f"{self.numerator.workload_name}--over--{self.denominator.workload_name}"

    @property
    def id(self) -> str:
        """Stable name for reports and the command line: "subject/workload/metric"."""
        return f"{self.subject}/{self.workload}/{self.metric}"

    @property
    def base(self) -> Case:
        """The same question, asked of the base build."""
        numerator = self.numerator.base
        if self.denominator is None:
            return msgspec.structs.replace(self, numerator=numerator)
        return msgspec.structs.replace(
            self, numerator=numerator, denominator=self.denominator.base
        )

    @property
    def loads(self) -> tuple[Load, ...]:
        """The loads that must be measured, the numerator first."""
        return (
            (self.numerator,)
            if self.denominator is None
            else (self.numerator, self.denominator)
        )


OVER = "--over--"


class CaseId(NamedTuple):
    """The parts of a case's id; a ratio of two servers, or workloads, names both."""

    servers: tuple[str, ...]
    workloads: tuple[str, ...]
    metric: str


def parse_id(case_id: str) -> CaseId:
    """The parts of "SERVER/WORKLOAD/METRIC", the inverse of `Case.id`."""
    subject, _, rest = case_id.partition("/")
    workload, _, metric = rest.rpartition("/")
    return CaseId(
        tuple(subject.split(OVER)), tuple(workload.split(OVER)), metric
    )


def is_ratio(case_id: str) -> bool:
    """Whether the case of this id is a ratio of two loads."""
    return OVER in case_id


def title(case_id: str) -> str:
    """The loads of a case in words: "vllm llama-small-tp2 / mixtral-small-tp2, closed-c16"."""
    servers, workloads, _ = parse_id(case_id)
    engines = {server.partition("-")[0] for server in servers}
    names = list(servers)
    prefix = ""
    if len(engines) == 1:
        engine = engines.pop()
        names = [server.removeprefix(f"{engine}-") for server in servers]
        prefix = f"{engine} "
    return f"{prefix}{' / '.join(names)}, {' / '.join(workloads)}"
