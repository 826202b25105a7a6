"""Ceiling: the largest loss that may pass, for every rate or a family of metrics.

A person writes it as "5 %", "0.05" or "itl = 3 %": on the command line and in the study
file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from perfgate import formatting
from perfgate.errors import Failure
from perfgate.load.metrics import FAMILIES

EVERY_RATE = "all"
# Every metric of these is better when it is smaller: a loss may be more than 100 %.
_TIMES = frozenset({"ttft", "itl", "tpot", "e2el", "e2el_tail", "start_up"})
_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)")


class BadCeiling(Failure):
    """A ceiling that cannot be read."""


def parse_ceilings(texts: Iterable[str]) -> dict[str, float]:
    """Ceilings as fractions, by family of metrics; EVERY_RATE where a text names none.

    The last one of a family counts.

    Args:
        texts: "5 %", "5%", "0.05", or one of them after a family and an equals sign.

    Raises:
        BadCeiling: one has another form, names no family, or is out of range.
    """
    ceilings = {}
    for text in texts:
        family, equals, share = text.rpartition("=")
        family = family.strip()
        if not equals:
            family = EVERY_RATE
        elif family not in FAMILIES:
            raise _unknown_family(text, family)
        ceilings[family] = _fraction(text, family, share.strip())
    return ceilings


def with_option(
    study: Mapping[str, float], option: Mapping[str, float]
) -> dict[str, float]:
    """The ceilings of a study and of the command line, which decides.

    One for every rate replaces all of the study, one of a family that family's.
    """
    if EVERY_RATE in option:
        return dict(option)
    return {**study, **option}


def format_ceilings(ceilings: Mapping[str, float]) -> str:
    """As they are written: "--fail-over 5% --fail-over itl=3%"."""
    texts = []
    for family, fraction in sorted(ceilings.items()):
        name = ""
        if family != EVERY_RATE:
            name = f"{family}="
        texts.append(f"--fail-over {name}{100 * fraction:.6g}%")
    return " ".join(texts) or "no --fail-over"


def _unknown_family(text: str, family: str) -> BadCeiling:
    suggestion = formatting.suggestion(family, FAMILIES)
    return BadCeiling(
        tried=f"reading the ceiling {text!r}",
        seen=f"there is no family of metrics {family!r}",
        remedy=f"{suggestion}use one of {', '.join(FAMILIES)}",
    )


def _fraction(text: str, family: str, share: str) -> float:
    tried = f"reading the ceiling {text!r}"
    match = _NUMBER.fullmatch(share)
    if match is None:
        raise BadCeiling(
            tried=tried,
            seen=f"{share!r} is no share",
            remedy="write 5% or 0.05, for one family itl=3%",
        )
    number, sign = match.groups()
    fraction = float(number)
    if sign:
        fraction /= 100
    elif fraction >= 1:
        raise BadCeiling(
            tried=tried,
            seen=f"{number} without % is a fraction, so {fraction:.0%}",
            remedy=f"write {number}%",
        )
    if not 0 < fraction < _limit(family):
        raise BadCeiling(
            tried=tried,
            seen=f"a loss of {formatting.percent(fraction)} is out of range",
            remedy="write a share above 0 % and below 100 %; a time may lose more",
        )
    return fraction


def _limit(family: str) -> float:
    """A throughput never falls by 100 %; a time may grow to any multiple."""
    if family in _TIMES:
        return math.inf
    return 1.0
