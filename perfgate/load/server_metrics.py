"""Server metrics: the engine's own counters and latencies of /metrics during a measurement.

`/metrics` before and after, and the difference under names that are the same for both
engines. Counters that an engine does not have, or that go backwards, are absent from
the result, never zero. One that is known under another prefix is found by its end:
prefixes change with versions, and fronts add their own. SGLang has the endpoint only
with `--enable-metrics`.
"""

from __future__ import annotations

import math
import re

from perfgate import web
from perfgate.engines.registry import ENGINES
from perfgate.errors import Failure
from perfgate.foreign_text import one_line

# A sample of Prometheus' text or of OpenMetrics: what follows the value (a time, an
# exemplar) does not matter.
SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][\w:]*)"
    r"(?:\{(?:[^\"}]|\"(?:\\.|[^\"\\])*\")*\})?"
    r"[ \t]+(?P<value>[^\s#]+)(?:[ \t].*)?$"
)
NOT_FOUND = 404
PAGE_BYTES = 32 * 2**20
SHOWN_CHARACTERS = 80
TOTAL = "_total"  # appended to the names of counters by prometheus_client
Figures = dict[str, float]


class ScrapeFailed(Failure):
    """The server gave no metrics page."""


def parse(text: str) -> Figures:
    """Prometheus text as {name: value summed over all labels}; other lines are skipped.

    An engine splits a counter by rank, reason or source.
    """
    totals: Figures = {}
    for line in text.splitlines():
        sample = SAMPLE.match(line.strip())
        if sample is None:
            continue
        try:
            value = float(sample["value"])
        except ValueError:
            continue
        if math.isfinite(value):
            name = sample["name"]
            totals[name] = totals.get(name, 0.0) + value
    return totals


def scrape(
    url: str, timeout_s: float = 10.0, authorization: str = ""
) -> Figures:
    """All samples of `url`/metrics.

    Args:
        timeout_s: for the whole answer.
        authorization: value of the header; "" sends none.

    Raises:
        ScrapeFailed: no answer, or none that is a metrics page.
    """
    tried = f"GET {url}/metrics"
    remedy = "look at the server's log"
    try:
        page = web.get(
            f"{url}/metrics",
            timeout_s=timeout_s,
            authorization=authorization,
            most_bytes=PAGE_BYTES,
        )
    except web.NoAnswer as failure:
        remedy = web.remedy_of(failure.status, remedy)
        if failure.status == NOT_FOUND:
            remedy = "SGLang needs --enable-metrics"
        raise ScrapeFailed(tried, failure.seen, remedy) from failure
    text = page.decode(errors="replace")
    figures = parse(text)
    if not figures:
        start = one_line(text, SHOWN_CHARACTERS) or "nothing"
        raise ScrapeFailed(
            tried,
            f"no page of metrics: it starts {start!r}",
            "attach the server's own address, where its metrics are",
        )
    return figures


def difference(engine: str, before: Figures, after: Figures) -> Figures:
    """What happened between two scrapes: counts, and means in ms.

    A counter that a server shows only once it has counted something is taken as 0
    before, and after, too, where the page has others of the engine.
    """
    values: Figures = {}
    if engine not in ENGINES:
        return values
    names = ENGINES[engine].metrics
    counters = names.counters.values()
    is_known_page = any(actual_name(key, after) in after for key in counters)
    for name, key in names.counters.items():
        key = actual_name(key, after)
        if key in after or (name in names.late and is_known_page):
            added = after.get(key, 0.0) - before.get(key, 0.0)
            if added >= 0:
                values[name] = added
    for name, histogram in names.means.items():
        mean_ms = _mean_ms(histogram, before, after)
        if mean_ms is not None:
            values[name] = mean_ms
    return values


def _mean_ms(histogram: str, before: Figures, after: Figures) -> float | None:
    """Mean of what was added to a histogram; None where that is unknown.

    Buckets are too coarse for a median.
    """
    total = f"{histogram}_sum"
    count = f"{histogram}_count"
    added = after.get(count, 0.0) - before.get(count, 0.0)
    if added <= 0 or total not in after:
        return None
    seconds = after[total] - before.get(total, 0.0)
    return 1e3 * seconds / added


def actual_name(key: str, page: Figures) -> str:
    """The counter's name on this page: its own, or the only one with the same end."""
    if key in page:
        return key
    stem = key.rpartition(":")[2].removesuffix(TOTAL)
    alike = []
    for name in page:
        start, _, end = name.removesuffix(TOTAL).rpartition(stem)
        if not end and start[-1:] in ("", ":", "_") and stem in name:
            alike.append(name)
    if len(alike) == 1:
        return alike[0]
    return key


def counter_of(engine: str, name: str) -> str:
    """What the engine calls one of the suite's counters; "" where that is not known."""
    if engine not in ENGINES:
        return ""
    return ENGINES[engine].metrics.counters.get(name, "")


def renamed(engine: str, page: Figures) -> tuple[str, ...]:
    """A note for each counter that was found under another name."""
    notes = []
    if engine in ENGINES:
        for key in ENGINES[engine].metrics.counters.values():
            actual = actual_name(key, page)
            if actual != key:
                notes.append(f"/metrics: {actual} was read as {key}")
    return tuple(notes)
