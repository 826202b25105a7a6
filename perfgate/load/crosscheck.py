"""Crosscheck: this suite's load client compared with another one on one running server.

Sends the same pattern to one running server with this suite's client and with another
one, in turns (suite, client, client, suite, ...), and compares round by round. What each
turn sends is text of its own, of the same distribution and with as many tokens.
`other_clients` has where definitions differ.

On a busy machine the server is faster in one turn than in the next by more than two
clients could differ. Its own means of each turn, from /metrics, show by how much. From
ENOUGH_ROUNDS rounds on that part is taken out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import click
import tokenizers
from rich.table import Table

from perfgate import web
from perfgate.load.measurement import Target, server_figures
from perfgate.load.other_clients import (
    COMPARED,
    ClientFailed,
    OtherClient,
    requests_of,
    run_other,
    run_suite,
    turn_of,
)
from perfgate.load.server_metrics import difference
from perfgate.load.warmup import warm_up
from perfgate.load.workload import ShareGPT, Workload

# Fewer have no variance.
FEWEST_ROUNDS = 2
# Fewer do not show how the clients' figures follow the server's.
ENOUGH_ROUNDS = 8
# Which mean of the server's own decides a figure; of a throughput, how long its
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
    """One run of one client.

    Attributes:
        figures: what the client measured, by metric.
        server: what the server counted meanwhile: means in ms, empty where it has none.
    """

    figures: dict[str, float]
    server: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One metric as the two clients measure it.

    Attributes:
        suite, client: medians over the rounds, of this suite and of the other client.
        difference: geometric mean over the rounds of suite / client, minus one. Each
            round's two runs are neighbours in time, so that a slow spell of the machine
            cancels.
        uncertainty: half of the 90 % interval of the difference (Student's t on the
            logarithms of the ratios).
        at_equal_server_speed: whether the server's part of it is taken out: the
            difference is that of turns in which it was equally fast, by a straight line
            through the rounds.
    """

    metric: str
    suite: float
    client: float
    difference: float
    uncertainty: float
    at_equal_server_speed: bool = False

    def verdict(self, tolerance: float) -> str:
        """Equivalence by two one-sided tests at 5 %.

        "agree" where the whole 90 % interval lies within the tolerance.
        """
        size = abs(self.difference)
        if size + self.uncertainty <= tolerance:
            return "agree"
        if size - self.uncertainty > tolerance:
            return "DIFFER"
        return "undecided: more rounds, less noise"


def compare(suite: Sequence[Turn], client: Sequence[Turn]) -> list[Comparison]:
    """Both medians of each metric, and the ratio over the paired rounds, at least two.

    A round counts where both clients measured something: on a machine that stood still
    all tokens of a turn may come at once, and the median between them is nothing.

    Raises:
        ClientFailed: fewer than two rounds count.
    """
    ours: list[Turn] = []
    theirs: list[Turn] = []
    for suite_turn, client_turn in zip(suite, client, strict=True):
        if _is_measured(suite_turn) and _is_measured(client_turn):
            ours.append(suite_turn)
            theirs.append(client_turn)
    if len(ours) < FEWEST_ROUNDS:
        raise ClientFailed(
            tried=f"comparing the two clients in {len(suite)} rounds",
            seen=f"in {len(suite) - len(ours)} of them a figure is nothing, as tokens "
            "came all at once",
            remedy="ask for more rounds (--rounds) or longer answers (--lengths)",
        )
    return [_compare_metric(name, ours, theirs) for name in COMPARED]


def _is_measured(turn: Turn) -> bool:
    """Whether every figure is more than nothing."""
    return all(turn.figures[name] > 0 for name in COMPARED)


def _compare_metric(
    name: str, suite: Sequence[Turn], client: Sequence[Turn]
) -> Comparison:
    suite_values = [turn.figures[name] for turn in suite]
    client_values = [turn.figures[name] for turn in client]
    ratios = []
    for suite_value, client_value in zip(
        suite_values, client_values, strict=True
    ):
        ratios.append(math.log(suite_value / client_value))
    server_ratios = _server_ratios(SERVERS_OWN[name], suite, client)
    is_line = _has_line(server_ratios, ratios)
    if is_line:
        mean, error = _intercept(server_ratios, ratios)
    else:
        mean, error = _mean(ratios)
    return Comparison(
        metric=name,
        suite=statistics.median(suite_values),
        client=statistics.median(client_values),
        difference=math.expm1(mean),
        uncertainty=math.expm1(error),
        at_equal_server_speed=is_line,
    )


def _server_ratios(
    name: str, suite: Sequence[Turn], client: Sequence[Turn]
) -> list[float]:
    """Logarithms of the server's own ratio, of those rounds in which it has both means."""
    ratios = []
    for suite_turn, client_turn in zip(suite, client, strict=True):
        suite_mean = suite_turn.server.get(name, 0.0)
        client_mean = client_turn.server.get(name, 0.0)
        if suite_mean > 0 and client_mean > 0:
            ratios.append(math.log(suite_mean / client_mean))
    return ratios


def _has_line(server_ratios: Sequence[float], ratios: Sequence[float]) -> bool:
    """Whether the rounds are enough for a straight line, and the server's speed varies."""
    if len(server_ratios) < len(ratios) or len(ratios) < ENOUGH_ROUNDS:
        return False
    return max(server_ratios) > min(server_ratios)


def _mean(ratios: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 90 % interval."""
    from scipy import stats  # here and below: it takes half a second

    error = statistics.stdev(ratios) / math.sqrt(len(ratios))
    quantile = float(stats.t.ppf(0.95, len(ratios) - 1))
    return statistics.fmean(ratios), quantile * error


def _intercept(
    server_ratios: Sequence[float], ratios: Sequence[float]
) -> tuple[float, float]:
    """The ratio where the server's is one, and half of its 90 % interval."""
    from scipy import stats

    line = stats.linregress(server_ratios, ratios)
    quantile = stats.t.ppf(0.95, len(ratios) - 2)
    return float(line.intercept), float(quantile * line.intercept_stderr)


def table(
    comparisons: Sequence[Comparison],
    client: str,
    rounds: int,
    tolerance: float,
) -> Table:
    """For people."""
    caption = None
    if all(row.at_equal_server_speed for row in comparisons):
        caption = (
            "difference at equal server speed, by the server's own metrics"
        )
    grid = Table(
        title=f"perfgate vs {client}: {rounds} interleaved rounds",
        caption=caption,
    )
    grid.add_column("metric", justify="left")
    for heading in ("perfgate", client, "difference"):
        grid.add_column(heading, justify="right")
    grid.add_column("", justify="left")
    for row in comparisons:
        grid.add_row(
            row.metric,
            f"{row.suite:.2f}",
            f"{row.client:.2f}",
            f"{row.difference:+.2%} ± {row.uncertainty:.2%}",
            row.verdict(tolerance),
        )
    return grid


def served_model(url: str, authorization: str = "") -> str:
    """The first model in the server's list.

    Raises:
        ClientFailed: the server does not answer, or has no list.
    """
    try:
        answer = web.get_json(
            f"{url}/v1/models", timeout_s=10, authorization=authorization
        )
        return str(answer["data"][0]["id"])
    except (web.NoAnswer, LookupError, TypeError) as error:
        raise ClientFailed(
            tried=f"GET {url}/v1/models",
            seen=getattr(error, "seen", "the answer is not a list of models"),
            remedy="is the server up? otherwise give --model",
        ) from error


def interleave(
    client: OtherClient,
    python: str,
    target: Target,
    workload: Workload,
    tokenizer: tokenizers.Tokenizer,
    rounds: int,
) -> list[Comparison]:
    """Warm up, then run both in turns: suite, client, client, suite, ...

    A drift of the machine falls on both alike.
    """
    warm_up(target, workload)
    suite_turns: list[Turn] = []
    client_turns: list[Turn] = []
    for number in range(rounds):
        order = [suite_turns, client_turns]
        if number % 2:
            order.reverse()
        for place, turns in enumerate(order):
            turn = turn_of(workload, 2 * number + place)
            is_backwards = place == 1 and isinstance(workload.prompts, ShareGPT)
            prompts = requests_of(target, turn, tokenizer, is_backwards)
            before, _ = server_figures(target)
            if turns is suite_turns:
                figures = run_suite(client, target, turn, prompts)
            else:
                figures = run_other(python, client, target, turn, prompts)
            after, _ = server_figures(target)
            server = difference(target.engine, before, after)
            turns.append(Turn(figures, server))
        click.echo(
            _progress_line(number, rounds, suite_turns[-1], client_turns[-1])
        )
    return compare(suite_turns, client_turns)


def _progress_line(number: int, rounds: int, suite: Turn, client: Turn) -> str:
    """One round for people: "round 2 of 4, suite / client: ttft_median_ms 59.3 / 60.7, ..."."""
    pairs = []
    for name in COMPARED:
        pairs.append(
            f"{name} {suite.figures[name]:.4g} / {client.figures[name]:.4g}"
        )
    return f"round {number + 1} of {rounds}, suite / client: {', '.join(pairs)}"
