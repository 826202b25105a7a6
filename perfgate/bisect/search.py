"""Search: which build is compared next, and what the pairs so far say. Pure.

Everything follows from the recorded sessions, so that a bisection can be killed at any
time. The answer is two builds: the last good one, and the first bad one after it.
"""

from __future__ import annotations

import fnmatch
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from perfgate.bisect.sequential import (
    DOUBT,
    Estimate,
    Side,
    estimate,
    nearest_side,
    side,
    spread_of_pairs,
)
from perfgate.bisect.state import Row, State
from perfgate.cases import parse_id
from perfgate.judge.noise import fraction_of, log_loss
from perfgate.judge.noise_table import Spread
from perfgate.judge.policy import RATE_FAMILIES
from perfgate.load.metrics import family_of

CONFIRMING_PAIRS = 3  # of one session; of all sessions at most:
MOST_CONFIRMING_PAIRS = 9
Sides = tuple[tuple[int, Side], ...]
# Times that a build is compared whose launches give no value that counts.
TRIES = 2


@dataclass(frozen=True)
class Judged:
    """A build and its side.

    Attributes:
        is_sure: whether the pairs leave little doubt of the side.
    """

    index: int
    side: Side
    is_sure: bool
    estimate: Estimate


@dataclass(frozen=True)
class Position:
    """Where a search stands.

    Attributes:
        good: index of the last build that is good.
        bad: index of the first one after it that is bad.
        next: index of the build to compare with the first one; None where no build is
            left between the two.
        judged: the builds that led here, the bad end first.
    """

    good: int
    bad: int
    next: int | None
    judged: tuple[Judged, ...] = ()

    @property
    def sides(self) -> Sides:
        """The side of each build that led here."""
        return tuple((judged.index, judged.side) for judged in self.judged)

    @property
    def untested(self) -> range:
        """Indices between the two."""
        return range(self.good + 1, self.bad)


class Evidence:
    """The pairs of one case.

    Args:
        state: the bisection so far.
        case: id of the case that decides.
    """

    def __init__(self, state: State, case: str) -> None:
        self.case = case
        self.builds = state.question.builds
        self._state = state
        self.losses: dict[int, list[float]] = defaultdict(list)
        self.confirming: dict[tuple[int, int], list[float]] = {}
        self.row: Row | None = None
        tries: dict[int, int] = defaultdict(int)
        self.skipped: set[int] = set()
        for session in state.sessions:
            index = self.builds.index(session.build)
            reference = self.builds.index(session.reference)
            row = session.rows.get(case)
            if session.confirms:
                losses = row.losses if row else []
                self.confirming.setdefault((reference, index), []).extend(
                    losses
                )
            elif session.outcome == "failed":
                self.skipped.add(index)
            elif row is None:
                tries[index] += 1
            else:
                self.losses[index] += row.losses
            self.row = row or self.row
        for index, count in tries.items():
            if count >= TRIES and not self.losses.get(index):
                self.skipped.add(index)

    @property
    def higher(self) -> bool:
        """Whether a higher value of the metric is better."""
        return self.row is not None and self.row.higher

    @property
    def spread(self) -> Spread:
        """The variation of the losses within pairs."""
        assert self.row is not None
        prior = Spread(
            cv=self.row.cv, degrees_of_freedom=self.row.degrees_of_freedom
        )
        groups = [*self.losses.values(), *self.confirming.values()]
        return spread_of_pairs(groups, prior)

    def estimate(self, index: int) -> Estimate | None:
        """The loss of a build; nothing is lost by the good one, None if not compared."""
        if index == 0:
            freedom = self.spread.degrees_of_freedom
            return Estimate(0.0, 0.0, freedom, pairs=0)
        if not self.losses.get(index):
            return None
        return estimate(self.losses[index], self.spread)

    def may_ask(self, index: int, most: int) -> bool:
        """Whether another pair of a build may be launched: those that fail count, too."""
        if index in self.skipped:
            return False
        return number_of_pairs(self._state, self.builds[index]) < most

    def confirmed(self, good: int, bad: int) -> Estimate | None:
        """The loss of one build against another, by the pairs of the two."""
        losses = self.confirming.get((good, bad), [])
        if not losses:
            return None
        return estimate(losses, self.spread)

    def fraction(self, loss: float) -> float:
        """A loss (log) as a fraction of the value."""
        return fraction_of(loss, self.higher)


def position(evidence: Evidence, most_pairs: int) -> Position:
    """Where the search stands, from its beginning.

    Args:
        most_pairs: of one build; then the likelier side counts.
    """
    last = len(evidence.builds) - 1
    end = evidence.estimate(last)
    if end is None:
        return Position(0, last, last)
    good, bad = 0, last
    judged = [Judged(last, "bad", is_sure=True, estimate=end)]
    while True:
        index = middle(good, bad, evidence.skipped)
        if index is None:
            return Position(good, bad, None, tuple(judged))
        following = _wanted(evidence, index, end, most_pairs)
        if following is not None:
            return Position(good, bad, following, tuple(judged))
        judged.append(_judged(evidence, index, end))
        if judged[-1].side == "good":
            good = index
        else:
            bad = index


def _wanted(
    evidence: Evidence, index: int, end: Estimate, most_pairs: int
) -> int | None:
    """The build that needs a pair to judge one; None where its pairs are enough."""
    found = evidence.estimate(index)
    if found is None:
        return index
    is_open = side(found, end) == "unsure" and found.pairs < most_pairs
    last = len(evidence.builds) - 1
    # Half of the end's error counts: it needs half as many pairs.
    is_end_short = is_open and 2 * end.pairs < found.pairs
    if is_end_short and evidence.may_ask(last, most_pairs):
        return last
    needed = needed_pairs(evidence, index)
    is_short = is_open or found.pairs < needed
    if is_short and evidence.may_ask(index, max(most_pairs, needed)):
        return index
    return None


def _judged(evidence: Evidence, index: int, end: Estimate) -> Judged:
    """A build with as many pairs as it needs; where it is not sure, the likelier side."""
    found = evidence.estimate(index)
    assert found is not None
    where = side(found, end)
    if where == "unsure":
        return Judged(index, nearest_side(found, end), False, found)
    return Judged(index, where, True, found)


def needed_pairs(evidence: Evidence, index: int) -> int:
    """Pairs that a build needs: more where two builds were not told apart as expected."""
    for good, bad in evidence.confirming:
        is_one = index in (good, bad)
        if is_one and confirmation(evidence, good, bad) == "good":
            return 1 + CONFIRMING_PAIRS
    return 1


def middle(good: int, bad: int, skipped: set[int]) -> int | None:
    """The build nearest to the middle that can be compared; None if there is none."""
    center = (good + bad) / 2
    indices = [index for index in range(good + 1, bad) if index not in skipped]
    return min(indices, key=lambda index: abs(index - center), default=None)


def is_confirmed(evidence: Evidence, good: int, bad: int) -> bool:
    """Whether the pairs of two builds show the loss that is expected between them."""
    return confirmation(evidence, good, bad) == "bad"


def confirmation(evidence: Evidence, good: int, bad: int) -> Side:
    """What the pairs of two builds say of the loss that is expected between them."""
    found = evidence.confirmed(good, bad)
    before, after = evidence.estimate(good), evidence.estimate(bad)
    if found is None or before is None or after is None:
        return "unsure"
    expected = Estimate(
        # A pair in which the good build gained is noise: it is no larger loss now.
        loss=after.loss - max(before.loss, 0.0),
        error=math.hypot(before.error, after.error),
        degrees_of_freedom=found.degrees_of_freedom,
        pairs=after.pairs,
    )
    if expected.loss <= 0:
        return "good"
    told = side(found, expected)
    if told == "unsure" and found.pairs >= MOST_CONFIRMING_PAIRS:
        return nearest_side(found, expected)
    return told


def pairs_left(good: int, bad: int) -> int:
    """The fewest pairs that find the build between two, without those that confirm it."""
    return math.ceil(math.log2(bad - good))


def fewest_pairs(builds: int) -> int:
    """The fewest pairs of a whole search: the ends first, then the builds between them."""
    return 1 + pairs_left(0, builds - 1)


@dataclass(frozen=True)
class Loss:
    """A case in which the bad build lost something for sure."""

    case: str
    estimate: Estimate
    certainty: float
    is_rate: bool


def sure_losses(state: State, cases: Sequence[str] | None = None) -> list[Loss]:
    """Cases in which the bad build is worse, the best one to search by first.

    Speed counts before memory; then what stands out most from the noise. All cases
    together are as seldom wrong as one.

    Args:
        cases: ids to choose from, or patterns of them; None: all.
    """
    found = []
    rows = rows_of_end(state)
    for case in rows:
        if not is_asked(case, cases):
            continue
        evidence = Evidence(state, case)
        end = evidence.estimate(len(evidence.builds) - 1)
        if end is None:
            continue
        margin = end.margin(DOUBT / len(rows))
        if end.loss > max(margin, _floor(rows[case])):
            is_rate = family_of(parse_id(case).metric) in RATE_FAMILIES
            found.append(Loss(case, end, end.loss / end.error, is_rate))
    return sorted(found, key=lambda loss: (loss.is_rate, loss.certainty))[::-1]


def is_asked(case: str, cases: Sequence[str] | None) -> bool:
    """Whether a case may decide: its id, or a pattern of it, is named; None takes all."""
    if cases is None:
        return True
    return any(fnmatch.fnmatchcase(case, name) for name in cases)


def _floor(row: Row) -> float:
    """The smallest loss (log) that counts."""
    reference = row.values[0][0]
    if row.floor == 0:
        return 0.0
    return log_loss(row.floor / reference, row.higher)


def rows_of_end(state: State) -> Mapping[str, Row]:
    """The rows of the bad build's last session with the good one."""
    builds = state.question.builds
    for session in reversed(state.sessions):
        is_end = (session.reference, session.build) == (builds[0], builds[-1])
        if is_end and session.rows and not session.confirms:
            return session.rows
    return {}


def number_of_pairs(state: State, build: str) -> int:
    """How often a build was compared with the good one, whatever became of it."""
    return sum(
        session.build == build and not session.confirms
        for session in state.sessions
    )


def measured_sessions(state: State) -> Iterator[tuple[float, int]]:
    """(seconds, pairs) of each session that was measured."""
    for session in state.sessions:
        if session.outcome == "measured" and session.rows:
            pairs = max(len(row.values) for row in session.rows.values())
            yield session.seconds, pairs
