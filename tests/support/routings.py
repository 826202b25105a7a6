"""Routing of launches whose requests differ, as real prompts do."""

import numpy as np

from perfgate.models.routing import RequestRouting, Routing


def varied(requests=64, layers=2, experts=8, tokens=33, seed=0):
    """A launch of requests that each prefer experts of their own."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(requests):
        counts = []
        for _ in range(layers):
            preference = generator.dirichlet(np.ones(experts))
            drawn = generator.multinomial(2 * tokens, preference)
            counts.append(tuple(drawn.tolist()))
        row = RequestRouting(
            tokens=tokens,
            counts=tuple(counts),
            repeats_first=(1,) * layers,
            repeats_any=(1,) * layers,
        )
        rows.append(row)
    return Routing(top_k=2, ranks=2, requests=tuple(rows))
