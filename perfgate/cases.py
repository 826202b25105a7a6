"""Case: one metric of one load, or a ratio of two.

A ratio divides the metric of one load by that of another load of the same session. A
load is a server under a workload. Without a workload it is the server itself, for its
memory and its start-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from perfgate.engines import registry
from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure
from perfgate.load.metrics import family_of
from perfgate.load.workload import Arrivals, Workload
from perfgate.models import catalogue
from perfgate.models.catalogue import BYTES_PER_PARAMETER
from perfgate.models.stated_routing import StatedRouting

GateMode = Literal["hard", "report"]
# Between the two sides of a ratio, in the id of its case.
RATIO_SEPARATOR = "--over--"


class Load(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A server and what is sent to it; workload None means the server itself."""

    server: ServerConfig
    workload: Workload | None = None

    @property
    def workload_name(self) -> str:
        """The workload's name, or "launch" for the server itself."""
        if self.workload is None:
            return "launch"
        return self.workload.name

    @property
    def arrivals(self) -> Arrivals | None:
        """How requests arrive; None for the server itself."""
        if self.workload is None:
            return None
        return self.workload.arrivals

    @property
    def base(self) -> Load:
        """The same load on the base build of its server."""
        return msgspec.structs.replace(self, server=self.server.base)

    @property
    def candidate(self) -> Load:
        """The same load on its server, launched in pairs after a screen."""
        return msgspec.structs.replace(self, server=self.server.candidate)

    @property
    def routed_by_model(self) -> Load:
        """The same load on its server without a stated routing."""
        server = msgspec.structs.replace(self.server, stated_routing="")
        return msgspec.structs.replace(self, server=server)

    @property
    def asks_routing(self) -> bool:
        """Whether it reads the routing of tokens and is not timed.

        That is all that a server launched for routing is used for.
        """
        if self.server.routing:
            return True
        return self.workload is not None and self.workload.asks_routing


def asking_routing(
    server: ServerConfig, workloads: Sequence[Workload]
) -> list[Workload]:
    """The workloads that read the routing of tokens."""
    asking = []
    for workload in workloads:
        if Load(server=server, workload=workload).asks_routing:
            asking.append(workload)
    return asking


def timed(
    server: ServerConfig, workloads: Sequence[Workload]
) -> list[Workload]:
    """The workloads that are timed: no routing is read, and nothing is graded."""
    asking = asking_routing(server, workloads)
    return [row for row in workloads if row not in asking and not row.graded]


class Case(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A metric of a load, or a ratio of two, that is judged.

    Attributes:
        experiment: the study's number, "E1" to "E21", or a name of one's own.
        metric: a name in `perfgate.load.metrics.METRICS`.
        numerator: the load whose value is judged.
        denominator: the load by whose value it is divided, if the case is a ratio.
        gate: "hard" cases can fail a run; "report" cases are compared with their
            baseline and never fail it.
        two_sided: whether a change in either direction is a regression. True for ratios
            where absolute values are not judged (the CPU): which side moved is unknown,
            so neither direction may pass.
    """

    experiment: str
    metric: str
    numerator: Load
    denominator: Load | None = None
    gate: GateMode = "hard"
    two_sided: bool = False

    @property
    def subject(self) -> str:
        """The server, or "A--over--B" of two servers: a folder of the baseline store."""
        server = self.numerator.server
        if self.denominator is None or self.denominator.server == server:
            return server.key
        return f"{server.key}{RATIO_SEPARATOR}{self.denominator.server.key}"

    @property
    def workload(self) -> str:
        """The workload, or "A--over--B" of two workloads: a file of the baseline store."""
        name = self.numerator.workload_name
        if self.denominator is None or self.denominator.workload_name == name:
            return name
        return f"{name}{RATIO_SEPARATOR}{self.denominator.workload_name}"

    @property
    def id(self) -> str:
        """Stable name for reports and the command line: "subject/workload/metric"."""
        return f"{self.subject}/{self.workload}/{self.metric}"

    @property
    def base(self) -> Case:
        """The same case of the base build."""
        numerator = self.numerator.base
        if self.denominator is None:
            return msgspec.structs.replace(self, numerator=numerator)
        return msgspec.structs.replace(
            self, numerator=numerator, denominator=self.denominator.base
        )

    @property
    def stated_routings(self) -> set[StatedRouting]:
        """Those of its servers; empty where the models' own routers choose."""
        return {load.server.stated_routing for load in self.loads} - {""}

    @property
    def routed_by_model(self) -> Case:
        """The same case of servers without a stated routing."""
        numerator = self.numerator.routed_by_model
        if self.denominator is None:
            return msgspec.structs.replace(self, numerator=numerator)
        return msgspec.structs.replace(
            self,
            numerator=numerator,
            denominator=self.denominator.routed_by_model,
        )

    @property
    def report_only(self) -> Case:
        """The same case, which is compared and never fails a run."""
        return msgspec.structs.replace(self, gate="report")

    @property
    def candidate(self) -> Case:
        """The same case on launches in pairs, after a screen."""
        numerator = self.numerator.candidate
        if self.denominator is None:
            return msgspec.structs.replace(self, numerator=numerator)
        return msgspec.structs.replace(
            self, numerator=numerator, denominator=self.denominator.candidate
        )

    @property
    def is_ratio(self) -> bool:
        """Whether it is a ratio of two loads."""
        return self.denominator is not None

    @property
    def is_duel(self) -> bool:
        """Whether launches of two builds that take turns decide it, and no baseline."""
        return family_of(self.metric) == "batch"

    @property
    def loads(self) -> tuple[Load, ...]:
        """The loads that must be measured, the numerator first."""
        if self.denominator is None:
            return (self.numerator,)
        return self.numerator, self.denominator


class BadCase(Failure):
    """A case that a test or a hook made and that could not be read again in a run."""


def checked(case: Any) -> Case:
    """A case that a test or a hook made, as it is read again in the data of its run.

    Raises:
        BadCase: it is none, a field has the wrong type or value, or a name cannot be a
            file's. UnknownEngine, UnknownModel: its server cannot be launched.
    """
    if not isinstance(case, Case):
        raise BadCase(
            tried="asking for a case",
            seen=f"it is a {type(case).__name__}: {case!r}",
            remedy="give what study.value or study.ratio returns, or a perfgate.cases.Case",
        )
    try:
        valid = msgspec.convert(msgspec.to_builtins(case), Case)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise BadCase(
            tried=f"asking for a case of {case.metric}",
            seen=str(error).replace("$.", ""),
            remedy="correct this field of the case, its server or its workload",
        ) from None
    for load in valid.loads:
        check_server(load.server)
        check_name(load.workload_name, f"the workload {load.workload_name}")
    check_name(valid.metric, f"the metric {valid.metric!r}")
    return valid


def check_server(server: ServerConfig) -> None:
    """Refuse a server that a test or a hook made and that nothing can launch.

    Raises:
        BadCase: a field has an unknown value, or its name cannot be a file's.
            UnknownEngine, UnknownModel: there is none of that name.
    """
    registry.lookup(server.engine)
    catalogue.lookup(server.model)
    check_name(server.key, f"the server {server.key}")
    known = {"device": ("cpu", "cuda"), "dtype": tuple(BYTES_PER_PARAMETER)}
    for name, values in known.items():
        if getattr(server, name) not in values:
            raise BadCase(
                tried=f"asking for the server {server.key}",
                seen=f"{name} is {getattr(server, name)!r}",
                remedy=f"use one of {', '.join(values)}",
            )
    if min(server.tensor_parallel_size, server.data_parallel_size) < 1:
        raise BadCase(
            tried=f"asking for the server {server.key}",
            seen="it has less than one rank",
            remedy="give tensor_parallel_size and data_parallel_size of 1 or more",
        )


def check_name(name: str, what: str) -> None:
    """Refuse a name that separates the parts of a case's id, or is none.

    Args:
        what: it names, for the message.

    Raises:
        BadCase: it is empty, or has a "/" or "--over--" in it.
    """
    for separator in ("/", RATIO_SEPARATOR):
        if separator in name:
            raise BadCase(
                tried=f"naming {what}",
                seen=f"{separator!r} separates the parts of a case's id, and its folders",
                remedy="use letters, digits, -, _ and . in names",
            )
    if not name:
        raise BadCase(
            tried=f"naming {what}",
            seen="the name is empty",
            remedy="give a name",
        )


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
        servers=tuple(subject.split(RATIO_SEPARATOR)),
        workloads=tuple(workload.split(RATIO_SEPARATOR)),
        metric=metric,
    )


def is_ratio(case_id: str) -> bool:
    """Whether the case of this id is a ratio of two loads."""
    return RATIO_SEPARATOR in case_id


def title(case_id: str) -> str:
    """The loads of a case: "vllm llama-small-tp2 / mixtral-small-tp2, closed-c16"."""
    servers, workloads, _ = parse_id(case_id)
    engines = {server.partition("-")[0] for server in servers}
    names = list(servers)
    prefix = ""
    if len(engines) == 1:
        engine = engines.pop()
        names = [server.removeprefix(f"{engine}-") for server in servers]
        prefix = f"{engine} "
    return f"{prefix}{' / '.join(names)}, {' / '.join(workloads)}"
