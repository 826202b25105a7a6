"""What is compared: engine, commit, machine and day of a run, and of its reference."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from perfgate import formatting
from perfgate.engines.injection import format_injection
from perfgate.judge.baseline_store import Published, Recorded, Store
from perfgate.judge.identity import without_side
from perfgate.judge.observation import hardware_label
from perfgate.report.notices import SHORT_COMMIT, version_of
from perfgate.results.schema import RunResults, Server

THIS_RUN, BASELINE, BASE_BUILD = "this run", "baseline", "base build"
_COMMIT = " commit"
MOST_NAMES = 2  # of engines or machines in a cell
_DAY = len("20261128")


@dataclass(frozen=True)
class Side:
    """One of the things compared: its name, and its facts by label."""

    name: str
    facts: Mapping[str, str]


def sides(runs: Sequence[RunResults], store: Store | None) -> list[Side]:
    """The last run, the runs it is compared with, and what it was judged by."""
    run = runs[-1]
    columns = [_of_run(run, THIS_RUN)]
    if run.is_paired:
        columns = [
            _of_run(run, THIS_RUN, is_base=False),
            _of_run(run, BASE_BUILD, is_base=True),
        ]
    for number, other in enumerate(runs[:-1]):
        columns.append(_of_run(other, run_name(number, len(runs))))
    if not run.is_paired and store is not None:
        columns.append(_of_baselines(run, store))
    return columns


def table(columns: Sequence[Side]) -> list[tuple[str, ...]]:
    """A row for each fact that some side has: its label, then a cell for each side."""
    labels: dict[str, None] = {}
    for side in columns:
        labels.update(dict.fromkeys(side.facts))
    rows = []
    for label in labels:
        cells = [side.facts.get(label, "-") for side in columns]
        rows.append((label, *cells))
    return rows


def run_name(number: int, runs: int) -> str:
    """The short name of a run on a page: "run A", "run B", and the last one "this run"."""
    if number == runs - 1:
        return THIS_RUN
    letters = ""
    while number >= 0:
        number, letter = divmod(number, len(ascii_uppercase))
        letters = ascii_uppercase[letter] + letters
        number -= 1
    return f"run {letters}"


def day_of(started: str) -> str:
    """A day as people write it, "25 Nov 2026"; the text itself where it is none."""
    try:
        moment = datetime.datetime.fromisoformat(started)
    except ValueError:
        return started
    return f"{moment.day} {moment:%b %Y}"


def _of_run(
    results: RunResults, name: str, is_base: bool | None = None
) -> Side:
    """A run, or one build of it.

    Args:
        is_base: whether the servers are those of the base build; None takes all.
    """
    servers = {}
    for key, server in results.servers.items():
        if is_base in (None, server.config.build == "base"):
            servers[key] = server
    commits = [results.commit_of(key)[:SHORT_COMMIT] for key in servers]
    facts = {
        "engine": _engines(servers.values()),
        "commit": _listed(commits),
        "machine": results.hardware.place,
        "measured": day_of(results.started),
        "from": _launch_count(results, servers),
        "injected": _injected(results, servers),
    }
    return Side(name, {label: text for label, text in facts.items() if text})


def _engines(servers: Iterable[Server]) -> str:
    names = []
    for server in servers:
        engine = server.config.engine
        version = version_of(engine, server.versions)
        names.append(f"{engine} {version}".strip())
    return _listed(names)


def _launch_count(results: RunResults, servers: Iterable[str]) -> str:
    wanted = set(servers)
    number = sum(launch.server in wanted for launch in results.launches)
    if not number:
        return ""
    launches = formatting.count(number, "launch")
    return f"{launches} of {formatting.count(len(wanted), 'server')}"


def _injected(results: RunResults, servers: Iterable[str]) -> str:
    wanted = set(servers)
    changes = []
    for launch in results.launches:
        if launch.injected and launch.server in wanted:
            changes.append(format_injection(launch.injected))
    return _listed(changes)


def _of_baselines(results: RunResults, store: Store) -> Side:
    """What the baselines of the run's cases say of themselves."""
    recorded = []
    name = "none recorded on this machine"
    for case in results.cases:
        found = store.find(case, hardware_label(results.hardware, case))
        if isinstance(found, Recorded):
            recorded.append((case.numerator.server.engine, found))
        elif isinstance(found, Published):
            name = "published figures only"
    runs: set[str] = set()
    for _, baseline in recorded:
        runs.update(sample.run for sample in baseline.metric.launches)
    if not runs:
        return Side(BASELINE, {"engine": name})
    facts = {
        **_of_contexts(recorded),
        "measured": _days(runs),
        "from": f"launches of {formatting.count(len(runs), 'run')}",
    }
    return Side(
        BASELINE, {label: text for label, text in facts.items() if text}
    )


def _of_contexts(recorded: Iterable[tuple[str, Recorded]]) -> dict[str, str]:
    """Engines, commits and machines of recorded launches."""
    engines: list[str] = []
    commits: list[str] = []
    machines: list[str] = []
    for engine, found in recorded:
        for name, value in found.context.items():
            field = without_side(name)
            if field in (engine, f"{engine}-cpu"):
                engines.append(f"{engine} {value}")
            elif field.endswith(_COMMIT):
                commits.append(value[:SHORT_COMMIT])
            elif field == "machine":
                machines.append(value)
    return {
        "engine": _listed(engines),
        "commit": _listed(commits),
        "machine": _listed(machines),
    }


def _days(runs: Iterable[str]) -> str:
    """The first and the last day of runs, by their ids."""
    days = sorted({run[:_DAY] for run in runs})
    first, last = day_of(days[0]), day_of(days[-1])
    if first == last:
        return first
    month = first.partition(" ")[2]
    if last.endswith(month):
        first = first.removesuffix(f" {month}")
    return f"{first} to {last}"


def _listed(texts: Iterable[str]) -> str:
    """The first different texts, and how many more there are."""
    different = [text for text in dict.fromkeys(texts) if text]
    shown = ", ".join(different[:MOST_NAMES])
    rest = len(different) - MOST_NAMES
    if rest > 0:
        shown += f" and {rest} more"
    return shown
