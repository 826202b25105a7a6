"""Launch runner: measures everything on one launch of one server.

First it warms the server up. Then the repetitions of the workloads take turns, so that
a slow minute of the machine affects all of them a little and none of them fully. An
invalid repetition is replaced, a bounded number of times, and all of them are kept. The
probes report after the load. Then fixed prompts are answered, which tells whether the
tokens are those of before. The routing of tokens is read last, because that slows the
server down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence

import msgspec

from perfgate.cases import asking_routing, timed
from perfgate.engines import registry as engines
from perfgate.engines.base import ServerConfig
from perfgate.load import ladder, measurement, saturation, warmup
from perfgate.load.precision import is_known
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Hardware
from perfgate.models import catalogue as models
from perfgate.progress import ProgressDisplay
from perfgate.results import bandwidth
from perfgate.results.recorder import (
    LaunchEnd,
    LaunchEntry,
    LaunchFigures,
    Measured,
)
from perfgate.results.schema import Measurement
from perfgate.run.probes import accuracy, answers, routing, work
from perfgate.run.probes.probe import Figures, with_figures
from perfgate.run.server_source import ServerSource
from perfgate.run.started_launch import StartedLaunch
from perfgate.servers.launch_record import ServerDied
from perfgate.servers.running import RunningServer

# Replacements of invalid repetitions. Where half of the repetitions stall (Mixtral on an
# H200), 4 replacements leave 1 % of the launches without a valid repetition.
EXTRA_REPETITIONS = 4
SECONDS_PER_MINUTE = 60.0

Entries = Generator[LaunchEntry, None, None]
EntriesUntilDeath = Generator[LaunchEntry, None, ServerDied | None]


class LaunchRunner:
    """Measures one launch of a server that is ready.

    Every `run` yields what was measured, repetition by repetition, and finally a
    `LaunchEnd`. It writes nothing: the caller records the entries.

    Args:
        source: where the server comes from.
        hardware: whose bandwidth is used.
        silence_timeout_s: a server hangs if all of its streams are silent for this
            long.

    Attributes:
        server: the server. server_key: key of its configuration.
        index: which launch of the server it is.
    """

    def __init__(
        self,
        started: StartedLaunch,
        source: ServerSource,
        hardware: Hardware,
        silence_timeout_s: float,
        tell: ProgressDisplay,
    ) -> None:
        config, server, launch = started.config, started.server, started.launch
        self.server = server
        self.server_key = config.key
        self.index = launch.index
        self._config = config
        self._source = source
        self._hardware = hardware
        self._tell = tell
        self._probes = source.probes(config, server, launch)
        self._chunk_tokens = _chunk_tokens(launch.settings)
        self._hang: str | None = None
        self._is_dead = False
        self._is_climbed = False
        self._is_answered = False
        self._target = target_of(config, server, silence_timeout_s)

    def run(
        self, workloads: Sequence[Workload], is_part: bool = False
    ) -> Entries:
        """Measure these workloads on the launch.

        Args:
            workloads: sent in turns; then those that ask for the routing of tokens.
            is_part: whether they are only a part of the server's load; its memory is
                then not recorded.

        Raises:
            Failure: the server answers, but a warm-up fails.
        """
        if self._config.held:
            yield from self._count_work(workloads)
            return
        asking = asking_routing(self._config, workloads)
        graded = [workload for workload in workloads if workload.graded]
        in_time = timed(self._config, workloads)
        death: ServerDied | None = None
        # A server that was launched for its routing alone is asked nothing else.
        if in_time or not asking or not self._config.routing:
            death = yield from self._measure(in_time, is_part)
            yield from self._read_answers()
        for workload in graded:
            death = yield from self._grade(workload, death)
        for workload in asking:
            death = yield from self._ask_routing(workload, death)
        yield LaunchEnd(self._config.key, self.index, death)

    def _measure(
        self, workloads: Sequence[Workload], is_part: bool
    ) -> EntriesUntilDeath:
        repetitions: dict[str, list[Repetition]] = {}
        for workload in workloads:
            repetitions[workload.name] = []
        try:
            started = [probe.start() for probe in self._probes]
            yield self._warm_up(workloads, started)
            yield from self._send_all(workloads, repetitions)
            if self._is_useful():
                yield self._figures(
                    [probe.finish(is_part) for probe in self._probes]
                )
                return None
            activity = "measuring"
            if self._hang is not None:
                activity = f"measuring, {self._hang}"
            death = self._source.give_up(self.server, activity)
        finally:
            for probe in self._probes:
                probe.stop()
        for workload in workloads:
            if self._is_unfinished(workload, repetitions[workload.name]):
                yield self._row(workload, repetitions[workload.name], death)
        return death

    def _send_all(
        self,
        workloads: Sequence[Workload],
        repetitions: Mapping[str, list[Repetition]],
    ) -> Entries:
        """Measure all workloads in turns, and after them those that need a soak."""
        in_turns = [row for row in workloads if not row.soak_minutes]
        yield from self._take_turns(in_turns, repetitions)
        for workload in workloads:
            if workload.soak_minutes:
                yield self._soak(workload)
                yield from self._take_turns([workload], repetitions)

    def _take_turns(
        self,
        workloads: Sequence[Workload],
        repetitions: Mapping[str, list[Repetition]],
    ) -> Entries:
        """Measure the repetitions of all workloads in turns, until none wants more."""
        unfinished = list(workloads)
        while unfinished:
            for workload in unfinished:
                if not self._is_useful():
                    return
                so_far = repetitions[workload.name]
                if not self._wants_more(workload, so_far):
                    continue
                repetition = self._repetition(workload, len(so_far))
                so_far.append(repetition)
                yield self._row(workload, so_far, load_s=repetition.duration_s)
                self._hang = repetition.hang
                self._look_after(repetition.failed)
            unfinished = [
                workload
                for workload in unfinished
                if self._wants_more(workload, repetitions[workload.name])
            ]

    def _wants_more(
        self, workload: Workload, repetitions: Sequence[Repetition]
    ) -> bool:
        """Whether another repetition is to be measured, and would tell more."""
        if not wants_more(workload, repetitions):
            return False
        return self._is_unfinished(workload, repetitions)

    def _is_unfinished(
        self, workload: Workload, repetitions: Sequence[Repetition]
    ) -> bool:
        """Whether valid repetitions are missing that would tell more.

        On a GPU a load is finished once its figures are known; on shared CPU cores every
        repetition counts.
        """
        if self._config.device == "cuda" and is_known(workload, repetitions):
            return False
        return _lacks_valid(workload, repetitions)

    def _soak(self, workload: Workload) -> LaunchFigures:
        """Keep a load up for its minutes; nothing of it is kept."""
        began_s = time.monotonic()
        end_s = began_s + SECONDS_PER_MINUTE * workload.soak_minutes
        number = 0
        while time.monotonic() < end_s and self._is_useful():
            number += 1
            left_s = end_s - time.monotonic()
            self._say(f"{workload.name}: soaking, {left_s:.0f} s left")
            part = measurement.measure(
                self._target,
                workload,
                -number,
                progress=self._progress(f"{workload.name}, soaking"),
            )
            self._hang = part.hang
            self._look_after(part.failed)
        return self._figures([], load_s=time.monotonic() - began_s)

    def _repetition(self, workload: Workload, index: int) -> Repetition:
        """One repetition, with the figures of all probes and its memory bandwidth."""
        step = (
            f"{workload.name}, repetition {index + 1} of {workload.repetitions}"
        )
        if index >= workload.repetitions:
            extra = index - workload.repetitions + 1
            step = (
                f"{workload.name}, replacement {extra} of {EXTRA_REPETITIONS}"
            )
        began_s = time.monotonic()
        result = self._send(workload, index, self._progress(step))
        bandwidth_values = bandwidth.values(
            self._config, workload, result.values, self._hardware
        )
        figures = [Figures(values=bandwidth_values)]
        for probe in self._probes:
            figures.append(probe.after(result))
        repetition = with_figures(result, figures)
        took_s = time.monotonic() - began_s
        self._say(f"{step}: {_describe(repetition, took_s)}")
        return repetition

    def _send(
        self,
        workload: Workload,
        index: int,
        progress: Callable[[int, int], None],
    ) -> Repetition:
        """Send a load, or a ramp of loads."""
        if workload.doubles_to is None:
            return measurement.measure(
                self._target,
                workload,
                index,
                progress=progress,
                begin=self._begin_probes,
            )
        self._begin_probes()
        return saturation.measure(
            self._target, workload, index, progress=progress
        )

    def _begin_probes(self) -> None:
        """Have all probes read what a load begins with; anew where it is sent again."""
        for probe in self._probes:
            probe.before()

    def _count_work(self, workloads: Sequence[Workload]) -> Entries:
        """Count what a held engine does for a batch of each workload: nothing is timed."""
        death: ServerDied | None = None
        for workload in workloads:
            if death is not None:
                yield self._row(workload, (), death)
                continue
            self._say(f"{workload.name}: counting the work of a batch")
            began_s = time.monotonic()
            row = work.measure(
                self._config, self.server.url, self.index, workload
            )
            yield Measured(row, time.monotonic() - began_s)
            if not self.server.alive():
                death = self._source.give_up(self.server, "counting its work")
                yield Measured(
                    msgspec.structs.replace(row, failure=death.row())
                )
        yield LaunchEnd(self._config.key, self.index, death)

    def _read_answers(self) -> Entries:
        """Have the fixed prompts answered, once: nothing that was measured knows of it.

        Not where experts are stated: the next ones are drawn for each token, so the
        same prompt is answered otherwise.
        """
        if self._config.stated_routing:
            return
        if self._is_answered or not self._is_useful():
            return
        self._is_answered = True
        began_s = time.monotonic()
        answered = answers.read(self._target)
        yield LaunchFigures(
            self._config.key,
            self.index,
            values=answered.values,
            notes=answered.notes,
            load_s=time.monotonic() - began_s,
            answers=answered.hashes,
            answer_tokens=answered.tokens,
        )

    def _grade(
        self, workload: Workload, death: ServerDied | None
    ) -> EntriesUntilDeath:
        """Ask questions whose answers are known.

        Args:
            death: how the server died before; it is asked nothing then.
        """
        taken: list[Repetition] = []
        if death is None and self._is_useful():
            self._say(f"{workload.name}: {workload.num_prompts} questions")
            repetition = accuracy.measure(
                self._target, workload, self._progress(workload.name)
            )
            taken.append(repetition)
            yield self._row(workload, taken, load_s=repetition.duration_s)
            self._look_after(repetition.failed)
            if self._is_useful():
                return None
        if death is None:
            death = self._source.give_up(self.server, "answering questions")
        yield self._row(workload, taken, death)
        return death

    def _ask_routing(
        self, workload: Workload, death: ServerDied | None
    ) -> EntriesUntilDeath:
        """Read which experts tokens choose: nothing is timed, so nothing is warmed up.

        Args:
            death: how the server died before; nothing is sent then.
        """
        if death is not None:
            yield self._row(workload, (), death)
            return death
        self._say(f"{workload.name}: reading which experts its tokens choose")
        began_s = time.monotonic()
        row = routing.measure(
            engines.lookup(self._config.engine),
            self._config,
            self.server.url,
            self.index,
            workload,
            self._progress(workload.name),
        )
        load_s = time.monotonic() - began_s
        is_alive = self.server.alive()
        yield Measured(row, load_s)
        if is_alive:
            return None
        death = self._source.give_up(
            self.server, "reading which experts tokens choose"
        )
        yield Measured(msgspec.structs.replace(row, failure=death.row()))
        return death

    def _warm_up(
        self, workloads: Sequence[Workload], started: Sequence[Figures]
    ) -> LaunchFigures:
        """Warm the server up; returns what that took, and what the probes noted."""
        began_s = time.monotonic()
        values: dict[str, float] = {}
        if self._config.device == "cuda" and not self._is_climbed:
            values |= self._climb(workloads)
            self._is_climbed = True
        for workload in warmup.needing(workloads, self._config.device):
            if self._is_useful():
                self._warm_up_for(workload)
        notes: tuple[str, ...] = ()
        if self._is_useful():
            notes = self._source.settle(self._config, self.server)
        values["warm_up_s"] = time.monotonic() - began_s
        figures = [*started, Figures(values=values, notes=notes)]
        return self._figures(figures, load_s=values["warm_up_s"])

    def _warm_up_for(self, workload: Workload) -> None:
        self._say(f"warming up for {workload.name}")
        progress = self._progress(f"{workload.name}, warming up")
        try:
            warmup.warm_up(self._target, workload, progress=progress)
        except warmup.WarmUpHung as failure:
            self._hang = failure.seen
        except warmup.WarmUpFailed:
            self._look_after(failed=1)
            if not self._is_dead:
                raise

    def _look_after(self, failed: int) -> None:
        """After failed requests, whether the server dies: it may outlive them by seconds."""
        if failed and self._hang is None:
            self._is_dead = not self.server.survives()

    def _climb(self, workloads: Sequence[Workload]) -> dict[str, float]:
        """Let the engine compile before the load; returns how often it did."""
        longest = self._config.max_model_len - ladder.ROOM_TOKENS
        chunk = self._chunk_tokens or longest
        steps = ladder.rungs(longest, chunk, ladder.batch_of(workloads))
        climbed = ladder.climb(
            self._target, steps, progress=self._progress("ladder")
        )
        self._say(f"ladder: {climbed}")
        self._hang = climbed.hang
        slow = float(len(climbed.slow))
        return {"warm_up_compiles": slow, "warm_up_compiled": slow + 1}

    def _is_useful(self) -> bool:
        """Whether the server runs and does not hang."""
        if self._is_dead or self._hang is not None:
            return False
        return self.server.alive()

    def _row(
        self,
        workload: Workload,
        repetitions: Sequence[Repetition],
        death: ServerDied | None = None,
        load_s: float = 0.0,
    ) -> Measured:
        failure = None
        if death is not None:
            failure = death.row()
        row = Measurement(
            server=self._config.key,
            launch=self.index,
            workload=workload.name,
            repetitions=tuple(repetitions),
            failure=failure,
            vllm_bench_command=measurement.vllm_bench_command(
                self._target, workload
            ),
        )
        return Measured(row, load_s)

    def _figures(
        self, parts: Sequence[Figures], load_s: float = 0.0
    ) -> LaunchFigures:
        values: dict[str, float] = {}
        notes: list[str] = []
        for figures in parts:
            values |= figures.values
            notes += figures.notes
        return LaunchFigures(
            self._config.key, self.index, values, tuple(notes), load_s
        )

    def _say(self, text: str) -> None:
        self._tell.line(f"{self._config.key}: {text}")

    def _progress(self, step: str) -> Callable[[int, int], None]:
        return lambda done, total: self._tell.step(
            f"{self._config.key}: {step}", done, total
        )


def target_of(
    config: ServerConfig, server: RunningServer, silence_timeout_s: float
) -> measurement.Target:
    """A running server, as the client sees it."""
    return measurement.Target(
        url=server.url,
        served_model=server.served_model or config.model,
        vocab_size=models.lookup(config.model).architecture.vocab_size,
        engine=config.engine,
        device=config.device,
        is_alive=server.alive,
        death_reason=server.death_reason,
        note_life=server.note_life,
        authorization=server.authorization,
        log=server.log,
        silence_timeout_s=silence_timeout_s,
    )


def wants_more(workload: Workload, repetitions: Sequence[Repetition]) -> bool:
    """Whether valid repetitions are missing, and more of them may be measured.

    Failed requests end the workload: a launch with failed requests is not judged.
    """
    if any(repetition.failed for repetition in repetitions):
        return False
    if len(repetitions) >= workload.repetitions + EXTRA_REPETITIONS:
        return False
    return _lacks_valid(workload, repetitions)


def _lacks_valid(workload: Workload, repetitions: Sequence[Repetition]) -> bool:
    valid = [repetition for repetition in repetitions if not repetition.invalid]
    return len(valid) < workload.repetitions


def _chunk_tokens(settings: Mapping[str, str]) -> int | None:
    """Most tokens of one prefill step; None where the engine does not log it."""
    text = settings.get("chunked_prefill_tokens", "")
    if not text.isdigit() or int(text) == 0:
        return None
    return int(text)


def _describe(repetition: Repetition, seconds: float) -> str:
    if repetition.invalid:
        reasons = "; ".join(repetition.invalid)
        return f"INVALID, {reasons} ({seconds:.0f} s)"
    texts = []
    for name, unit in (
        ("output_throughput", "tok/s"),
        ("itl_median_ms", "ms ITL"),
        ("ttft_median_ms", "ms TTFT"),
        ("saturated_throughput", "tok/s saturated"),
        ("knee_streams", "streams at the knee"),
        ("prefix_hit_rate", "of prompts cached"),
        ("acceptance_length", "tokens a step"),
    ):
        if name in repetition.values:
            texts.append(f"{repetition.values[name]:.4g} {unit}")
    return f"{', '.join(texts)} ({seconds:.0f} s)"
