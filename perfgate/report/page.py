"""What does report.html say?

One file without anything outside it: text, drawings and a few lines of script. It is
made from run data alone; baselines and history make it richer where they are at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfgate.cases import Case
from perfgate.engines.injection import format_injection
from perfgate.judge import run_status
from perfgate.judge.baseline_store import Store
from perfgate.judge.verdict import Outcome
from perfgate.report import notices
from perfgate.report import terminal as report
from perfgate.report.figures import load as figures_load
from perfgate.report.figures import server as figures_server
from perfgate.report.figures import sparse as figures_sparse
from perfgate.report.figures.figure import Picture
from perfgate.report.figures.series import Readings
from perfgate.report.figures.server import Trend
from perfgate.report.headline import (
    SIGNS,
    STATES,
    attention,
    drift,
    level,
    state,
    verdict_sentence,
)
from perfgate.results import timing as timesheet
from perfgate.results.schema import RunResults, VerdictRow

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

MOST_BYTES = 2_000_000
MOST_ITEMS = (
    6  # things that need attention, with all their words; the table has the others
)
MOST_FIELDS = 12  # rows of the table of what drifted


@dataclass(frozen=True)
class Report:
    """Runs to be shown, the last of which is the one in question.

    Attributes:
        store: baselines, for what drifted and for the recorded launches; None leaves
            both out.
        history: case id -> its course over the runs.
    """

    runs: Sequence[RunResults]
    store: Store | None = None
    history: Mapping[str, Trend] = field(default_factory=dict)


def pictures(shown: Report, results: RunResults, prefix: str) -> list[Picture]:
    """Every figure of one run; those that it has no data for say so."""
    run, find = Readings(results), shown.store.find if shown.store else _none
    found = [
        *figures_server.launches(results, run_status.ordered(results), find, prefix),
        figures_load.throughput_over_ranks(run, prefix),
        figures_load.latency_over_batch(run, prefix),
        figures_load.throughput_over_batch(run, prefix),
        figures_load.sparse_over_dense(run, prefix),
        figures_sparse.decoding(run, prefix),
        figures_load.over_rate(run, prefix, "ttft_median_ms", "TTFT"),
        figures_load.over_rate(run, prefix, "itl_median_ms", "ITL"),
        figures_load.gap_distribution(run, prefix),
        *figures_load.timelines(run, prefix),
        figures_server.memory(run, prefix),
        figures_sparse.spread(run, prefix),
        *figures_sparse.experts(run, find, prefix),
    ]
    return found


def _none(case: Case, label: str) -> None:
    return None


def hardware_facts(results: RunResults) -> list[tuple[str, str]]:
    """The machine, in the words of a person."""
    machine = results.hardware
    facts = [
        ("machine", machine.describe),
        ("memory", f"{machine.memory_bytes / 1e9:.0f} GB"),
    ]
    facts += [
        (name, value)
        for name, value in (("driver", machine.driver), ("CUDA", machine.cuda))
        if value
    ]
    if machine.gpus and machine.gpus[0].power_limit_w:
        facts.append(("power limit", f"{machine.gpus[0].power_limit_w:g} W"))
    facts += [
        ("run", results.run_id),
        ("started", results.started),
        ("gate", results.gate),
    ]
    facts += [
        ("suite", results.suite_version),
        ("complete", "yes" if results.complete else "no: it ended early"),
    ]
    if spent := timesheet.told(results.sessions):
        facts.append(("time", spent))
    facts += [("builds", build) for build in notices.builds(results)]
    return [*facts, ("command", " ".join(results.command))]


def rows(shown: Report) -> list[dict[str, Any]]:
    """The table: every case of the last run, then those that only earlier runs have."""
    last = shown.runs[-1]
    by_run = [{row.case: row for row in run.verdicts} for run in shown.runs]
    cases = {case.id: case for run in shown.runs for case in run.cases}
    others: dict[str, VerdictRow] = {}
    for mine in by_run[:-1]:
        others |= {name: row for name, row in mine.items() if name not in others}
    order = [
        *run_status.ordered(last),
        *(row for name, row in others.items() if name not in by_run[-1]),
    ]
    return [
        _row(row, cases[row.case], [mine.get(row.case) for mine in by_run])
        for row in order
        if row.case in cases
    ]


def _row(
    row: VerdictRow, case: Case, each: Sequence[VerdictRow | None]
) -> dict[str, Any]:
    ratio = case.over is not None
    values = [None if r is None else r.value for r in each]
    first, last = values[0], values[-1]
    between = last / first - 1 if len(values) > 1 and first and last else None
    outcome = Outcome(row.outcome)
    return {
        "id": row.case,
        "outcome": row.outcome,
        "sign": SIGNS[outcome],
        "kind": level(outcome),
        "gate": row.gate,
        "experiment": row.experiment,
        "what": report.what(case),
        "metric": row.metric,
        "values": [
            (
                report.figure(value, row.metric, ratio),
                "" if value is None else f"{value:.6g}",
            )
            for value in values
        ],
        "baseline": report.figure(row.baseline, row.metric, ratio),
        "baseline_sort": "" if row.baseline is None else f"{row.baseline:.6g}",
        "change": report.in_words(row, ratio),
        "change_sort": "" if row.change is None else f"{row.change:.6g}",
        "between": "-" if between is None else report.moved(between, row.metric, ratio),
        "between_sort": "" if between is None else f"{between:.6g}",
        "message": row.message,
    }


def launch_rows(results: RunResults) -> list[tuple[str, ...]]:
    """(server, launch, ready, end, what the engine chose, notes) of each launch."""
    return [
        (
            launch.server,
            str(launch.index + 1),
            "-" if launch.start.ready_s is None else f"{launch.start.ready_s:.0f} s",
            launch.start.stop or "-",
            "; ".join(
                f"{name} {value}" for name, value in sorted(launch.effective.items())
            )
            or "-",
            "; ".join(
                [
                    *launch.notes,
                    *(
                        [f"INJECTED {format_injection(launch.injected)}"]
                        if launch.injected
                        else []
                    ),
                ]
            )
            or "-",
        )
        for launch in results.launches
    ]


def context(results: RunResults) -> str:
    """Machine and engines in one line."""
    versions = {
        f"{name} {version}"
        for server in results.servers.values()
        for name, version in server.versions.items()
    }
    early = [] if results.complete else ["ended early"]
    return "; ".join([results.hardware.describe, ", ".join(sorted(versions)), *early])


def software(results: RunResults) -> list[tuple[str, str]]:
    """(server, versions) of each server."""
    return [
        (
            key,
            ", ".join(
                f"{name} {version}" for name, version in sorted(server.versions.items())
            )
            or "-",
        )
        for key, server in results.servers.items()
    ]


def templates() -> Environment:
    """The pages' templates; what they are given is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("perfgate.report")
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["code"] = _code
    return made


def _code(text: str) -> Markup:
    """What stands between backticks, as code; everything is escaped."""
    from markupsafe import Markup

    parts = text.split("`")
    if len(parts) % 2 == 0:
        return Markup().join([text])
    return Markup().join(
        Markup("<code>{}</code>").format(part) if n % 2 else part
        for n, part in enumerate(parts)
    )


def build(shown: Report) -> str:
    """The whole page; messages of passed cases are left out where it would grow beyond MOST_BYTES, and it says so.

    Raises:
        ValueError: no run is given.
    """
    if not shown.runs:
        raise ValueError("a report needs a run")
    runs = [
        _run(shown, results, f"r{n}-" if len(shown.runs) > 1 else "")
        for n, results in enumerate(shown.runs)
    ]
    table = rows(shown)
    values = {
        "runs": runs,
        "rows": table,
        "trends": figures_server.trends(shown.history, ""),
        "outcomes": sorted({row["outcome"] for row in table}),
        "several": len(shown.runs) > 1,
        "cut": False,
    }
    template = templates().get_template("report.html.j2")
    text = template.render(values)
    if len(text.encode()) > MOST_BYTES:
        short = [
            row | {"message": ""}
            if row["kind"] == "pass" or row["gate"] == "report"
            else row
            for row in table
        ]
        text = template.render(values | {"rows": short, "cut": True})
    return text


def _run(shown: Report, results: RunResults, prefix: str) -> dict[str, Any]:
    drifted, items, how = (
        drift(results, shown.store),
        attention(results),
        state(results),
    )
    return {
        "id": results.run_id,
        "state": how.lower(),
        "sign": STATES[how],
        "context": context(results),
        "common": report.in_common(results),
        "sentence": verdict_sentence(results),
        "counts": report.headline(
            results, results.gate == "required", run_status.missing(results)
        ),
        "attention": items[:MOST_ITEMS],
        "more_attention": len(items) - MOST_ITEMS,
        "first": notices.important(results),
        "facts": hardware_facts(results),
        "software": software(results),
        "launches": launch_rows(results),
        "phases": [
            row.words
            for row in timesheet.phases(launch.start for launch in results.launches)
        ],
        "drift": drifted.rows[:MOST_FIELDS],
        "more_drift": len(drifted.rows) - MOST_FIELDS,
        "drifted": "" if shown.store is None or results.against else drifted.sentence,
        "beside": "base build" if results.against else "baseline",
        "pictures": pictures(shown, results, prefix),
    }
