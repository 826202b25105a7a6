"""What did the server itself count during the measurement?

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


class ScrapeFailed(Failure):
    """The server's own figures could not be had."""


def parse(text: str) -> dict[str, float]:
    """Prometheus text as {name: value summed over all labels}; an engine splits a counter by rank, reason or source."""
    totals: dict[str, float] = {}
    for line in text.splitlines():
        sample = SAMPLE.match(line.strip())
        if sample:
            totals[sample["name"]] = totals.get(sample["name"], 0.0) + float(
                sample["value"]
            )
    return totals


def scrape(url: str, timeout_s: float = 10.0) -> dict[str, float]:
    """All samples of `url`/metrics.

    Raises:
        ScrapeFailed: no answer, or none that is a metrics page.
    """
    try:
        answer = requests.get(f"{url}/metrics", timeout=timeout_s)
    except requests.RequestException as error:
        raise ScrapeFailed(
            f"GET {url}/metrics", str(error), "look at the server's log"
        ) from error
    if answer.status_code != 200:
        remedy = (
            "SGLang needs --enable-metrics"
            if answer.status_code == 404
            else "look at the server's log"
        )
        raise ScrapeFailed(f"GET {url}/metrics", f"HTTP {answer.status_code}", remedy)
    return parse(answer.text)


def difference(
    engine: str, before: dict[str, float], after: dict[str, float]
) -> dict[str, float]:
    """What happened between two scrapes: counts, and means in ms.

    A counter that a server shows only once it has counted something is taken as 0
    before.
    """
    values: dict[str, float] = {}
    if engine not in ENGINES:
        return values
    names = ENGINES[engine].metrics
    for name, key in names.counters.items():
        if key in after or (name in names.late and after):
            values[name] = after.get(key, 0.0) - before.get(key, 0.0)
    for name, histogram in names.means.items():
        # Buckets are too coarse for a median.
        total, count = f"{histogram}_sum", f"{histogram}_count"
        added = after.get(count, 0.0) - before.get(count, 0.0)
        if added > 0:
            values[name] = 1e3 * (after[total] - before.get(total, 0.0)) / added
    return values
