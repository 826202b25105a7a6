"""Servers in hand: a test starts a server, sends it load, and has a number judged.

The launch, each repetition and the verdict are recorded in the session's run. The
server belongs to the session's pool: it is started once, and stopped afterwards
whatever happens.
"""

from __future__ import annotations

import math
import numbers
import statistics
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from perfgate import formatting
from perfgate.cases import Case, Load, check_server, checked
from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure
from perfgate.judge.verdict import Verdict
from perfgate.load.metrics import METRICS, Metric, register
from perfgate.load.prompts import Synthetic
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.models.catalogue import lookup
from perfgate.run.campaign import Campaign
from perfgate.study import Study
from perfgate.study.judged import JudgedMetrics

# Experiment of such a test's cases, in place of the study's "E1" to "E19".
EXPERIMENT = "own"


class BadRequest(Failure):
    """An invalid request of a test for a server, a load or a verdict."""


Kind = TypeVar("Kind", bound=msgspec.Struct)


@dataclass(frozen=True)
class ServerInHand:
    """A server that a test has started.

    Attributes:
        config: how it is served.
        url: base address, without a trailing slash.
        model: name under which it serves the model.
    """

    config: ServerConfig
    url: str
    model: str


@dataclass(frozen=True)
class LoadInHand:
    """A load that was sent to a server.

    Attributes:
        repetitions: all of them; `invalid` says why one does not count.
    """

    server: ServerInHand
    workload: Workload
    repetitions: tuple[Repetition, ...]

    def value(self, metric: str) -> float:
        """Median of the valid repetitions.

        Raises:
            BadRequest: no valid repetition has this metric.
        """
        values = []
        reasons: list[str] = []
        for repetition in self.repetitions:
            reasons += repetition.invalid
            if not repetition.invalid and metric in repetition.values:
                values.append(repetition.values[metric])
        if values:
            return statistics.median(values)
        metrics = self.repetitions[0].values
        suggestion = formatting.suggestion(metric, metrics)
        raise BadRequest(
            tried=f"reading {metric} of {self.workload.name} on {self.server.config.key}",
            seen="; ".join(reasons) or "no repetition has this metric",
            remedy=f"{suggestion}the metrics are: {', '.join(metrics)}",
        )


class Hand:
    """What the fixtures ``perf_server``, ``perf_load`` and ``perf_gate`` do for one test.

    Args:
        study: the study on the selected platform, for whatever the test leaves out.
        campaign: opens the session's campaign at the first call.
        expect: called with each case that the test asks.
        judged: which metrics can fail a run on this platform.
        test: id of the test.
    """

    def __init__(
        self,
        study: Study,
        campaign: Callable[[], Campaign],
        expect: Callable[[Case], None],
        judged: JudgedMetrics,
        test: str,
    ) -> None:
        self._study = study
        self._campaign = campaign
        self._expect = expect
        self._judged = judged
        self._test = test

    def config(
        self, model: str | ServerConfig | None = None, **changes: Any
    ) -> ServerConfig:
        """A server configuration: the study's for this platform, with changes.

        Args:
            model: name in the catalogue; None means the reference's of the study. A
                configuration stays as it is, but for the changes.
            changes: fields of `perfgate.engines.base.ServerConfig`.

        Raises:
            BadRequest: there is no such field, or a value has the wrong type.
        """
        base = self._study.models[-1]
        if isinstance(model, ServerConfig):
            base = model
        fields = msgspec.structs.asdict(base) | changes
        if isinstance(model, str):
            fields["model"] = lookup(model).name
        config = _convert(fields, ServerConfig, "perf_server")
        check_server(config)
        return config

    def server(self, config: ServerConfig) -> ServerInHand:
        """Start the server, or return it if it runs.

        Raises:
            Failure: it failed to start.
            AmbiguousServer: a server of another configuration has its key.
        """
        server = self._campaign().hold(config)
        model = server.served_model or config.model
        return ServerInHand(config=config, url=server.url, model=model)

    def load(
        self,
        server: ServerInHand,
        workload: Workload | str | None,
        **fields: Any,
    ) -> LoadInHand:
        """Send a workload: warm up, then every repetition.

        Args:
            workload: a workload, or the name of one of the study's on this platform;
                None makes one from `fields`.
            fields: of `perfgate.load.workload.Workload`, with the lengths of its
                prompts.

        Raises:
            BadRequest: a field does not exist. Failure: the server died.
        """
        if isinstance(workload, str) and not fields:
            workload = self._study.workload(workload)
        if not isinstance(workload, Workload):
            workload = make_workload(workload or "own", fields)
        elif fields:
            raise BadRequest(
                tried=f"calling perf_load for the workload {workload.name}",
                seen=f"it is a whole Workload, and further fields were given: {', '.join(fields)}",
                remedy="put them into it: msgspec.structs.replace(workload, ...)",
            )
        row = self._campaign().load(server.config, workload)
        return LoadInHand(
            server=server, workload=workload, repetitions=row.repetitions
        )

    def judge(self, metric: str, load: LoadInHand) -> Verdict:
        """Judge a metric of a load against the stored baseline."""
        case = Case(
            experiment=EXPERIMENT,
            metric=metric,
            numerator=Load(server=load.server.config, workload=load.workload),
        )
        return self._judge(case)

    def judge_number(
        self,
        metric: str,
        value: float,
        server: ServerInHand,
        unit: str,
        better: Literal["higher", "lower"],
    ) -> Verdict:
        """Judge a number that the test measured itself against the stored baseline.

        Raises:
            BadRequest: it is not a positive, finite number.
        """
        is_number = isinstance(value, numbers.Real) and math.isfinite(value)
        if not (is_number and value > 0):
            raise BadRequest(
                tried=f"judging {metric} of {server.config.key}",
                seen=f"its value is {value!r}",
                remedy="give a positive and finite number",
            )
        if self._campaign().results.is_paired:
            raise BadRequest(
                tried=f"judging {metric} of {server.config.key} against a base build",
                seen="the test measures this number on the candidate only",
                remedy="leave --against-engine out, or judge a metric of a load",
            )
        definition = f"measured by the test {self._test.partition('[')[0]}"
        own_metric = Metric(
            name=metric, unit=unit, better=better, definition=definition
        )
        load = Load(server=server.config)
        case = Case(experiment=EXPERIMENT, metric=metric, numerator=load)
        checked(case)
        register([own_metric])
        self._campaign().note_number(server.config, own_metric, float(value))
        return self._judge(case)

    def _judge(self, case: Case) -> Verdict:
        if case.metric not in METRICS:
            raise BadRequest(
                tried=f"judging {case.id}",
                seen=f"no such metric: {case.metric!r}",
                remedy=(
                    f"{formatting.suggestion(case.metric, METRICS)}use one of "
                    f"{', '.join(sorted(METRICS))}, or give value=, unit= and server="
                ),
            )
        case = self._judged.apply(checked(case))
        self._expect(case)
        campaign = self._campaign()
        campaign.adopt(case)
        return campaign.judge(case, self._test)


def make_workload(name: str, fields: dict[str, Any]) -> Workload:
    """A workload from its fields and those of its prompts.

    Raises:
        BadRequest: a field does not exist, or its value is not allowed.
    """
    if not name.replace("-", "").isalnum():
        raise BadRequest(
            tried=f"calling perf_load for the workload {name!r}",
            seen="the name is no valid file name",
            remedy="use letters, digits and -",
        )
    lengths = Synthetic.__struct_fields__
    _refuse_unknown(
        fields, (*Workload.__struct_fields__, *lengths), "perf_load"
    )
    workload_fields: dict[str, Any] = {"name": name}
    prompt_fields: dict[str, Any] = {}
    for key, value in fields.items():
        if key in lengths:
            prompt_fields[key] = value
        else:
            workload_fields[key] = value
    if prompt_fields:
        prompts = _convert(prompt_fields, Synthetic, "perf_load")
        workload_fields["prompts"] = prompts
    return _convert(workload_fields, Workload, "perf_load")


def _refuse_unknown(
    fields: Iterable[str], known: Collection[str], fixture: str
) -> None:
    unknown = sorted(set(fields) - set(known))
    if not unknown:
        return
    suggestion = formatting.suggestion(unknown[0], known)
    raise BadRequest(
        tried=f"calling {fixture}",
        seen=f"no such argument: {', '.join(unknown)}",
        remedy=f"{suggestion}the arguments are: {', '.join(known)}",
    )


def _convert(fields: dict[str, Any], kind: type[Kind], fixture: str) -> Kind:
    _refuse_unknown(fields, kind.__struct_fields__, fixture)
    try:
        return msgspec.convert(msgspec.to_builtins(fields), kind)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        seen = str(error).replace(" - at `$.", ": ").rstrip("`")
        raise BadRequest(
            tried=f"calling {fixture}",
            seen=seen,
            remedy="correct these arguments",
        ) from None
