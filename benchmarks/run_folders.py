"""Run folders: the runs below a folder, by what was injected, and their failures.

A folder of whole runs holds one folder for each kind of run (`unchanged`, and one for
each thing injected), and in each the run directories 01, 02, ... What did not end by
itself is no run, unless it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from perfgate.engines.injection import format_injection
from perfgate.judge.verdict import Verdict, is_red, unjudged
from perfgate.results import schema as rundata
from perfgate.results.schema import RunResults

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Kind:
    """The whole runs of one kind, in order of their names."""

    name: str
    runs: tuple[RunResults, ...]

    @property
    def injected(self) -> dict[str, str]:
        """Server -> what was injected in it, in words; several where the runs differ."""
        found: dict[str, dict[str, None]] = {}
        for results in self.runs:
            for launch in results.launches:
                if launch.injected:
                    found.setdefault(launch.server, {})[
                        format_injection(launch.injected)
                    ] = None
        return {server: "; ".join(texts) for server, texts in found.items()}

    @property
    def models(self) -> set[str]:
        """Those whose servers were changed."""
        return {
            results.servers[key].config.model
            for results in self.runs
            for key in injected_servers(results)
        }

    @property
    def title(self) -> str:
        """Its name and what was injected, and how many of its runs were cut off.

        Such as "eager (arguments --enforce-eager)".
        """
        texts = sorted(set(self.injected.values()))
        if cut_off := sum(not results.complete for results in self.runs):
            texts.append(f"{cut_off} of {len(self.runs)} cut off")
        return f"{self.name} ({'; '.join(texts)})" if texts else self.name


def is_whole(run_dir: Path) -> bool:
    """Whether a run there, packed or not, ended by itself."""
    return _is_run(run_dir) and rundata.load(run_dir).complete


def _is_run(run_dir: Path) -> bool:
    return any(
        (run_dir / name).exists()
        for name in (rundata.RESULTS_FILE, f"{rundata.RESULTS_FILE}.gz")
    )


def kinds(folder: Path, cut_off: bool = False) -> Iterator[Kind]:
    """Every kind that has a run, the unchanged ones first.

    Args:
        cut_off: injected runs that were ended from outside too: what they had measured
            by then was measured.
    """
    for path in sorted(
        (p for p in folder.iterdir() if p.is_dir()),
        key=lambda p: (p.name != UNCHANGED, p.name),
    ):
        found = (
            rundata.load(p)
            for p in sorted(path.iterdir())
            if _is_run(p) and ".partial" not in p.name
        )
        may_be_cut = cut_off and path.name != UNCHANGED
        if runs := tuple(
            results for results in found if results.complete or may_be_cut
        ):
            yield Kind(path.name, runs)


def injected_servers(results: RunResults) -> set[str]:
    """Servers in which something was injected."""
    return {launch.server for launch in results.launches if launch.injected}


def red_cases(
    results: RunResults, verdicts: Iterable[Verdict] | None = None
) -> list[str]:
    """Hard cases that fail in required mode, also without a verdict: "CASE OUTCOME".

    Args:
        verdicts: decided anew; None takes those of the run itself.
    """
    rows = list(results.verdicts if verdicts is None else verdicts)
    hard = [(row.case, row.outcome) for row in rows if row.gate == "hard"]
    red = [
        f"{case} {outcome}"
        for case, outcome in hard
        if is_red(outcome, "hard", "required")
    ]
    return red + [
        f"{case.id} (no verdict)" for case in unjudged(results.cases, rows)
    ]


def touched(results: RunResults, models: Iterable[str]) -> set[str]:
    """Cases in which one of the models takes part."""
    wanted = set(models)
    return {
        case.id
        for case in results.cases
        if any(load.server.model in wanted for load in case.loads)
    }
