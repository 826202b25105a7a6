"""Questions: the study's answers as rows, at most twenty whatever the number of cases.

A row holds the cases of one question and one metric, and of one server while that fits.
Its values are a range; change and verdict are those of the case that is worst off.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from perfgate import formatting
from perfgate.cases import is_ratio, title
from perfgate.judge.run_status import ORDER
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.report import verdict_text

MOST_ROWS: Final = 20
# What an experiment asks, in a word or two: the first column of the table.
SUBJECTS: Final = {
    "E1": "full load",
    "E2": "one stream",
    "E3": "request rates",
    "E4": "batch sizes",
    "E5": "GPUs over one GPU",
    "E6": "memory",
    "E7": "efficiency",
    "E8": "routing",
    "E9": "engine over engine",
    "E10": "experts spread over split",
    "E11": "against arithmetic",
    "E12": "start",
    "E13": "added loads",
    "E14": "answers",
    "E15": "deep loads",
    "E16": "wear",
    "E17": "long prompts",
    "E18": "long answers",
    "E19": "mixed lengths",
    "E20": "step of two builds",
    "E21": "work and settings",
}
# The same as a whole question, for those who meet its number for the first time.
ASKS: Final = {
    "E1": "How many tokens a second does a saturated server make, with each model?",
    "E2": "How long does one user wait for each token on an idle server?",
    "E3": "Does latency stay in its range as requests come faster?",
    "E4": "Is a larger batch still nearly free in latency and worth it in throughput?",
    "E5": "Is the dense model any faster on several GPUs than on one?",
    "E6": "Does each GPU hold the calculated bytes, and is the KV cache as large as before?",
    "E7": "How many tokens a second does a gigabyte of memory buy?",
    "E8": "Do the routers still send the tokens to the same experts?",
    "E9": "How do two engines compare on the same machine, with the same model, prompts and "
    "client?",
    "E10": "Is expert parallelism (whole experts on a rank) faster than splitting each expert?",
    "E11": "How near does decoding come to the memory bandwidth, and a model to its reference?",
    "E12": "How long does a server take to start, and to be warm?",
    "E13": "How fast are the models under workloads that the study adds, by the metrics it "
    "names?",
    "E14": "Does the model answer as before, whatever its speed?",
    "E15": "Saturation, a prefix cache, speculative decoding: loads that --deep asks for by "
    "name.",
    "E16": "Is a server as fast, and as small, after minutes of load?",
    "E17": "How long does a long prompt take, and decoding behind it?",
    "E18": "Does decoding keep its speed over long answers?",
    "E19": "How fast are prompts of all lengths taken in beside decoding?",
    "E20": "Does an engine's step take as long as that of the base build, on this machine?",
    "E21": "Does the engine do the same work for a batch, and set itself up as before?",
}
_UPPERCASE: Final = ("itl", "ttft", "tpot", "e2el", "kv", "gpu", "cpu", "ep")
# Units that end the name of a metric; its value shows them.
_UNITS: Final = ("_gb_s", "_ms", "_s", "_bytes", "_j", "_tokens")

_Key = Callable[[Verdict], Hashable]


@dataclass(frozen=True)
class Answer:
    """Cases that share a row.

    Attributes:
        cases: the one that is worst off first.
    """

    cases: Sequence[Verdict]

    @property
    def worst(self) -> Verdict:
        """The case whose change and threshold the row shows."""
        return self.cases[0]

    @property
    def question(self) -> str:
        """What is asked: "E2 one stream"."""
        experiment = self.worst.experiment
        subject = SUBJECTS.get(experiment, "")
        return f"{experiment} {subject}".strip()

    @property
    def metric(self) -> str:
        """What was measured: "ITL median"; "" where the cases differ."""
        names = {metric_name(row.metric) for row in self.cases}
        if len(names) > 1:
            return ""
        return names.pop()

    @property
    def loads(self) -> str:
        """The load, or how many and of which servers."""
        titles = list(dict.fromkeys(title(row.case) for row in self.cases))
        if len(titles) == 1:
            return titles[0]
        servers = {text.rpartition(", ")[0] for text in titles}
        count = formatting.count(len(titles), "load")
        if len(servers) == 1:
            return f"{servers.pop()}, {count}"
        return f"{formatting.count(len(servers), 'server')}, {count}"

    @property
    def value(self) -> str:
        """The value, or the range of all; "-" where units differ."""
        return _range(self.cases, [row.value for row in self.cases])

    @property
    def baseline(self) -> str:
        """The baseline, or the range of all; "-" where units differ."""
        return _range(self.cases, [_baseline(row) for row in self.cases])

    def _compared(self, text_of: Callable[[Verdict], str]) -> str:
        if self.worst.outcome is Outcome.NO_BASELINE:
            return "-"
        return text_of(self.worst)

    @property
    def change(self) -> str:
        """The change of the worst case in words; "-" where nothing was compared."""
        return self._compared(verdict_text.change)

    @property
    def short_change(self) -> str:
        """The change of the worst case alone; "-" where nothing was compared."""
        return self._compared(verdict_text.short_change)

    @property
    def allowed(self) -> str:
        """The change that the worst case may have; "-" where nothing was compared."""
        return self._compared(verdict_text.allowed)

    @property
    def outcomes(self) -> str:
        """The outcome, or how many cases have which: "2 REGRESSED, 5 PASSED"."""
        if len(self.cases) == 1:
            return verdict_text.outcome(self.worst)
        numbers = Counter(row.outcome for row in self.cases)
        parts = []
        for outcome in ORDER:
            if numbers[outcome]:
                parts.append(f"{numbers[outcome]} {outcome}")
        return ", ".join(parts)


def answers(verdicts: Iterable[Verdict]) -> list[Answer]:
    """Rows in the order of the study's questions, as fine as twenty of them allow."""
    rows = list(verdicts)
    groups: list[list[Verdict]] = []
    for key in (_case, _server_and_metric, _metric, _experiment):
        groups = _grouped(rows, key)
        if len(groups) <= MOST_ROWS:
            break
    return _in_order(groups)


def finest(verdicts: Iterable[Verdict], most: int) -> list[Answer]:
    """Rows of one metric each, of one server where that makes no more than `most` of them."""
    rows = list(verdicts)
    groups = _grouped(rows, _server_and_metric)
    if len(groups) > most:
        groups = _grouped(rows, _metric)
    return _in_order(groups)


def _in_order(groups: Iterable[Sequence[Verdict]]) -> list[Answer]:
    found = []
    for group in sorted(groups, key=_place):
        found.append(Answer(sorted(group, key=_rank)))
    return found


def metric_name(name: str) -> str:
    """A metric in words: "itl_median_ms" is "ITL median"."""
    for unit in _UNITS:
        if name.endswith(unit):
            name = name.removesuffix(unit)
            break
    words = []
    for word in name.split("_"):
        if word in _UPPERCASE:
            word = word.upper()
        words.append(word)
    return " ".join(words)


def _baseline(row: Verdict) -> float | None:
    """What decided; a published figure that does not apply has not."""
    if row.outcome is Outcome.NO_BASELINE:
        return None
    return row.baseline


def _case(row: Verdict) -> Hashable:
    return row.case


def _server_and_metric(row: Verdict) -> Hashable:
    servers, _, _ = title(row.case).rpartition(", ")
    return row.experiment, row.metric, servers


def _metric(row: Verdict) -> Hashable:
    return row.experiment, row.metric, is_ratio(row.case)


def _experiment(row: Verdict) -> Hashable:
    return row.experiment


def _grouped(rows: Iterable[Verdict], key: _Key) -> list[list[Verdict]]:
    groups: dict[Hashable, list[Verdict]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())


def _place(group: Sequence[Verdict]) -> tuple[int, str]:
    """Sorts E2 before E10; the rows of one question keep their order."""
    experiment = group[0].experiment
    return len(experiment), experiment


def _rank(row: Verdict) -> tuple[int, float]:
    """The worst outcome first, and of one outcome what is nearest to its limit."""
    nearness = -math.inf
    if row.share_of_limit is not None:
        nearness = row.share_of_limit
    return ORDER.index(row.outcome), -nearness


def _range(rows: Sequence[Verdict], values: Sequence[float | None]) -> str:
    """The least and the largest value: "3.473 to 5.17 ms"."""
    units = {row.unit for row in rows}
    known = [value for value in values if value is not None]
    if len(units) > 1 or not known:
        return "-"
    unit = rows[0].unit
    low = formatting.number(min(known), unit)
    high = formatting.number(max(known), unit)
    if low == high:
        return high
    number, separator, suffix = low.rpartition(" ")
    if separator and high.endswith(f" {suffix}"):
        low = number
    return f"{low} to {high}"
