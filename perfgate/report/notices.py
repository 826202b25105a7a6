"""What must be told of a run beside its verdicts?

A line each, for a terminal as for a page: what was not asked, what went wrong with
servers, what was done on purpose.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from perfgate import formatting as wording
from perfgate.engines.injection import format_injection
from perfgate.judge.verdict import DEMOTED, Outcome
from perfgate.results.schema import RunResults


def lacking(results: RunResults) -> list[str]:
    """Why cases that were to be judged could not be, those of the same reason together; and what else is missing."""
    red = (
        "; with --gate=required that is red"
        if results.gate != "required"
        else ", which is red"
    )
    counts = Counter(results.lacking.values())
    lines = [
        f"{wording.count(n, 'case')} without a verdict{red}: {reason}"
        for reason, n in counts.items()
    ]
    if results.left_out:
        lines.append(
            f"only a part of the suite was asked{red}; left out: {', '.join(results.left_out)}"
        )
    if results.verdicts and not any(row.gate == "hard" for row in results.verdicts):
        lines.append(f"nothing is judged, all is only reported{red}")
    return lines


def failures(results: RunResults) -> list[str]:
    """Which servers could not be had, why, and what to do about it; a line for each."""
    return [
        f"{key} could not be had: {row.seen}. To do: {row.remedy}"
        for key, row in results.failures.items()
    ]


def faults(results: RunResults) -> list[str]:
    """Which servers died or failed requests while they were measured; a line for each launch and load."""
    lines = []
    for row in results.measurements:
        reasons = [r.invalid[0] for r in row.repetitions if r.failed and r.invalid]
        if row.error:
            reasons = [
                (row.error.partition("\n  seen: ")[2] or row.error).partition("\n")[0]
            ]
        lines += [
            f"{row.server}, launch {row.launch + 1}, {row.workload}: {reason}"
            for reason in reasons[:1]
        ]
    return lines


def demoted(results: RunResults) -> list[str]:
    """Which cases that the suite would judge are only reported, those of the same reason together."""
    found: dict[str, list[str]] = {}
    for row in results.verdicts:
        if row.demoted:
            found.setdefault(row.demoted, []).append(row.outcome)
    worse = {why: outcomes.count(Outcome.REGRESSED) for why, outcomes in found.items()}
    return [
        f"{wording.count(len(outcomes), 'case')} {DEMOTED} {why}"
        + (f"; {worse[why]} of them {Outcome.REGRESSED}" if worse[why] else "")
        for why, outcomes in found.items()
    ]


def ended_early(results: RunResults) -> list[str]:
    """That a run did not end by itself, and which launches were cut off with it; empty for one that did."""
    if results.complete:
        return []
    launches = [f"launch {row.index + 1} of {row.server}" for row in results.cut_off]
    what = f", in the middle of {' and of '.join(launches)}" if launches else ""
    return [
        f"this run did not end by itself{what}: what it had measured by then is judged"
    ]


def injected(results: RunResults) -> list[str]:
    """What was changed in each server on purpose: "INJECTED in SERVER: arguments --enforce-eager"; empty if nothing."""
    rows = (launch for launch in results.launches if launch.injected)
    return list(
        dict.fromkeys(
            f"INJECTED in {launch.server}: {format_injection(launch.injected)}"
            for launch in rows
        )
    )


def builds(results: RunResults) -> list[str]:
    """Which Python and which versions the two builds of each engine were; empty without a base build."""
    rows = [
        (server.config.engine, server)
        for server in results.servers.values()
        if results.against
    ]
    same = {
        name
        for name, row in rows
        if not row.config.build
        and row.python_path == Path(results.against[name]).absolute()
    }
    texts = [
        (
            f"{engine}: base and candidate are the same {path}, so that only noise "
            "and what is injected differ"
        )
        for engine, path in results.against.items()
        if engine in same
    ]
    texts += [
        f"{server.config.build or 'candidate'} {engine}: {server.python}, "
        + ", ".join(f"{name} {version}" for name, version in server.versions.items())
        for engine, server in sorted(
            rows, key=lambda row: (row[0], row[1].config.build != "base")
        )
    ]
    return list(dict.fromkeys(texts))


def launches(results: RunResults) -> str:
    """How often each server was launched: "vllm-llama-small-tp2 x1", and which could not be had."""
    counts = Counter(launch.server for launch in results.launches)
    told = ", ".join(f"{key} x{count}" for key, count in counts.items()) or "none"
    return told + (
        f"; could not be had: {', '.join(results.failures)}" if results.failures else ""
    )


def important(results: RunResults) -> list[str]:
    """What stands before the verdicts on a page."""
    return [
        *failures(results),
        *faults(results),
        *lacking(results),
        *demoted(results),
        *injected(results),
    ]
