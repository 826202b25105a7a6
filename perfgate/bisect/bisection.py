"""Bisection: compares builds in pairs until one answer is left, and confirms it.

First the bad build is compared with the good one, until the loss is sure: that is the
case that decides, and its size. Then builds between them are compared with the good
one. At last three pairs compare the last good build with the first bad one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from perfgate import formatting
from perfgate.bisect import cost, search
from perfgate.bisect.builds import Build, BuildFailed
from perfgate.bisect.pair_session import Comparison, NamedPython, Pairs
from perfgate.bisect.search import Evidence, Position, Sides
from perfgate.bisect.sequential import Estimate
from perfgate.bisect.state import BadBisection, Session, State

MOST_PAIRS = 8
# Sessions that may confirm an answer.
CONFIRMATIONS = search.MOST_CONFIRMING_PAIRS // search.CONFIRMING_PAIRS


@dataclass(frozen=True)
class Rules:
    """What decides, and when.

    Attributes:
        cases: ids of the cases that may decide, or patterns of them; None: all.
        most_pairs: of one build with the good one; then the likelier side counts.
    """

    cases: tuple[str, ...] | None = None
    most_pairs: int = MOST_PAIRS


DEFAULT_RULES = Rules()


@dataclass(frozen=True)
class Answer:
    """What a bisection found.

    Attributes:
        evidence: the pairs of the case that decided.
        position: the last good build and the first bad one.
        effect: the loss of the bad end.
        confirmation: the session that compared the two; None if none was measured.
        others: ids of other cases in which the bad end is worse.
    """

    state: State
    evidence: Evidence
    position: Position
    effect: Estimate
    confirmation: Session | None
    others: tuple[str, ...] = ()

    @property
    def is_confirmed(self) -> bool:
        """Whether the first bad build is worse than the last good one, side by side."""
        place = self.position
        return search.is_confirmed(self.evidence, place.good, place.bad)

    @property
    def case(self) -> str:
        """Id of the case that decided."""
        return self.evidence.case


class Bisection:
    """Looks for the first bad build.

    Args:
        state: where an earlier command stopped, or a new one.
        builds: the good one first, the bad one last.
        pairs: compares two builds.
        save: keeps the state; called after each session.
        tell: shows a line of progress.
    """

    def __init__(
        self,
        state: State,
        builds: Sequence[Build],
        pairs: Pairs,
        save: Callable[[State], None],
        tell: Callable[[str], None],
        rules: Rules = DEFAULT_RULES,
    ) -> None:
        self.state = state
        self.builds = tuple(builds)
        self._pairs = pairs
        self._save = save
        self._tell = tell
        self._cases = rules.cases
        self._most_pairs = rules.most_pairs

    def run(self) -> Answer:
        """Compare until there is an answer.

        Raises:
            BadBisection: the bad build is not worse, or an end cannot be launched.
        """
        losses = self._losses_of_end()
        case = losses[0].case
        shown: Sides = ()
        while True:
            evidence = Evidence(self.state, case)
            place = search.position(evidence, self._most_pairs)
            if shown != place.sides:
                self._show(evidence, place)
                shown = place.sides
            if place.next is not None:
                self._compare(place.next, self._left(place))
                continue
            if self._is_done(evidence, place):
                others = tuple(loss.case for loss in losses[1:])
                return self._answer(evidence, place, others)
            self._confirm(place)

    def _losses_of_end(self) -> list[search.Loss]:
        """What the bad build lost against the good one; measured until it is sure."""
        last = len(self.builds) - 1
        while True:
            losses = search.sure_losses(self.state, self._cases)
            if losses:
                return losses
            name = self.builds[last].name
            self._refuse_end(last)
            self._refuse_unknown_case()
            if search.number_of_pairs(self.state, name) >= self._most_pairs:
                raise self._nothing_lost(name)
            left = search.fewest_pairs(len(self.builds))
            self._compare(last, left)

    def _refuse_end(self, last: int) -> None:
        """Refuse a bad build that cannot be launched."""
        name = self.builds[last].name
        sessions = [row for row in self.state.sessions if row.build == name]
        lost = [row for row in sessions if row.outcome != "measured"]
        is_failed = any(row.outcome == "failed" for row in lost)
        is_never_valid = len(lost) == len(sessions) >= search.TRIES
        if is_failed or is_never_valid:
            raise BadBisection(
                tried=f"comparing the bad build {name} with the good one",
                seen=lost[-1].reason,
                remedy="mend it, or name another build with --bad; then begin anew in "
                "another --folder: what failed here is not launched again",
            )

    def _refuse_unknown_case(self) -> None:
        """Refuse cases of which the ends have measured none."""
        known = search.rows_of_end(self.state)
        if not known or any(search.is_asked(row, self._cases) for row in known):
            return
        named = formatting.listed(self._cases or ())
        raise BadBisection(
            tried=f"--case {named}",
            seen=f"the tests that are selected judge {formatting.listed(list(known))}",
            remedy="name one of these, or select the test that judges it",
        )

    def _nothing_lost(self, name: str) -> BadBisection:
        rows = search.rows_of_end(self.state)
        texts = []
        for case in rows:
            if not search.is_asked(case, self._cases):
                continue
            evidence = Evidence(self.state, case)
            found = evidence.estimate(len(self.builds) - 1)
            if found is not None:
                texts.append(f"{case} {loss_text(evidence, found)}")
        return BadBisection(
            tried=f"finding what {name} lost against {self.builds[0].name}",
            seen=f"no sure loss in {formatting.count(self._most_pairs, 'pair')}: "
            f"{formatting.listed(texts) or 'no case was measured'}",
            remedy="select the load that lost something, look on the machine where it "
            "did, or add pairs with --most-pairs",
        )

    def _compare(self, index: int, left: int) -> None:
        """One more pair of a build with the good one."""
        build = self.builds[index]
        number = search.number_of_pairs(self.state, build.name)
        where = f"build {index + 1} of {len(self.builds)}"
        minutes = cost.left(self.state, left)
        self._tell(f"{where}, {build.title}: pair {number + 1}{minutes}")
        run = f"build-{index + 1:03}-pair-{number + 1}"
        # The build goes first: if it does not start, the good one need not.
        self._measure(index, 0, run, is_swapped=number % 2 == 0)

    def _confirm(self, place: Position) -> None:
        good, bad = self.builds[place.good], self.builds[place.bad]
        number = 1 + len(self._confirmations(place))
        minutes = cost.left(self.state, search.CONFIRMING_PAIRS)
        pairs = formatting.count(search.CONFIRMING_PAIRS, "pair")
        self._tell(
            f"confirming: {bad.title} against {good.title}, {pairs}{minutes}"
        )
        run = f"confirm-{place.good + 1:03}-{place.bad + 1:03}-{number}"
        self._measure(place.bad, place.good, run, confirms=True)

    def _measure(
        self,
        index: int,
        reference: int,
        run: str,
        is_swapped: bool = False,
        confirms: bool = False,
    ) -> None:
        names = self.builds[reference].name, self.builds[index].name
        try:
            python = self.builds[index].python()
        except BuildFailed as failure:
            session = Session(
                reference=names[0],
                build=names[1],
                run="",
                outcome="failed",
                reason=failure.seen,
                confirms=confirms,
            )
        else:
            comparison = Comparison(
                reference=NamedPython(names[0], self._reference(reference)),
                build=NamedPython(names[1], python),
                run=run,
                is_swapped=is_swapped,
                confirms=confirms,
            )
            session = self._pairs.measure(comparison)
        if session.outcome != "measured":
            first_line = session.reason.partition("\n")[0]
            self._tell(f"no pair of {names[1]}: {first_line}")
        self.state = msgspec.structs.replace(
            self.state, sessions=(*self.state.sessions, session)
        )
        self._save(self.state)

    def _reference(self, index: int) -> Path:
        try:
            return self.builds[index].python()
        except BuildFailed as failure:
            raise BadBisection(
                tried=failure.tried, seen=failure.seen, remedy=failure.remedy
            ) from failure

    def _left(self, place: Position) -> int:
        return max(1, search.pairs_left(place.good, place.bad))

    def _show(self, evidence: Evidence, place: Position) -> None:
        judged = place.judged[-1]
        build = self.builds[judged.index]
        name = judged.side if judged.is_sure else f"probably {judged.side}"
        if judged.index == len(self.builds) - 1:
            name = "bad, as given"
        pairs = formatting.count(judged.estimate.pairs, "pair")
        text = loss_text(evidence, judged.estimate)
        self._tell(f"{build.title} is {name}: {evidence.case} {text}, {pairs}")

    def _confirmations(self, place: Position) -> list[Session]:
        names = self.builds[place.good].name, self.builds[place.bad].name
        found = []
        for session in self.state.sessions:
            is_these = (session.reference, session.build) == names
            if is_these and session.confirms:
                found.append(session)
        return found

    def _is_done(self, evidence: Evidence, place: Position) -> bool:
        if search.is_confirmed(evidence, place.good, place.bad):
            return True
        return len(self._confirmations(place)) >= CONFIRMATIONS

    def _answer(
        self, evidence: Evidence, place: Position, others: tuple[str, ...]
    ) -> Answer:
        confirmation = None
        for session in self._confirmations(place):
            if session.outcome == "measured":
                confirmation = session
        effect = evidence.estimate(len(self.builds) - 1)
        assert effect is not None
        return Answer(
            state=self.state,
            evidence=evidence,
            position=place,
            effect=effect,
            confirmation=confirmation,
            others=others,
        )


def loss_text(evidence: Evidence, found: Estimate) -> str:
    """A loss with its interval: "loss +6.1 % (+5.2 to +7.0 %)"; a gain is negative."""
    low, high = found.limits()
    interval = formatting.signed_range(
        evidence.fraction(low), evidence.fraction(high)
    )
    loss = formatting.signed_percent(evidence.fraction(found.loss))
    return f"loss {loss} ({interval})"
