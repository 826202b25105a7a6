"""Bisections without an engine: builds whose losses are told, and their sessions of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perfgate.bisect.bisection import Bisection, Rules
from perfgate.bisect.builds import Build, BuildFailed, ReadyBuild
from perfgate.bisect.pair_session import Comparison
from perfgate.bisect.state import Question, Row, Session, State

CASE = "vllm-llama/closed-c32/itl_median_ms"
THROUGHPUT = "vllm-llama/closed-c32/output_throughput"
MEMORY = "vllm-llama/launch/weights_bytes_per_rank"
QUIET_CV = 0.003


def row(losses: Sequence[float], case: str = CASE, cv: float = QUIET_CV) -> Row:
    """A row whose builds are worse by these fractions, one for each pair."""
    values = tuple((10.0, 10.0 * (1 + loss)) for loss in losses)
    higher = case == THROUGHPUT
    if higher:
        values = tuple((10.0, 10.0 * (1 - loss)) for loss in losses)
    return Row(
        values=values, unit="ms", higher=higher, cv=cv, degrees_of_freedom=20.0
    )


def session(
    build: str,
    losses: Sequence[float],
    reference: str = "b0",
    confirms: bool = False,
    cv: float = QUIET_CV,
) -> Session:
    """A session of pairs that was measured."""
    return Session(
        reference=reference,
        build=build,
        run="run",
        outcome="measured",
        seconds=60.0 * len(losses),
        confirms=confirms,
        rows={CASE: row(losses, cv=cv)},
    )


def state(builds: int, *sessions: Session) -> State:
    """The state of a bisection of b0, b1, ..."""
    names = tuple(f"b{number}" for number in range(builds))
    question = Question(engine="vllm", builds=names, arguments=("-m", "h200"))
    return State(question=question, sessions=sessions)


@dataclass
class ToldPairs:
    """Pairs of builds whose values are told.

    Attributes:
        losses: build -> by which fraction it is worse than the first one.
        broken: builds that do not start.
        invalid: builds without a value that counts.
        lapses: build -> numbers of its pairs with the first one that give no value.
        noise: added to the losses of the pairs, one after the other.
        asked: every comparison, in order.
    """

    losses: Mapping[str, float]
    broken: Sequence[str] = ()
    invalid: Sequence[str] = ()
    lapses: Mapping[str, Sequence[int]] = field(default_factory=dict)
    noise: list[float] = field(default_factory=list)
    asked: list[Comparison] = field(default_factory=list)

    def measure(self, comparison: Comparison) -> Session:
        """What is told of the two builds."""
        self.asked.append(comparison)
        names = comparison.reference.name, comparison.build.name
        outcome, reason = "measured", ""
        if names[1] in self.broken:
            outcome, reason = "failed", "it ended before it was ready"
        elif names[1] in self.invalid or self._lapses(comparison):
            outcome, reason = "invalid", "the client was starved"
        rows = {}
        if outcome == "measured":
            rows = self._rows(names, 3 if comparison.confirms else 1)
        return Session(
            reference=names[0],
            build=names[1],
            run=comparison.run,
            outcome=outcome,
            seconds=60.0,
            reason=reason,
            confirms=comparison.confirms,
            rows=rows,
        )

    def _lapses(self, comparison: Comparison) -> bool:
        name = comparison.build.name
        number = sum(name == asked for asked in self.order)
        return not comparison.confirms and number in self.lapses.get(name, ())

    def _rows(self, names: tuple[str, str], pairs: int) -> dict[str, Row]:
        before, after = (self.losses.get(name, 0.0) for name in names)
        losses = []
        for _ in range(pairs):
            noise = self.noise.pop(0) if self.noise else 0.0
            losses.append((1 + after) / (1 + before) - 1 + noise)
        memory = row([0.0] * pairs, MEMORY, cv=0.001)
        return {CASE: row(losses), MEMORY: memory}

    @property
    def order(self) -> list[str]:
        """The builds that were compared, "REFERENCE>BUILD" where they confirm."""
        names = []
        for comparison in self.asked:
            name = comparison.build.name
            if comparison.confirms:
                name = f"{comparison.reference.name}>{name}"
            names.append(name)
        return names


@dataclass(frozen=True)
class UnmadeBuild:
    """A build whose command fails."""

    name: str
    title: str = "unmade"

    def python(self):
        """It has none."""
        raise BuildFailed(tried="making it", seen="exit status 2", remedy="-")


def bisection(
    pairs: ToldPairs,
    builds: int = 8,
    begun: State | None = None,
    rules: Rules | None = None,
    unmade: Sequence[str] = (),
) -> tuple[Bisection, list[State], list[str]]:
    """A bisection, the states that it saves, and the lines that it tells."""
    saved: list[State] = []
    told: list[str] = []
    begun = begun or state(builds)
    made: list[Build] = []
    for name in begun.question.builds:
        build: Build = ReadyBuild(name, "/bin/true")
        if name in unmade:
            build = UnmadeBuild(name)
        made.append(build)
    found = Bisection(
        begun, made, pairs, saved.append, told.append, rules or Rules()
    )
    return found, saved, told


def slow_from(first_bad: int, loss: float = 0.1, builds: int = 8):
    """Build -> loss: nothing up to one of them, then all of it."""
    return {f"b{number}": loss for number in range(first_bad, builds)}
