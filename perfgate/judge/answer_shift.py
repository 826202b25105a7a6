"""Answer shift: answers to the fixed prompts that differ from the recorded ones, and how far.

The tokens of two launches may differ without a fault: another order of a sum decides
between two tokens that are as likely. So an answer counts by its distance in
log-probabilities, in nats. Until the first token that differs both models read the same
text. There the distance is that of the token's two log-probabilities. At that token it
is the amount by which one model prefers its own token to the other's. A token that its
own model did not hold for the likeliest is as far as it falls short.

Each answer is asked for as many tokens, whatever they are: one of another length is
another answer.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from perfgate import formatting
from perfgate.judge import wording
from perfgate.judge.verdict import Outcome
from perfgate.results.answer import Answer
from perfgate.results.samples import Sample

METRIC = "answers_perplexity"
# So many nats are no rounding of bfloat16, which moves log-probabilities by 0.1.
MOST_NATS = 0.5
LEAST_NATS = 0.02  # which float32 against bfloat16 moves in a small model
# Of the gap between the likeliest token and the fourth: made-up weights hold all tokens
# for nearly as likely, and a changed model moves little there.
SHARE_OF_GAP = 0.25
# Times the distance between two recorded launches.
REPEATS = 2.0
ALLOWED = 1  # of the answers may be further away

Answers = tuple[Answer, ...]


@dataclass(frozen=True)
class Shift:
    """The answers of this run compared with the recorded ones.

    Attributes:
        beyond: answers that are further away than the threshold, or of another length,
            in the worst launch.
        same: answers with the same tokens, in that launch.
        nats: the largest distance of an answer, and threshold: from where it counts.
        other_length: answers of another length, in that launch.
    """

    outcome: Outcome
    compared: int
    beyond: int
    same: int
    nats: float
    threshold: float
    other_length: int = 0

    @property
    def share(self) -> float:
        """Of the answers that are beyond the threshold."""
        return self.beyond / self.compared

    @property
    def allowed(self) -> float:
        """The share that may be."""
        return ALLOWED / self.compared

    @property
    def summary(self) -> str:
        """What was found, in one sentence."""
        template = wording.ANSWERS_SAME
        if self.same < self.compared:
            template = wording.ANSWERS_NEAR
        if self.outcome is Outcome.REGRESSED:
            template = wording.ANSWERS_OTHER
            if self.other_length:
                template = wording.ANSWERS_OTHER_LENGTH
        return template.format(
            beyond=self.beyond,
            other=self.compared - self.same,
            other_length=self.other_length,
            compared=self.compared,
            nats=formatting.number(self.nats),
            threshold=formatting.number(self.threshold),
        )

    @property
    def advice(self) -> str:
        """What to do; empty where nothing is."""
        if self.outcome is Outcome.REGRESSED:
            return wording.LOOK_AT_OTHER_ANSWERS
        return ""


def of_samples(samples: Iterable[Sample]) -> list[Answers]:
    """The answers of each launch that has some."""
    return [sample.answers for sample in samples if sample.answers]


def compare(
    current: Sequence[Answers], recorded: Sequence[Answers]
) -> Shift | None:
    """The comparison of all launches with the recorded ones; the worst launch counts.

    None where a side has none, or another number of answers.
    """
    sizes = {len(answers) for answers in (*current, *recorded)}
    if not current or not recorded or len(sizes) != 1:
        return None
    threshold = _threshold(recorded)
    shifts = []
    for answers in current:
        shifts.append(_shift(answers, recorded, threshold))
    return max(shifts, key=lambda shift: (shift.beyond, shift.nats))


def _shift(
    answers: Answers, recorded: Sequence[Answers], threshold: float
) -> Shift:
    distances = []
    same = beyond = other_length = 0
    for number, answer in enumerate(answers):
        references = [launch[number] for launch in recorded]
        nats = min(distance(answer, reference) for reference in references)
        lengths = {len(reference.tokens) for reference in references}
        has_other_length = len(answer.tokens) not in lengths
        distances.append(nats)
        other_length += has_other_length
        beyond += has_other_length or nats > threshold
        same += answer.tokens in {reference.tokens for reference in references}
    outcome = Outcome.PASSED
    if beyond > ALLOWED:
        outcome = Outcome.REGRESSED
    return Shift(
        outcome=outcome,
        compared=len(answers),
        beyond=beyond,
        same=same,
        nats=max(distances),
        threshold=threshold,
        other_length=other_length,
    )


def _threshold(recorded: Sequence[Answers]) -> float:
    """The distance from which an answer is another one."""
    gaps: list[float] = []
    for answers in recorded:
        gaps += _gaps(answers)
    threshold = MOST_NATS
    if gaps:
        share = SHARE_OF_GAP * statistics.median(gaps)
        threshold = max(LEAST_NATS, min(MOST_NATS, share))
    for first, second in itertools.combinations(recorded, 2):
        repeats = map(distance, first, second)
        # The larger half may hold an answer that turned at a tie.
        threshold = max(threshold, REPEATS * statistics.median(repeats))
    return threshold


def _gaps(answers: Answers) -> Iterator[float]:
    """By how much each token is likelier than the least likely one that is known."""
    for answer in answers:
        for logprob, others in zip(answer.logprobs, answer.others, strict=True):
            if others:
                yield logprob - min(others.values())


def distance(new: Answer, old: Answer) -> float:
    """How far apart two answers to one prompt are, in nats."""
    common = 0
    for first, second in zip(new.tokens, old.tokens, strict=False):
        if first != second:
            break
        common += 1
    distances = [_shortfall(new)]
    logprobs = zip(new.logprobs[:common], old.logprobs[:common], strict=True)
    for new_logprob, old_logprob in logprobs:
        distances.append(abs(new_logprob - old_logprob))
    if common < min(len(new.tokens), len(old.tokens)):
        distances.append(_preference(old, new.tokens[common], common))
        distances.append(_preference(new, old.tokens[common], common))
    return max(distances)


def _preference(answer: Answer, other: str, place: int) -> float:
    """By how much an answer's token is likelier than another; at least, if that is unlisted."""
    others = answer.others[place]
    lowest = min(others.values(), default=answer.logprobs[place])
    return answer.logprobs[place] - others.get(other, lowest)


def _shortfall(answer: Answer) -> float:
    """By how much a token was less likely than one that greedy decoding had to take."""
    shortfalls = [0.0]
    for logprob, others in zip(answer.logprobs, answer.others, strict=True):
        shortfalls.append(max(others.values(), default=logprob) - logprob)
    return max(shortfalls)
