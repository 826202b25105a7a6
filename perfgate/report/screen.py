"""Screen: what a terminal shows of a run: the answer, the table, then the details.

A session and `perfgate judge` show the same. A log has no width: there a message is one
line, whatever its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from perfgate.judge import run_status
from perfgate.judge.verdict import Outcome
from perfgate.report import brief, diagnosis_text, notices, terminal
from perfgate.results.schema import RunResults
from perfgate.wrapping import wrapped

_COLOURS = {
    "Red": Outcome.REGRESSED,
    "Green": Outcome.PASSED,
    "Undecided": Outcome.NO_BASELINE,
}


@dataclass(frozen=True)
class Screen:
    """Where a run is shown, and how much of it.

    Attributes:
        run: the run directory, for commands that can be copied.
        width: of the terminal, in columns.
        is_terminal: whether a terminal shows it, in its width and in colours.
        everything: whether every case and every fact is shown.
    """

    run: str
    width: int
    is_terminal: bool
    everything: bool = False

    def answer(self, results: RunResults, missing: int) -> Iterator[str]:
        """Verdict, what moved, why, what to do; then the table.

        Args:
            missing: cases that were selected and have no verdict.
        """
        first, *others = brief.lines(results, self.run, missing)
        colour = _COLOURS[run_status.state(results)]
        for line in self.fitted(first).split("\n"):
            yield terminal.coloured(line, colour, self.is_terminal)
        for text in others:
            yield self.fitted(text)
        yield terminal.table(
            results, self.width, self.is_terminal, self.everything
        )

    def details(self, results: RunResults) -> Iterator[str]:
        """What the answer rests on, below the table."""
        for text in self._details(results):
            yield self.fitted(text)

    def _details(self, results: RunResults) -> Iterator[str]:
        yield from filter(None, [terminal.in_common(results)])
        yield from terminal.engine_notes(results, self.everything)
        yield from terminal.groups(results, self.run, self.everything)
        yield from diagnosis_text.render_all(results, self.run)
        yield from notices.faults(results)
        yield from notices.not_counted(results)
        yield from notices.unchecked(results)

    def fitted(self, text: str) -> str:
        """The text as wide as the terminal; as it is in a log."""
        if not self.is_terminal:
            return text
        return wrapped(text, self.width)
