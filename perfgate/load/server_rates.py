"""Server rates: prefix-cache hits and accepted draft tokens, of the loads that ask for them.

With speculative decoding a chunk holds the tokens that one step accepted. The gap between
two chunks is then the time of a step, and the time of a token is shorter: both are there
under names of their own. The ITL keeps its definition, the gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from perfgate.load.request_times import NS_PER_MS, completed, itl_ns
from perfgate.load.response import Transcript
from perfgate.load.workload import Workload


def values(
    workload: Workload,
    transcripts: Sequence[Transcript],
    server_values: Mapping[str, float],
) -> dict[str, float]:
    """Metric -> value, of a load that shares prefixes or is speculative; else none."""
    good = completed(transcripts)
    figures: dict[str, float] = {}
    if not good:
        return figures
    if workload.shares_prefixes:
        hits = server_values.get("prefix_cache_hit_tokens")
        tokens = sum(t.input_tokens for t in good)
        if hits is not None:
            figures["prefix_hit_rate"] = (hits + 0.5) / (tokens + 0.5)
    if workload.speculative:
        figures |= _speculative(good, server_values)
    return figures


def _speculative(
    good: Sequence[Transcript], server_values: Mapping[str, float]
) -> dict[str, float]:
    """Tokens of a step by the server and by its chunks, and the times of both."""
    tokens = sum(t.output_tokens for t in good)
    chunks = sum(len(t.chunk_ns) for t in good)
    figures = {"chunk_tokens": tokens / chunks}
    # A server that drafts nothing has no such counter.
    accepted = server_values.get("accepted_draft_tokens", 0.0)
    if accepted < tokens:
        figures["acceptance_length"] = tokens / (tokens - accepted)
    gaps_ns = np.concatenate([itl_ns(t) for t in good])
    if len(gaps_ns):
        figures["step_itl_median_ms"] = float(np.median(gaps_ns)) / NS_PER_MS
    further = tokens - len(good)
    if further:
        decoding_ns = sum(t.last_ns - t.first_ns for t in good)
        figures["token_itl_mean_ms"] = decoding_ns / further / NS_PER_MS
    return figures
