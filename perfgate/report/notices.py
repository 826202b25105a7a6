"""Notices: what did not run, failed servers and injected changes, a line each.

For a terminal as for a page. Verdicts are shown elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from perfgate import formatting
from perfgate.cases import parse_id
from perfgate.engines.injection import format_injection
from perfgate.foreign_text import one_line
from perfgate.judge.run_status import is_compared
from perfgate.judge.verdict import Outcome
from perfgate.load.frozen import Frozen
from perfgate.load.metrics import family_of
from perfgate.load.repetition import Repetition
from perfgate.results.schema import Measurement, RunResults, Server
from perfgate.servers.removed import removed_notice

MOST_NAMES = 3  # of cases in a line
SHORT_COMMIT = 10  # digits

_NOT_COMPARED = frozenset({Outcome.NO_BASELINE, Outcome.INCOMPARABLE})


def lacking(results: RunResults) -> list[str]:
    """Cases of the suite without a verdict and why, equal reasons together."""
    consequence = "fails with --gate=required"
    if results.gate != "advisory":
        consequence = "fails the run"
    lines = []
    for reason, number in Counter(results.lacking.values()).items():
        cases = formatting.count(number, "case")
        lines.append(f"No verdict for {cases} ({consequence}): {reason}")
    return lines + _lacking_as_a_whole(results, consequence)


def failing_as_a_whole(results: RunResults) -> list[str]:
    """What fails the run by its gate though each of its rows passed; a line each."""
    if results.gate == "advisory":
        return []
    return [
        *_lacking_as_a_whole(results, "fails the run"),
        *ended_early(results),
    ]


def _lacking_as_a_whole(results: RunResults, consequence: str) -> list[str]:
    """That parts of the suite did not run, or that nothing was compared."""
    lines = []
    if results.left_out:
        parts = ", ".join(results.left_out)
        lines.append(
            f"Only part of the suite ran ({consequence}); not run: {parts}"
        )
    if results.verdicts and not any(
        row.gate == "hard" for row in results.verdicts
    ):
        lines.append(
            f"No case is judged: every case is report-only ({consequence})"
        )
    elif results.verdicts and not is_compared(results):
        lines.append(
            "Nothing was judged against a baseline: no judged case has one "
            f"({consequence})"
        )
    return lines


def failures(results: RunResults) -> list[str]:
    """Which servers failed, why, and what to do about it."""
    return [
        f"{key} failed: {one_line(row.seen)}. To do: {one_line(row.remedy)}"
        for key, row in results.failures.items()
    ]


def faults(results: RunResults) -> list[str]:
    """Which servers died or failed requests while they were measured.

    One line for each launch and load.
    """
    lines = []
    for row in results.measurements:
        reason = _fault(row)
        if reason:
            place = f"{row.server}, launch {row.launch + 1}, {row.workload}"
            lines.append(f"{place}: {one_line(reason)}")
    return lines


def _fault(row: Measurement) -> str:
    if row.failure is not None:
        return row.failure.seen
    for repetition in row.repetitions:
        if repetition.failed and repetition.invalid:
            return repetition.invalid[0]
    return ""


def not_counted(results: RunResults) -> list[str]:
    """How many repetitions were invalid, by server, though others replaced them."""
    lines = []
    repetitions: dict[str, list[Repetition]] = {}
    for row in results.measurements:
        repetitions.setdefault(row.server, []).extend(row.repetitions)
    for server, rows in repetitions.items():
        invalid = [row for row in rows if row.invalid]
        if not invalid:
            continue
        spoilt = sum(row.is_spoilt_by_client for row in invalid)
        count = formatting.count(len(rows), "repetition")
        line = f"{server}: {len(invalid)} of {count} did not count"
        if spoilt:
            line += f", {spoilt} because of the machine"
        lines.append(f"{line}; first: {one_line(invalid[0].invalid[0])}")
    return lines


def unchecked(results: RunResults) -> list[str]:
    """Which rules of validity could not be applied, and on which servers.

    Of repetitions that count: the counters of a server that died are not missing.
    """
    servers: dict[str, dict[str, None]] = {}
    for row in results.measurements:
        for repetition in row.repetitions:
            if repetition.invalid:
                continue
            for rule in repetition.unchecked:
                servers.setdefault(rule, {})[row.server] = None
    return [
        f"Not checked on {', '.join(keys)}: {rule}"
        for rule, keys in servers.items()
    ]


def not_compared(results: RunResults) -> list[str]:
    """How many judged cases were not compared, and the commonest reason; by outcome."""
    reasons: dict[Outcome, Counter[str]] = {}
    for row in results.verdicts:
        if row.gate == "hard" and row.outcome in _NOT_COMPARED:
            reasons.setdefault(row.outcome, Counter())[row.summary] += 1
    lines = []
    for outcome, numbers in reasons.items():
        cases = formatting.count(numbers.total(), "case")
        ((summary, _),) = numbers.most_common(1)
        line = f"{cases} not compared, {outcome}: {summary}"
        if len(numbers) > 1:
            others = formatting.count(len(numbers) - 1, "other reason")
            line += f" ({others})"
        lines.append(line)
    return lines


def report_only(results: RunResults) -> list[str]:
    """Which cases that the study judges are report-only, equal reasons together."""
    outcomes: dict[str, list[Outcome]] = {}
    for row in results.verdicts:
        if row.report_only_reason:
            outcomes.setdefault(row.report_only_reason, []).append(row.outcome)
    lines = []
    for reason, cases in outcomes.items():
        count = formatting.count(len(cases), "case")
        verb = "is" if len(cases) == 1 else "are"
        line = f"{count} {verb} report-only: {reason}"
        regressed = cases.count(Outcome.REGRESSED)
        if regressed:
            line += f"; {regressed} of them {Outcome.REGRESSED}"
        lines.append(line)
    return lines


def ended_early(results: RunResults) -> list[str]:
    """That a run is not whole, and what is missing; empty where it is.

    Of a run that measured nothing the headline says why.
    """
    if results.is_whole or results.measured_nothing:
        return []
    launches = [
        f"launch {row.index + 1} of {row.server}" for row in results.cut_off
    ]
    text = "The run was cut off"
    if launches:
        text += f" in {' and '.join(launches)}"
    lines = [f"{text}; only what it measured before is judged"]
    missing = [case.id for case in results.unanswered]
    if missing:
        count = formatting.count(len(missing), "case")
        verb = "has" if len(missing) == 1 else "have"
        shown = ", ".join(missing[:MOST_NAMES])
        more = ", ..." if len(missing) > MOST_NAMES else ""
        lines.append(
            f"{count} {verb} neither a verdict nor a reason: {shown}{more}"
        )
    return lines


def injected(results: RunResults) -> list[str]:
    """What was changed in each server on purpose; empty if nothing."""
    lines = []
    for launch in results.launches:
        if launch.injected:
            changes = format_injection(launch.injected)
            lines.append(f"INJECTED in {launch.server}: {changes}")
    return list(dict.fromkeys(lines))


def removed(results: RunResults) -> list[str]:
    """What was cleaned up after servers; a line for each launch that left something."""
    lines = [removed_notice(launch.start) for launch in results.launches]
    return [line for line in lines if line]


def builds(results: RunResults) -> list[str]:
    """Python and versions of both builds of each engine; empty if no pairs were launched."""
    if not (results.is_paired or results.suspects):
        return []
    servers = list(results.servers.values())
    unchanged = set()
    for server in servers:
        if _is_base(results, server):
            unchanged.add(server.config.engine)
    lines = []
    for engine, path in results.base_builds.items():
        if engine in unchanged:
            lines.append(
                f"{engine}: base and candidate are the same {path}: only noise and "
                "injected changes differ"
            )
    lines += _versions(results, servers)
    return list(dict.fromkeys(lines))


def version_of(engine: str, versions: Mapping[str, str]) -> str:
    """The version of an engine, whichever of its distributions is installed."""
    return versions.get(engine) or versions.get(f"{engine}-cpu", "")


def _is_base(results: RunResults, server: Server) -> bool:
    """Whether a candidate's Python is that of the base build."""
    base = results.base_builds.get(server.config.engine)
    if base is None or server.config.build == "base":
        return False
    return server.python_path == Path(base).absolute()


def _versions(results: RunResults, servers: list[Server]) -> Iterator[str]:
    for server in sorted(servers, key=_base_first):
        versions = server.versions.items()
        text = ", ".join(f"{name} {version}" for name, version in versions)
        commit = results.commit_of(server.config.key)
        if commit:
            text += f", commit {commit[:SHORT_COMMIT]}"
        build = server.config.build or "candidate"
        yield f"{build} {server.config.engine}: {server.python_label}, {text}"


def _base_first(server: Server) -> tuple[str, bool]:
    return server.config.engine, server.config.build != "base"


def screened(results: RunResults) -> list[str]:
    """Which cases pairs decided, and which of them kept the screen's verdict."""
    if not results.is_screened:
        return []
    decided = sum(row.screen is not None for row in results.verdicts)
    judged = 0
    for row in results.verdicts:
        # A duel has both builds, and no screen.
        if row.gate == "hard" and family_of(row.metric) != "batch":
            judged += 1
    cases = formatting.count(judged, "judged case")
    line = f"Pairs decided {decided} of {cases}, baselines the others"
    undecided = len(results.suspects) - decided
    if undecided:
        line += f"; {undecided} suspect without valid pairs"
    return [line]


def launches(results: RunResults) -> str:
    """How often each server was launched: "vllm-llama-small-tp2 x1", and what failed."""
    number = Counter(launch.server for launch in results.launches)
    counts = [f"{key} x{count}" for key, count in number.items()]
    text = ", ".join(counts) or "none"
    if results.failures:
        text += f"; failed: {', '.join(results.failures)}"
    return text


def unused(case_ids: Sequence[str], verbose: bool) -> list[str]:
    """How many baselines no test asks for, and the first of them.

    Args:
        verbose: whether to list all of them, a line each.
    """
    if not case_ids:
        return []
    servers = {server for row in case_ids for server in parse_id(row).servers}
    number = formatting.count(len(case_ids), "unused baseline")
    line = (
        f"{number} of {formatting.count(len(servers), 'server')} (no test asks for "
        "them with any options: restore the tests, or remove them from their files)"
    )
    if verbose:
        return [f"{line}:", *(f"  {row}" for row in case_ids)]
    line += f": {', '.join(case_ids[:MOST_NAMES])}"
    more = len(case_ids) - MOST_NAMES
    if more > 0:
        line += f" and {more} more (-v lists them)"
    return [line]


def datasets(results: RunResults) -> list[str]:
    """Which loads sent prompts of a data set, and of which."""
    measured = {row.workload for row in results.measurements}
    loads: dict[str, list[str]] = {}
    for name, workload in results.workloads.items():
        if isinstance(workload.prompts, Frozen) and name in measured:
            loads.setdefault(workload.prompts.source, []).append(name)
    return [f"{', '.join(names)}: {source}" for source, names in loads.items()]


def important(results: RunResults) -> list[str]:
    """The lines before the verdicts on a page."""
    return [
        *failures(results),
        *ended_early(results),
        *faults(results),
        *not_counted(results),
        *unchecked(results),
        *not_compared(results),
        *lacking(results),
        *report_only(results),
        *screened(results),
        *injected(results),
        *removed(results),
        *datasets(results),
    ]
