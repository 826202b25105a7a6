"""Stored run as a command shows it: judged anew, or as it was judged then."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from perfgate.judge.baseline_store import Store
    from perfgate.results.schema import RunResults

AS_THEN = click.option(
    "--as-then",
    is_flag=True,
    help="Show the verdicts of when it was measured, instead of judging it again.",
)


@dataclass(frozen=True)
class Shown:
    """A run with the verdicts that are shown.

    Attributes:
        store: the baselines, where it is judged anew without launches of this run.
        line: when and by what it was judged.
    """

    results: RunResults
    store: Store
    line: str


def shown(results: RunResults, store: Store, as_then: bool) -> Shown:
    """The run judged anew by these baselines, or as it was judged then."""
    # Imported here: `--help` must not wait for numpy and rich.
    from perfgate.judge.run_status import judged_again
    from perfgate.report import headline

    if as_then:
        return Shown(results, store, headline.judged_then(results))
    results = judged_again(results, store)
    store = store.without_run(results.run_id)
    day = datetime.date.today().isoformat()
    return Shown(results, store, headline.judged_now(results, store, day))
