"""How is one launch measured?

First everything is warmed up, then the workloads' repetitions take turns, so that a
slow minute of the machine touches all of them a little instead of one of them whole. A
repetition that does not count is measured again, a bounded number of times, and all of
it is kept. What the server holds is read when it has seen all of its load. Where its
tokens go is asked last, for that slows it down.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import requests

from perfgate.cases import asking_routing
from perfgate.engines import registry as engines
from perfgate.engines.base import LaunchFacts, ServerConfig
from perfgate.engines.injection import Injection, format_injection
from perfgate.load import ladder, measurement
from perfgate.load import warmup as warming
from perfgate.load.client import SILENT
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.machine import telemetry
from perfgate.models import catalogue as models
from perfgate.progress import Tell
from perfgate.results import bandwidth
from perfgate.results.recorder import Ledger
from perfgate.results.schema import Launch, Measurement
from perfgate.run.probes import gpu as gpu_watch
from perfgate.run.probes import routing as probe
from perfgate.run.probes.footprint import Holding
from perfgate.servers.external import AttachedServer
from perfgate.servers.launch_record import ServerDied
from perfgate.servers.server import Server

# To replace those that do not count. With half of the repetitions stalled, as was seen
# with Mixtral on an H200, 4 leave one launch in a hundred without a valid one.
EXTRA_REPETITIONS = 4


class LaunchMeasurement:
    """One server that is ready, and everything that is asked of it.

    Args:
        index: which launch of this server it is.
        give_up: ends the server, which has died or hangs, and tells how.
    """

    def __init__(
        self,
        config: ServerConfig,
        server: Server | AttachedServer,
        index: int,
        ledger: Ledger,
        tell: Tell,
        give_up: Callable[[str], ServerDied],
    ) -> None:
        self._config = config
        self._server = server
        self._index = index
        self._ledger = ledger
        self._tell = tell
        self._give_up = give_up
        self._sampled, self._part = True, False
        self._hung: str | None = None
        self._is_climbed = False
        self._holding: Holding | None = None
        self._telemetry: telemetry.Telemetry | None = None
        self._chunk_tokens: int | None = None
        self._engine = engines.lookup(config.engine)
        self._target = measurement.Target(
            url=server.url,
            served_model=server.served_model
            if isinstance(server, AttachedServer)
            else config.model,
            vocab_size=models.lookup(config.model).architecture.vocab_size,
            engine=config.engine,
            device=config.device,
            is_alive=server.alive,
            log=None if isinstance(server, AttachedServer) else Path(server.record.log),
        )

    def run(
        self,
        workloads: Sequence[Workload],
        injection: Injection,
        silence_timeout_s: float,
        sampled: bool = True,
        part: bool = False,
    ) -> ServerDied | None:
        """Measure everything; returns the server's death if it died meanwhile.

        Args:
            workloads: to be sent, in turns; then those that ask where the tokens go.
            injection: what is changed in the server, to see the gate fire.
            silence_timeout_s: when nothing was heard for so long, the server hangs.
            sampled: whether its GPUs are looked at while repetitions are measured.
            part: whether these are a part of its load, so that what it holds afterwards
                is no figure.

        Raises:
            Failure: the server answers, but not this: a warm-up fails, or a delay
                cannot be injected.
        """
        self.begin(injection, silence_timeout_s, sampled)
        return self.more(workloads, part)

    @property
    def index(self) -> int:
        """Which launch of its server it is."""
        return self._index

    def begin(
        self, injection: Injection, silence_timeout_s: float, sampled: bool = True
    ) -> None:
        """Note the launch, and change in the server what is to be changed; arguments as of `run`."""
        self._sampled = sampled
        self._target = dataclasses.replace(
            self._target, silence_timeout_s=silence_timeout_s
        )
        self._note_start(injection)

    def more(
        self, workloads: Sequence[Workload], part: bool = False
    ) -> ServerDied | None:
        """Measure these on a launch that has begun; arguments and answer as of `run`."""
        self._part = part
        asked = asking_routing(self._config, workloads)
        timed = [w for w in workloads if w not in asked]
        try:
            death = self._run(timed) if timed or not asked else None
        finally:
            for watcher in (self._holding, self._telemetry):
                if watcher is not None:
                    watcher.stop()
        for workload in asked:
            death = self._probe(workload, death)
        self._ledger.end_launch(self._config.key, self._index)
        return death

    def _run(self, workloads: Sequence[Workload]) -> ServerDied | None:
        taken: dict[str, list[Repetition]] = {
            workload.name: [] for workload in workloads
        }
        self._watch_memory()
        self._warm_up(workloads)
        self._telemetry = self._watch_gpus()
        while wanting := [
            w for w in workloads if self._is_useful() and wants_more(w, taken[w.name])
        ]:
            for workload in wanting:
                self._take(workload, taken[workload.name])
        if self._is_useful():
            if self._holding is not None:
                self._holding.note(self._part)
            return None
        death = self._give_up(f"measuring, {self._hung}" if self._hung else "measuring")
        for workload in workloads:
            if _lacks_valid(workload, taken[workload.name]):
                self._put(workload, taken[workload.name], str(death))
        return death

    def _probe(self, workload: Workload, death: ServerDied | None) -> ServerDied | None:
        """Ask where the tokens go; nothing is timed, so nothing is warmed up. `death` is what it died of before."""
        if death is not None:
            self._put(workload, (), str(death))
            return death
        self._tell.line(f"{self._config.key}: {workload.name}, where do its tokens go?")
        began = time.monotonic()
        place, steps = (self._index, workload), self._steps(workload.name)
        row = probe.measure(self._engine, self._config, self._server.url, place, steps)
        self._ledger.spend(load_s=time.monotonic() - began)
        died = not self._server.alive()
        self._ledger.put_measurement(row)
        if died:
            death = self._give_up("asking where its tokens go")
            self._ledger.put_measurement(msgspec.structs.replace(row, error=str(death)))
        return death

    def _note_start(self, injection: Injection) -> None:
        if isinstance(self._server, AttachedServer):
            unknown = (
                f"{self._server.url} is run by somebody else: its start, log and "
                "memory cannot be known"
            )
            start = self._server.record(self._config.key)
            self._ledger.add_launch(
                Launch(
                    server=self._config.key,
                    index=self._index,
                    start=start,
                    notes=(unknown,),
                    measured=False,
                )
            )
            return
        record = self._server.record
        with Path(record.log).open(encoding="utf-8", errors="replace") as log:
            facts = self._engine.read_log(self._config, log)
        self._chunk_tokens = _chunk_tokens(facts)
        if injection.per_token_ms is not None:
            self._engine.inject_delay(self._server.url, injection.per_token_ms)
        if injected := injection.record():
            self._tell.line(
                f"{self._config.key}: INJECTED {format_injection(injected)}"
            )
        self._ledger.add_launch(
            Launch(
                server=self._config.key,
                index=self._index,
                start=record,
                values=facts.values
                | ({} if record.ready_s is None else {"ready_s": record.ready_s}),
                effective=facts.effective,
                settings=facts.settings,
                injected=injected,
                measured=False,
            )
        )

    def _warm_up(self, workloads: Sequence[Workload]) -> None:
        began = time.monotonic()
        values: dict[str, float] = {}
        if self._config.device == "cuda" and not self._is_climbed:
            values = self._climb(workloads)
            self._is_climbed = True
        for workload in warming.needing(workloads, self._config.device):
            if self._is_useful():
                self._tell.line(f"{self._config.key}: warming up for {workload.name}")
                try:
                    warming.warm_up(
                        self._target,
                        workload,
                        progress=self._steps(f"{workload.name}, warming up"),
                    )
                except warming.WarmUpFailed as failure:
                    if SILENT in failure.seen:
                        self._hung = failure.seen
                    elif self._server.alive():
                        raise
        notes = self._settle() if self._is_useful() else ()
        took_s = time.monotonic() - began
        self._ledger.spend(load_s=took_s)
        self._ledger.amend_launch(
            self._config.key, self._index, values | {"warm_up_s": took_s}, notes
        )

    def _settle(self) -> tuple[str, ...]:
        """Do what the engine advises once it is warm, and note where it cannot be done.

        A server that somebody else runs is left as it is.
        """
        if isinstance(self._server, AttachedServer):
            return ()
        try:
            self._engine.settle(self._server.url)
        except requests.RequestException as error:
            return (
                (
                    "not settled after its warm-up, so that its garbage collection "
                    f"may stop all streams: {error}"
                ),
            )
        return ()

    def _climb(self, workloads: Sequence[Workload]) -> dict[str, float]:
        """Let the engine compile now what it would compile in the middle of a measurement; how often it did."""
        longest = self._config.max_model_len - ladder.ROOM_TOKENS
        steps = ladder.rungs(
            longest, self._chunk_tokens or longest, ladder.batch_of(workloads)
        )
        climbed = ladder.climb(self._target, steps, progress=self._steps("ladder"))
        self._tell.line(f"{self._config.key}: ladder: {climbed}")
        self._hung = climbed.hung
        return {"warm_up_compiles": float(len(climbed.slow))}

    def _take(self, workload: Workload, taken: list[Repetition]) -> None:
        if not self._is_useful():
            return
        what = f"{workload.name}, repetition {len(taken) + 1} of {workload.repetitions}"
        began = time.monotonic()
        taken.append(self._measured(workload, len(taken), self._steps(what)))
        self._tell.line(
            f"{self._config.key}: {what}: {_describe(taken[-1], time.monotonic() - began)}"
        )
        self._put(workload, taken, None)
        self._hung = measurement.hung(taken[-1])

    def _measured(
        self, workload: Workload, index: int, progress: Callable[[int, int], None]
    ) -> Repetition:
        """One repetition, with what it says together with the arithmetic and the GPUs' own counts."""
        mark = self._telemetry.mark() if self._telemetry is not None else None
        repetition = measurement.measure(
            self._target, workload, index, progress=progress
        )
        self._ledger.spend(load_s=repetition.duration_s)
        more = bandwidth.values(
            self._config, workload, repetition.values, self._ledger.results.hardware
        )
        repetition = msgspec.structs.replace(
            repetition, values=repetition.values | more
        )
        if self._telemetry is None or mark is None:
            return repetition
        return gpu_watch.told(repetition, self._telemetry, mark)

    def _watch_memory(self) -> None:
        if isinstance(self._server, AttachedServer):
            return
        if self._holding is None:
            self._holding = Holding(
                self._config, self._server, self._index, self._engine, self._ledger
            )
        self._holding.watch()

    def _watch_gpus(self) -> telemetry.Telemetry | None:
        if isinstance(self._server, AttachedServer):
            return None
        indices, key = self._server.plan.gpu_indices, self._config.key
        return gpu_watch.watch(indices, key, self._index, self._ledger, self._sampled)

    def _is_useful(self) -> bool:
        """Whether the server runs and has not fallen silent for good."""
        return self._hung is None and self._server.alive()

    def _put(
        self, workload: Workload, taken: Sequence[Repetition], error: str | None
    ) -> None:
        row = Measurement(
            server=self._config.key,
            launch=self._index,
            workload=workload.name,
            repetitions=tuple(taken),
            error=error,
            by_hand=measurement.vllm_bench_command(self._target, workload),
        )
        self._ledger.put_measurement(row)

    def _steps(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._tell.step(
            f"{self._config.key}: {what}", done, total
        )


def wants_more(workload: Workload, taken: Sequence[Repetition]) -> bool:
    """Whether valid repetitions are missing and the bound on all of them is not reached.

    Failed requests are the server's own doing: nothing that it does afterwards makes
    this launch count.
    """
    if any(repetition.failed for repetition in taken):
        return False
    return (
        _lacks_valid(workload, taken)
        and len(taken) < workload.repetitions + EXTRA_REPETITIONS
    )


def _lacks_valid(workload: Workload, taken: Sequence[Repetition]) -> bool:
    return (
        sum(1 for repetition in taken if not repetition.invalid) < workload.repetitions
    )


def _chunk_tokens(facts: LaunchFacts) -> int | None:
    """The most tokens of one step, where the engine says so."""
    told = facts.settings.get("chunked_prefill_tokens", "")
    return int(told) if told.isdigit() and int(told) > 0 else None


def _describe(repetition: Repetition, seconds: float) -> str:
    if repetition.invalid:
        return f"INVALID, {'; '.join(repetition.invalid)} ({seconds:.0f} s)"
    shown = (
        ("output_throughput", "tok/s"),
        ("itl_median_ms", "ms ITL"),
        ("ttft_median_ms", "ms TTFT"),
    )
    parts = [
        f"{repetition.values[name]:.4g} {unit}"
        for name, unit in shown
        if name in repetition.values
    ]
    return f"{', '.join(parts)} ({seconds:.0f} s)"
