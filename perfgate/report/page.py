"""Page: report.html, one file with text, drawings and a few lines of script.

It is made from run data alone; baselines and history make it richer where they are at
hand. Nothing outside the file is loaded.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfgate import formatting
from perfgate.cases import Case, title
from perfgate.engines.injection import format_injection
from perfgate.judge import run_status
from perfgate.judge.baseline_store import Baseline, Store
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Verdict
from perfgate.report import (
    compared,
    first_screen,
    notices,
    questions,
    terminal,
    tiles,
    verdict_text,
)
from perfgate.report.figures import cost as figures_cost
from perfgate.report.figures import gaps as figures_gaps
from perfgate.report.figures import load as figures_load
from perfgate.report.figures import overlaid
from perfgate.report.figures import ratios as figures_ratios
from perfgate.report.figures import saturation as figures_saturation
from perfgate.report.figures import server as figures_server
from perfgate.report.figures import sparse as figures_sparse
from perfgate.report.figures import trend as figures_trend
from perfgate.report.figures.figure import Picture
from perfgate.report.figures.trend import Trend
from perfgate.report.headline import (
    SIGNS,
    STATES,
    attention,
    drift,
    level,
    other_versions,
    verdict_sentence,
)
from perfgate.results import timing
from perfgate.results.samples import RunIndex
from perfgate.results.schema import Launch, RunResults

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

MOST_BYTES = 2_000_000
# Figures that answer the study, the most telling first.
LEADING_FIGURES = ("ranks", "ratio", "launches", "latency", "throughput")
MOST_ITEMS = 6  # that need attention, in full; the table has the others
MOST_FIELDS = 12  # rows of the table of changed context


@dataclass(frozen=True)
class Report:
    """Runs to be shown; the last one is judged, the others are for comparison.

    Attributes:
        store: baselines, for changed context and for the recorded launches; None
            leaves both out.
        history: case id -> its course over the runs.
        judged: when and by what; "" in the report of the session that measured it.
        gpu_hour_price: for the cost of tokens; None leaves it out.
        run_path: the last run's directory, for commands that can be copied.
    """

    runs: Sequence[RunResults]
    store: Store | None = None
    history: Mapping[str, Trend] = field(default_factory=dict)
    judged: str = ""
    gpu_hour_price: float | None = None
    run_path: str = "RUN"


def pictures(report: Report, results: RunResults, prefix: str) -> list[Picture]:
    """Every figure of one run; those that it has no data for say so."""
    reader = RunReader(results)
    run = reader.index
    find: Callable[[Case, str], Baseline | None] = _no_baseline
    if report.store is not None:
        find = report.store.find
    return [
        *figures_server.launches(
            reader, run_status.ordered(results), find, prefix
        ),
        figures_ratios.throughput_over_ranks(run, prefix),
        figures_load.latency_over_batch(run, prefix),
        figures_load.throughput_over_batch(run, prefix),
        *figures_saturation.curves([("", run)], prefix),
        *figures_cost.pictures(run, prefix, report.gpu_hour_price),
        figures_ratios.model_over_reference(run, prefix),
        figures_sparse.decoding(run, prefix),
        figures_load.over_rate(run, prefix, "ttft_median_ms", "TTFT"),
        figures_load.over_rate(run, prefix, "itl_median_ms", "ITL"),
        figures_gaps.gap_distribution(run, prefix),
        *figures_gaps.timelines(run, prefix),
        figures_server.memory(run, prefix),
        figures_sparse.expert_parallelism(run, prefix),
        *figures_sparse.experts(run, find, prefix),
    ]


def _no_baseline(case: Case, label: str) -> None:
    return None


def hardware_facts(results: RunResults) -> list[tuple[str, str]]:
    """The machine and the run, as names and texts."""
    machine = results.hardware
    facts = [("machine", machine.description)]
    if machine.memory_bytes is not None:
        facts.append(("memory", f"{machine.memory_bytes / 1e9:.0f} GB"))
    versions = {"driver": machine.driver, "CUDA": machine.cuda}
    for name, version in versions.items():
        if version:
            facts.append((name, version))
    limits = [f"{limit_w:g} W" for limit_w in machine.power_limits_w]
    if limits:
        facts.append(("power limit", " or ".join(limits)))
    facts += [("GPUs", note) for note in machine.gpu_notes]
    complete = "yes" if results.is_whole else "no (ended early)"
    if results.measured_nothing:
        complete = "no (nothing was measured)"
    facts += [
        ("run", results.run_id),
        ("started", results.started),
        ("gate", results.gate),
        ("suite", results.suite_version),
        ("complete", complete),
    ]
    spent = timing.format_sessions(results.sessions)
    if spent:
        facts.append(("time", spent))
    facts += [("builds", build) for build in notices.builds(results)]
    return [*facts, ("command", shlex.join(results.command))]


def _judged_fact(report: Report) -> list[tuple[str, str]]:
    if not report.judged:
        return []
    return [("judged", report.judged)]


def rows(report: Report) -> list[dict[str, Any]]:
    """The table: every case of the last run, then those that only earlier runs have."""
    by_run = [_verdicts_by_case(run) for run in report.runs]
    case_ids: set[str] = set()
    for run in report.runs:
        case_ids |= {case.id for case in run.cases}
    table = []
    for case_id, row in _latest_verdicts(report).items():
        if case_id in case_ids:
            verdicts = [verdicts.get(case_id) for verdicts in by_run]
            table.append(_row(row, verdicts) | _owner(row, verdicts))
    return table


def _owner(row: Verdict, by_run: Sequence[Verdict | None]) -> dict[str, str]:
    """The run that a verdict is of, where the last one has none."""
    if by_run[-1] is not None:
        return {"of": ""}
    numbers = [n for n, verdict in enumerate(by_run) if verdict is not None]
    name = compared.run_name(numbers[0], len(by_run))
    return {"of": name, "label": f"{verdict_text.outcome(row)}, {name}"}


def _verdicts_by_case(run: RunResults) -> dict[str, Verdict]:
    return {row.case: row for row in run.verdicts}


def _latest_verdicts(report: Report) -> dict[str, Verdict]:
    """Case -> its verdict in the last run, else in the first run that has one."""
    verdicts = {}
    for row in run_status.ordered(report.runs[-1]):
        verdicts[row.case] = row
    for run in report.runs[:-1]:
        for row in run.verdicts:
            verdicts.setdefault(row.case, row)
    return verdicts


def _row(row: Verdict, by_run: Sequence[Verdict | None]) -> dict[str, Any]:
    values = []
    for verdict in by_run:
        value = None
        if verdict is not None:
            value = verdict.value
        text = formatting.number(value, row.unit)
        values.append((text, _sort_key(value)))
    trend = _change_over_runs(by_run)
    trend_text = "-"
    if trend is not None:
        trend_text = formatting.change_in_words(trend, row.unit)
    return {
        "id": row.case,
        "outcome": row.outcome.value,
        "label": verdict_text.outcome(row),
        "sign": SIGNS[row.outcome],
        "kind": level(row.outcome),
        "gate": row.gate,
        "experiment": row.experiment,
        "asks": questions.ASKS.get(row.experiment, ""),
        "load": title(row.case),
        "metric": questions.metric_name(row.metric),
        "definition": tiles.definition(row.metric),
        "values": values,
        "baseline": verdict_text.baseline(row),
        "baseline_sort": _sort_key(row.baseline),
        "change": verdict_text.change(row),
        "change_sort": _sort_key(row.change),
        "allowed": verdict_text.allowed(row),
        "allowed_sort": _sort_key(row.limit),
        "between": trend_text,
        "between_sort": _sort_key(trend),
        "message": verdict_text.render(row),
    }


def _change_over_runs(by_run: Sequence[Verdict | None]) -> float | None:
    """The change from the first run to the last; None where there is none."""
    first, last = by_run[0], by_run[-1]
    if len(by_run) < 2 or first is None or last is None:
        return None
    if not first.value or not last.value:
        return None
    return last.value / first.value - 1


def _sort_key(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"


def launch_rows(results: RunResults) -> list[tuple[str, ...]]:
    """(server, launch, ready, end, what the engine chose, notes) of each launch."""
    return [_launch_row(launch) for launch in results.launches]


def _launch_row(launch: Launch) -> tuple[str, ...]:
    ready = "-"
    if launch.start.ready_s is not None:
        ready = f"{launch.start.ready_s:.0f} s"
    chosen = []
    for name, value in sorted(launch.effective.items()):
        chosen.append(f"{name} {value}")
    notes = list(launch.notes)
    if launch.injected:
        notes.append(f"INJECTED {format_injection(launch.injected)}")
    return (
        launch.server,
        str(launch.index + 1),
        ready,
        launch.start.stop or "-",
        "; ".join(chosen) or "-",
        "; ".join(notes) or "-",
    )


def load_commands(results: RunResults) -> list[tuple[str, str, str]]:
    """(server, workload, command) of each load, to send it by hand with `vllm bench serve`."""
    commands = {}
    for row in results.measurements:
        if row.vllm_bench_command:
            commands[row.server, row.workload] = row.vllm_bench_command
    return [(*load, command) for load, command in commands.items()]


def context(results: RunResults) -> str:
    """Machine and engines in one line."""
    versions = set()
    for server in results.servers.values():
        for name, version in server.versions.items():
            versions.add(f"{name} {version}")
    parts = [results.hardware.place, ", ".join(sorted(versions))]
    if not (results.is_whole or results.measured_nothing):
        parts.append("ended early")
    return "; ".join(parts)


def software(results: RunResults) -> Iterator[tuple[str, str]]:
    """(server, versions) of each server."""
    for key, server in results.servers.items():
        versions = []
        for name, version in sorted(server.versions.items()):
            versions.append(f"{name} {version}")
        yield key, ", ".join(versions) or "-"


def templates() -> Environment:
    """The pages' templates; what they are given is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("perfgate.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    return environment


def _code(text: str) -> Markup:
    """Text between backticks as code; everything is escaped."""
    from markupsafe import Markup

    parts = text.split("`")
    if len(parts) % 2 == 0:
        return Markup().join([text])
    marked: list[str | Markup] = []
    for number, part in enumerate(parts):
        if number % 2 == 1:
            # A word of a command is not broken at its hyphens.
            words = map(Markup("<span>{}</span>").format, part.split(" "))
            marked.append(
                Markup("<code>{}</code>").format(Markup(" ").join(words))
            )
        else:
            marked.append(part)
    return Markup().join(marked)


def build(report: Report) -> str:
    """The whole page.

    Where it would grow beyond MOST_BYTES it leaves out the texts of cases that passed
    or are report-only, and says so.

    Raises:
        ValueError: no run is given.
    """
    if not report.runs:
        raise ValueError("a report needs a run")
    several = len(report.runs) > 1
    runs = []
    for number, results in enumerate(report.runs):
        prefix = f"r{number}-" if several else ""
        run = _run(report, results, prefix)
        name = compared.run_name(number, len(report.runs))
        column = name if several else "value"
        runs.append(run | {"name": name, "column": column})
    table = rows(report)
    together = _overlaid(report.runs)
    lead = _lead(together or runs[-1]["pictures"])
    for run in runs:
        run["pictures"] = _without(run["pictures"], lead)
    values = _first_screen(report) | {
        "runs": runs,
        "rows": table,
        "lead": lead,
        "overlaid": _without(together, lead),
        "trends": figures_trend.trends(report.history, ""),
        "outcomes": sorted({row["outcome"] for row in table}),
        "words": words(report.runs),
        "several": several,
        "cut": False,
    }
    template = templates().get_template("report.html.j2")
    text = template.render(values)
    if len(text.encode()) > MOST_BYTES:
        short = [_without_message(row) for row in table]
        text = template.render(values | {"rows": short, "cut": True})
    return text


def _first_screen(report: Report) -> dict[str, Any]:
    """What answers the four questions, what is compared, and the study's answers."""
    results = report.runs[-1]
    columns = compared.sides(report.runs, report.store)
    answers = tiles.tiles(results)
    return {
        "answer": first_screen.answer(results),
        "started": compared.day_of(results.started),
        "replies": first_screen.replies(
            report.runs, report.store, report.run_path
        ),
        "sides": [side.name for side in columns],
        "facts": compared.table(columns),
        "tiles": answers[: tiles.MOST_SHOWN],
        "more_tiles": answers[tiles.MOST_SHOWN :],
    }


def _lead(pictures: Sequence[Picture]) -> Picture | None:
    """The figure of the first screen: the first of the study's that is drawn."""
    drawn = [picture for picture in pictures if picture.svg]
    for name in LEADING_FIGURES:
        for picture in drawn:
            if picture.key.endswith(name):
                return picture
    return drawn[0] if drawn else None


def _without(
    pictures: Sequence[Picture], lead: Picture | None
) -> list[Picture]:
    return [picture for picture in pictures if picture is not lead]


def words(runs: Sequence[RunResults]) -> list[tuple[str, str, str]]:
    """(name, in full, what it means) of each question and metric on the page."""
    experiments: dict[str, None] = {}
    metrics: dict[str, None] = {}
    for run in runs:
        for row in run_status.ordered(run):
            experiments[row.experiment] = None
            metrics[row.metric] = None
    found = []
    for number in sorted(experiments, key=lambda name: (len(name), name)):
        subject = questions.SUBJECTS.get(number, "")
        found.append((number, subject, questions.ASKS.get(number, "")))
    for name in sorted(metrics):
        label = questions.metric_name(name)
        found.append((label, name, tiles.definition(name)))
    return found


def _overlaid(runs: Sequence[RunResults]) -> list[Picture]:
    """What several runs have in common, on the same axes."""
    if len(runs) < 2:
        return []
    named = []
    for number, run in enumerate(runs):
        name = compared.run_name(number, len(runs))
        named.append(overlaid.NamedRun(name, RunIndex(run)))
    return overlaid.pictures(named)


def _without_message(row: dict[str, Any]) -> dict[str, Any]:
    if row["kind"] == "pass" or row["gate"] == "report":
        return row | {"message": ""}
    return row


def _run(report: Report, results: RunResults, prefix: str) -> dict[str, Any]:
    changed = drift(results, report.store)
    versions = filter(None, [other_versions(results, report.store)])
    items = attention(results, report.run_path)
    state = run_status.state(results)
    starts = [launch.start for launch in results.launches]
    sentence = changed.sentence
    if report.store is None or results.is_paired:
        sentence = ""
    return {
        "id": results.run_id,
        "state": state.lower(),
        "sign": STATES[state],
        "context": context(results),
        "common": terminal.in_common(results),
        "sentence": verdict_sentence(results),
        "counts": terminal.totals_line(
            results, results.gate, run_status.missing(results)
        ),
        "attention": items[:MOST_ITEMS],
        "more_attention": len(items) - MOST_ITEMS,
        "first": [*notices.important(results), *versions],
        "facts": hardware_facts(results) + _judged_fact(report),
        "software": list(software(results)),
        "launches": launch_rows(results),
        "commands": load_commands(results),
        "phases": [row.cells for row in timing.phases(starts)],
        "drift": changed.rows[:MOST_FIELDS],
        "more_drift": len(changed.rows) - MOST_FIELDS,
        "drifted": sentence,
        "reference": "base build" if results.is_paired else "baseline",
        "pictures": pictures(report, results, prefix),
    }
