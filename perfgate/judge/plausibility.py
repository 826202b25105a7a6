"""Plausibility: gains and values too good to be true, which a person must accept.

A number is not better because the work was not done, or because tokens arrive in
another pattern. Such a case is INVALID until a person accepts it with a reason. Where the
value was accepted before, it passes, and is not asked about again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from perfgate import formatting
from perfgate.cases import Case
from perfgate.judge import ratio, wording
from perfgate.judge.answers import largest_change
from perfgate.judge.baseline_store import Baseline, Recorded
from perfgate.judge.observation import Observation
from perfgate.judge.verdict import Decision, Outcome
from perfgate.load.metrics import METRICS, family_of
from perfgate.results.samples import Side, sides_of

# ITL median over TPOT median of one load. In the 288 loads of docs/runs the smallest is
# 0.83 (single stream; batches 0.86, rates 0.86, bursts 0.89), in 28 on a CPU 0.85.
LEAST_ITL_OVER_TPOT = 0.5
# Share of gaps that are far shorter than a step. In the 1,031 repetitions of docs/runs
# the largest is 0.03; chunks that come in twos have 0.5.
MOST_SHORT_GAPS = 0.25
# From here on a gap is the time of several tokens. A server that is behind merges some: in
# docs/runs batches of 64 have up to 1.19.
MOST_TOKENS_PER_CHUNK = 1.5
# What a TPOT may gain besides by the first chunk, and count as nothing.
FIRST_CHUNK_SLACK = 1.02
# So many times as good as the baseline. Nothing in docs/runs gains 1.3x in speed. On two
# shared cores an unchanged server was 2.1x as fast in a quiet hour as its baseline.
MOST_GAIN_GPU = 1.3
MOST_GAIN_CPU = 4.0
# Of these a large gain is usual: a warm cache, one stall less, another draw; or certain,
# because it was counted.
_JUMPY = frozenset(
    {"start_up", "tail", "routing", "answers", "work", "calls", "facts"}
)
# A small difference of large numbers: a smaller prefill chunk makes it 26 % less.
_REMAINDER = "memory_rest_bytes"
_DECODE = frozenset({"throughput", "itl", "tpot", "e2el", "bandwidth"})
_DECODE_TAILS = ("itl_", "tpot_", "e2el_")
# Outcomes that may rest on an impossible value. PASSED is none: a value that a person
# accepted equals its baseline.
_DOUBTFUL = frozenset(
    {
        Outcome.IMPROVED,
        Outcome.REGRESSED,
        Outcome.INCONCLUSIVE,
        Outcome.NO_BASELINE,
    }
)


@dataclass(frozen=True)
class Reference:
    """What a value was compared with.

    Attributes:
        context: as in a baseline file; its answers count.
        sides: (numerator, denominator) of each launch of a ratio.
    """

    context: Mapping[str, str] = field(default_factory=dict)
    sides: Sequence[Side] = ()


def reference_of(baseline: Baseline | None) -> Reference:
    """The reference of a recorded baseline; a published figure has none of it."""
    if not isinstance(baseline, Recorded):
        return Reference()
    return Reference(baseline.context, sides_of(baseline.metric.launches))


@dataclass(frozen=True)
class Objection:
    """Why a value is too good to be true, and what to look at."""

    summary: str
    advice: str


def checked(
    decision: Decision,
    case: Case,
    observation: Observation,
    reference: Reference,
) -> Decision:
    """The decision; INVALID in its place where the value is too good to be true."""
    if decision.outcome not in _DOUBTFUL:
        return decision
    check = _Check(decision, case, observation, reference)
    objection = check.objection()
    if objection is None:
        return check.with_burst_note()
    value_alone = wording.VALUE_SAYS.format(summary=decision.summary)
    template = wording.ACCEPT_IMPLAUSIBLE
    if decision.reference == "paired":
        template = wording.ACCEPT_IMPLAUSIBLE_PAIRED
    advice = template.format(look=objection.advice, case=case.id)
    if observation.injected:
        advice = wording.INJECTED
    return msgspec.structs.replace(
        decision,
        outcome=Outcome.INVALID,
        implausible=True,
        summary=objection.summary,
        details=(value_alone, *decision.details),
        advice=advice,
        needs_launches=0,
    )


def explained(
    problem: Decision, case: Case, observation: Observation
) -> Decision:
    """A decision without a value; where tokens arrived together it says so."""
    check = _Check(problem, case, observation, Reference())
    objection = check.without_gaps()
    if objection is None:
        return problem
    return msgspec.structs.replace(
        problem, summary=objection.summary, advice=objection.advice
    )


@dataclass(frozen=True)
class _Check:
    """One decision, and what speaks against it."""

    decision: Decision
    case: Case
    observation: Observation
    reference: Reference

    def objection(self) -> Objection | None:
        """The first reason why the value is too good to be true; None where it may be."""
        tests: list[Callable[[], Objection | None]] = [
            self._bursts,
            self._merged,
            self._bandwidth,
        ]
        if self.decision.outcome is Outcome.IMPROVED:
            tests += [self._answers]
            if self.decision.reference in ("recorded", "paired"):
                tests += [self._gain]
        for test in tests:
            found = test()
            if found is not None:
                return found
        return None

    def without_gaps(self) -> Objection | None:
        """Why an ITL has no value, where the median gap is nothing."""
        shares = [row.itl_over_tpot for row in self.observation.decoding]
        if 0.0 not in shares:
            return None
        return self._bursts()

    def with_burst_note(self) -> Decision:
        """The decision; a worse TTFT says that its first token came in a burst.

        It stays judged: what holds tokens back delays the first one, and never hastens it.
        """
        decision = self.decision
        is_worse = decision.outcome in (Outcome.REGRESSED, Outcome.INCONCLUSIVE)
        bursts = self._burst_summary()
        if not is_worse or bursts is None or not self._is_of("ttft"):
            return decision
        note = wording.FIRST_IN_BURST.format(bursts=bursts)
        return msgspec.structs.replace(
            decision, details=(note, *decision.details)
        )

    def _bursts(self) -> Objection | None:
        """Several tokens of a stream arrive at once: the median gap says nothing then.

        TPOT counts from the first token, which is late: it seems to gain.
        """
        is_gain = self.decision.outcome is Outcome.IMPROVED
        if self._is_of_gaps():
            advice = wording.LOOK_AT_BURSTS
        elif is_gain and self._is_of("tpot"):
            advice = wording.LOOK_AT_LATE_FIRST
        else:
            return None
        summary = self._burst_summary()
        if summary is None:
            return None
        return Objection(summary, advice)

    def _burst_summary(self) -> str | None:
        """How it shows that tokens arrive in bursts; None where they do not."""
        for figures in self.observation.decoding:
            share = figures.itl_over_tpot
            if share is not None and share < LEAST_ITL_OVER_TPOT:
                return wording.BURSTS.format(
                    share=formatting.percent(share),
                    bound=formatting.percent(LEAST_ITL_OVER_TPOT),
                )
            short = figures.short_gap_share
            if short is not None and short > MOST_SHORT_GAPS:
                return wording.BURSTS_OF_GAPS.format(
                    share=formatting.percent(short)
                )
        return None

    def _merged(self) -> Objection | None:
        """A chunk holds several tokens: the gap is not the time of one.

        The first chunk holds some as well, which TPOT takes for further tokens without
        time. A larger gain than that is one.
        """
        if not (self._is_of_gaps() or self._is_of("tpot")):
            return None
        for figures in self.observation.decoding:
            tokens = figures.tokens_per_chunk
            if tokens is None or tokens <= MOST_TOKENS_PER_CHUNK:
                continue
            summary = wording.MERGED.format(tokens=formatting.number(tokens))
            if self._is_of_gaps():
                return Objection(summary, wording.LOOK_AT_MERGED)
            if self._is_gain_of_first_chunk(tokens):
                return Objection(summary, wording.LOOK_AT_FIRST_CHUNK)
        return None

    def _is_gain_of_first_chunk(self, tokens: float) -> bool:
        """Whether a TPOT gains no more than the further tokens of the first chunk."""
        workload = self.case.numerator.workload
        length: int | None = None
        if workload is not None:
            length = getattr(workload.prompts, "output_len_tokens", None)
        if self.decision.outcome is not Outcome.IMPROVED or not length:
            return False
        share = (tokens - 1) / max(length - 1, tokens)
        # Noise and rounding besides.
        return self._largest_gain() <= 1 / (1 - share) * FIRST_CHUNK_SLACK

    def _is_of(self, family: str) -> bool:
        """Whether the metric is a percentile of these times: "ttft"."""
        return self.case.metric.startswith(f"{family}_")

    def _is_of_gaps(self) -> bool:
        """Whether the metric is worked out of the gaps between chunks."""
        return self._is_of("itl") or family_of(self.case.metric) == "bandwidth"

    def _bandwidth(self) -> Objection | None:
        """More bytes a second than the memory can deliver: the work was not done."""
        used = []
        for figures in self.observation.decoding:
            if figures.bandwidth_utilisation is not None:
                used.append(figures.bandwidth_utilisation)
        if not used or max(used) <= 1 or not self._is_of_decoding():
            return None
        summary = wording.IMPOSSIBLE_BANDWIDTH.format(
            utilisation=formatting.percent(max(used))
        )
        return Objection(summary, wording.LOOK_AT_BANDWIDTH)

    def _is_of_decoding(self) -> bool:
        """Whether it gained by the speed of decoding, or is the bandwidth itself."""
        metric = self.case.metric
        if family_of(metric) == "bandwidth":
            return True
        if self.decision.outcome is not Outcome.IMPROVED:
            return False
        return family_of(metric) in _DECODE or metric.startswith(_DECODE_TAILS)

    def _answers(self) -> Objection | None:
        """Faster, and most of the answers to the fixed prompts are others."""
        change = largest_change(
            self.observation.context, self.reference.context
        )
        if change is None or not change.is_most:
            return None
        summary = wording.ANSWERS_CHANGED.format(change=change)
        return Objection(summary, wording.LOOK_AT_ANSWERS)

    def _gain(self) -> Objection | None:
        """More than a change of software usually gives."""
        bound = MOST_GAIN_GPU
        if self.observation.hardware_label.startswith("cpu"):
            bound = MOST_GAIN_CPU
        metric = self.case.metric
        gain = self._largest_gain()
        if gain <= bound or metric == _REMAINDER or family_of(metric) in _JUMPY:
            return None
        summary = wording.IMPLAUSIBLE_GAIN.format(
            gain=formatting.ratio(gain), bound=formatting.ratio(bound)
        )
        return Objection(summary, wording.LOOK_AT_GAIN)

    def _largest_gain(self) -> float:
        """How many times as good it is; of a ratio, a side of it if that gained more."""
        value, baseline = self.decision.value, self.decision.baseline
        if not value or not baseline:
            return 1.0
        gains = [abs(math.log(value / baseline))]
        moved = ratio.moves(self.observation.sides, self.reference.sides)
        for change in moved or ():
            if METRICS[self.case.metric].better == "lower":
                change = -change
            gains.append(change)
        return math.exp(max(gains))
