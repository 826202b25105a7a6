"""Moved choices: the smallest shift of a layer's routing that each rule calls a regression.

    python -m benchmarks.moved_choices RUN

RUN is a folder with a `results.json` whose routing was read. Choices of one layer are
moved by arithmetic, with a seed, so no engine runs. The old rule compares a layer's
shares with the noise between two draws of requests; the new one compares request by
request. `benchmarks/router_gate.py` prints the same table of trained routers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from perfgate.formatting import percent
from perfgate.models.rerouting import rerouting
from perfgate.models.routing import LayerShares, RequestRouting, Routing
from perfgate.models.routing_stats import drift, summary
from perfgate.results.schema import load

SEED = 0
# Fine steps where the new rule decides, whole percents beyond.
STEPS = np.concatenate([np.arange(1, 30) / 1000, np.arange(3, 101) / 100])

Counts = npt.NDArray[np.int64]
Move = Callable[[Routing, int, float], Routing]
Rule = Callable[[LayerShares, LayerShares], bool]


def counts_of(routing: Routing) -> Counts:
    """Choices by request, layer and expert."""
    return np.array([request.counts for request in routing.requests])


def with_counts(routing: Routing, counts: Counts) -> Routing:
    """The routing with other choices by request, layer and expert."""
    requests: list[RequestRouting] = []
    for request, rows in zip(routing.requests, counts.tolist(), strict=True):
        layers = tuple(tuple(row) for row in rows)
        requests.append(msgspec.structs.replace(request, counts=layers))
    return msgspec.structs.replace(routing, requests=tuple(requests))


def reversed_experts(routing: Routing, layer: int) -> Routing:
    """The experts of a layer in reversed order, as a wrong index map has them."""
    counts = counts_of(routing)
    counts[:, layer] = counts[:, layer, ::-1].copy()
    return with_counts(routing, counts)


def moved(
    routing: Routing,
    layer: int,
    share: float,
    target: int | None = None,
    seed: int = SEED,
) -> Routing:
    """A share of a layer's choices, drawn at random, on other experts.

    Args:
        share: of the layer's choices.
        target: the expert that they move to; those that are there already stay. None
            draws any other expert for each choice.
    """
    generator = np.random.default_rng(seed)
    counts = counts_of(routing)
    requests, _, experts = counts.shape
    places = np.repeat(np.arange(requests * experts), counts[:, layer].ravel())
    drawn = generator.permutation(places)[: round(share * len(places))]
    for place in drawn:
        request, expert = divmod(int(place), experts)
        step = int(generator.integers(1, experts))
        other = (expert + step) % experts
        if target is not None:
            other = target
        counts[request, layer, expert] -= 1
        counts[request, layer, other] += 1
    return with_counts(routing, counts)


def is_red_by_shares(now: LayerShares, recorded: LayerShares) -> bool:
    """The old rule: each layer's shares."""
    furthest = drift(now, recorded)
    return furthest.distance > furthest.threshold


def is_red_by_request(now: LayerShares, recorded: LayerShares) -> bool:
    """The new rule, with two recorded launches that are alike."""
    furthest = rerouting([now], [recorded, recorded])
    return furthest.distance > furthest.threshold


def smallest_red(
    routing: Routing, layer: int, rule: Rule, target: int | None
) -> float | None:
    """The smallest share of moved choices that is red; None where no share is."""
    recorded = summary(routing)
    for share in STEPS:
        now = summary(moved(routing, layer, float(share), target))
        if rule(now, recorded):
            return float(share)
    return None


def table(routing: Routing) -> list[str]:
    """One line for each layer: the smallest shifts, and reversed experts."""
    recorded = summary(routing)
    lines = [
        "| layer | to any experts: by shares | by request "
        "| to expert 0: by shares | by request "
        "| reversed: by shares | by request |",
        "|--:|--:|--:|--:|--:|---|---|",
    ]
    for layer in range(len(recorded.counts)):
        cells = [str(layer)]
        for target in (None, 0):
            for rule in (is_red_by_shares, is_red_by_request):
                share = smallest_red(routing, layer, rule, target)
                cells.append("never" if share is None else percent(share))
        reverse = summary(reversed_experts(routing, layer))
        for rule in (is_red_by_shares, is_red_by_request):
            cells.append("red" if rule(reverse, recorded) else "green")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """The table of each server of a stored run."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path)
    asked = parser.parse_args()
    for row in load(asked.run).measurements:
        if row.routing is not None and row.launch == 0:
            print(f"{row.server}, {row.workload}:")
            print("\n".join(table(row.routing)))


if __name__ == "__main__":
    sys.exit(main())
