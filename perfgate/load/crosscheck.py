"""Crosscheck: this suite's client against another load client on one running server.

Sends the same pattern to one running server with this suite's client and with another
one, in turns (ours, theirs, theirs, ours, ...), and compares round by round. What each
turn sends is text of its own, of the same distribution and with as many tokens.
`other_clients` says where definitions differ.

On a busy machine the server is faster in one turn than in the next by more than two
clients could differ. It tells by how much: its own means of each turn, from /metrics.
From ENOUGH_ROUNDS rounds on that part is taken out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import requests
import tokenizers
from rich.table import Table

from perfgate.load.measurement import Target, scraped
from perfgate.load.other_clients import (
    COMPARED,
    ClientFailed,
    OtherClient,
    requests_of,
    run_other,
    run_ours,
    turn_of,
)
from perfgate.load.server_metrics import difference
from perfgate.load.warmup import warm_up
from perfgate.load.workload import Workload

# Fewer do not tell how the clients' figures follow the server's.
ENOUGH_ROUNDS = 8
# What the server counts itself of what decides a figure; of a throughput, how long its
# requests took.
SERVERS_OWN = {
    "ttft_median_ms": "ttft_mean_ms",
    "itl_median_ms": "itl_mean_ms",
    "tpot_median_ms": "itl_mean_ms",
    "e2el_median_ms": "e2el_mean_ms",
    "output_throughput": "e2el_mean_ms",
}


@dataclass(frozen=True)
class Turn:
    """What one client saw, and what the server counted meanwhile (means in ms; empty where it tells none)."""

    seen: dict[str, float]
    server: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One metric as the two clients see it.

    Attributes:
        ours, theirs: medians over the rounds.
        difference: geometric mean over the rounds of ours / theirs, minus one. Each
            round's two runs are neighbours in time, so that a slow spell of the machine
            cancels.
        uncertainty: half of the 90 % interval of the difference (Student's t on the
            logarithms of the ratios).
        beside_server: whether the server's part of it is taken out: the difference is
            that of turns in which it was equally fast, by a straight line through the
            rounds.

    """

    metric: str
    ours: float
    theirs: float
    difference: float
    uncertainty: float
    beside_server: bool = False

    def verdict(self, tolerance: float) -> str:
        """Equivalence by two one-sided tests at 5 %: the whole 90 % interval lies within the tolerance."""
        if abs(self.difference) + self.uncertainty <= tolerance:
            return "agree"
        return (
            "DIFFER"
            if abs(self.difference) - self.uncertainty > tolerance
            else "undecided: more rounds, less noise"
        )


def compare(ours: Sequence[Turn], theirs: Sequence[Turn]) -> list[Comparison]:
    """Each client's medians, and the ratio over the paired rounds, at least two of them."""
    comparisons = []
    for name in COMPARED:
        own = SERVERS_OWN[name]
        pairs = [
            (our.seen[name], their.seen[name])
            for our, their in zip(ours, theirs, strict=True)
        ]
        ratios = [math.log(our / their) for our, their in pairs]
        server = [
            math.log(our.server[own] / their.server[own])
            for our, their in zip(ours, theirs, strict=True)
            if our.server.get(own, 0.0) > 0 and their.server.get(own, 0.0) > 0
        ]
        beside = len(server) == len(ratios) >= ENOUGH_ROUNDS and max(server) > min(
            server
        )
        mean, error = _intercept(server, ratios) if beside else _mean(ratios)
        middle = [statistics.median(column) for column in zip(*pairs, strict=True)]
        comparisons.append(
            Comparison(
                name, middle[0], middle[1], math.expm1(mean), math.expm1(error), beside
            )
        )
    return comparisons


def _mean(ratios: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 90 % interval."""
    from scipy import stats  # here and below: it takes half a second

    error = statistics.stdev(ratios) / math.sqrt(len(ratios))
    return statistics.fmean(ratios), float(stats.t.ppf(0.95, len(ratios) - 1)) * error


def _intercept(server: Sequence[float], ratios: Sequence[float]) -> tuple[float, float]:
    """What is left of the ratio where the server's is one, and half of its 90 % interval."""
    from scipy import stats

    line = stats.linregress(server, ratios)
    return float(line.intercept), float(
        stats.t.ppf(0.95, len(ratios) - 2) * line.intercept_stderr
    )


def table(
    comparisons: Sequence[Comparison], client: str, rounds: int, tolerance: float
) -> Table:
    """For people."""
    beside = all(c.beside_server for c in comparisons)
    shown = Table(
        title=f"perfgate against {client}: {rounds} interleaved rounds",
        caption="difference: of turns in which the server was equally fast by its own count"
        if beside
        else None,
    )
    for heading in ("metric", "perfgate", client, "difference", ""):
        shown.add_column(
            heading, justify="left" if heading in ("metric", "") else "right"
        )
    for c in comparisons:
        difference = f"{c.difference:+.2%} ± {c.uncertainty:.2%}"
        shown.add_row(
            c.metric,
            f"{c.ours:.2f}",
            f"{c.theirs:.2f}",
            difference,
            c.verdict(tolerance),
        )
    return shown


def served_model(url: str) -> str:
    """The first model that the server names."""
    try:
        answer = requests.get(f"{url}/v1/models", timeout=10)
        return str(answer.json()["data"][0]["id"])
    except (requests.RequestException, LookupError, ValueError) as error:
        raise ClientFailed(
            f"GET {url}/v1/models",
            repr(error),
            "is the server up? otherwise give --model",
        ) from error


def tokenizer_in(path: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a folder, or of a tokenizer.json."""
    return tokenizers.Tokenizer.from_file(
        str(path / "tokenizer.json" if path.is_dir() else path)
    )


def interleave(
    client: OtherClient,
    python: str,
    target: Target,
    workload: Workload,
    tokenizer: tokenizers.Tokenizer,
    rounds: int,
) -> list[Comparison]:
    """Warm up, then ours, theirs, theirs, ours, ...: a drift of the machine falls on both alike."""
    warm_up(target, workload)
    ours: list[Turn] = []
    theirs: list[Turn] = []
    for number in range(rounds):
        for place, whose in enumerate(
            ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours")
        ):
            turn = turn_of(workload, 2 * number + place)
            prompts = requests_of(target, turn, tokenizer)
            before, _ = scraped(target)
            if whose == "ours":
                seen, turns = run_ours(client, target, turn, prompts), ours
            else:
                seen, turns = run_other(python, client, target, turn, prompts), theirs
            after, _ = scraped(target)
            turns.append(Turn(seen, difference(target.engine, before, after)))
        shown = (
            f"{name} {ours[-1].seen[name]:.4g} / {theirs[-1].seen[name]:.4g}"
            for name in COMPARED
        )
        click.echo(f"round {number + 1} of {rounds}, ours / theirs: {', '.join(shown)}")
    return compare(ours, theirs)
