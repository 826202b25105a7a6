"""Server metrics: the engine's own counters and latencies of /metrics during a measurement.

`/metrics` before and after, and the difference under names that are the same for both
engines. Counters that an engine does not have, or not under the name known here, are
absent from the result, never zero. SGLang has the endpoint only with
`--enable-metrics`.
"""

from __future__ import annotations

import re

import requests

from perfgate.engines.registry import ENGINES
from perfgate.errors import Failure

SAMPLE = re.compile(
    r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{.*\})?\s+(?P<value>\S+)(?:\s+\d+)?$"
)
NOT_FOUND = 404
Figures = dict[str, float]


class ScrapeFailed(Failure):
    """The server gave no metrics page."""


def parse(text: str) -> Figures:
    """Prometheus text as {name: value summed over all labels}.

    An engine splits a counter by rank, reason or source.
    """
    totals: Figures = {}
    for line in text.splitlines():
        sample = SAMPLE.match(line.strip())
        if sample is None:
            continue
        name = sample["name"]
        value = float(sample["value"])
        totals[name] = totals.get(name, 0.0) + value
    return totals


def scrape(url: str, timeout_s: float = 10.0) -> Figures:
    """All samples of `url`/metrics.

    Raises:
        ScrapeFailed: no answer, or none that is a metrics page.
    """
    tried = f"GET {url}/metrics"
    remedy = "look at the server's log"
    try:
        answer = requests.get(f"{url}/metrics", timeout=timeout_s)
    except requests.RequestException as error:
        raise ScrapeFailed(tried, str(error), remedy) from error
    if answer.status_code == NOT_FOUND:
        remedy = "SGLang needs --enable-metrics"
    if answer.status_code != 200:
        raise ScrapeFailed(tried, f"HTTP {answer.status_code}", remedy)
    return parse(answer.text)


def difference(engine: str, before: Figures, after: Figures) -> Figures:
    """What happened between two scrapes: counts, and means in ms.

    A counter that a server shows only once it has counted something is taken as 0
    before.
    """
    values: Figures = {}
    if engine not in ENGINES:
        return values
    names = ENGINES[engine].metrics
    for name, key in names.counters.items():
        if key in after or (name in names.late and after):
            values[name] = after.get(key, 0.0) - before.get(key, 0.0)
    for name, histogram in names.means.items():
        # Buckets are too coarse for a median.
        total = f"{histogram}_sum"
        count = f"{histogram}_count"
        added = after.get(count, 0.0) - before.get(count, 0.0)
        if added > 0:
            seconds = after[total] - before.get(total, 0.0)
            values[name] = 1e3 * seconds / added
    return values
