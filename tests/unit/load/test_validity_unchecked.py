"""Rules of validity that cannot be applied say so."""

import msgspec
import pytest

from perfgate.load.validity import unchecked
from perfgate.load.workload import Synthetic, Workload

LOAD = Workload(name="w", num_prompts=4, prompts=Synthetic(output_len_tokens=4))
SHARED = msgspec.structs.replace(
    LOAD,
    prompts=Synthetic(
        input_len_tokens=32, output_len_tokens=4, shared_prefix_tokens=16
    ),
)


def test_nothing_is_said_where_both_counters_are_known():
    """Zero is known as well."""
    values = {"preemptions": 0.0, "prefix_cache_hit_tokens": 0.0}

    assert () == unchecked(LOAD, "vllm", values)


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ("vllm", "the server's /metrics has no vllm:num_preemptions_total"),
        (
            "sglang",
            "the server's /metrics has no sglang:num_retracted_requests_total",
        ),
        ("another", "no counter of them is known for the engine another"),
    ],
)
def test_a_missing_counter_names_its_rule_and_itself(engine, reason):
    """So that one knows what to look for on the page."""
    line = unchecked(LOAD, engine, {"prefix_cache_hit_tokens": 0.0})

    assert (f"preempted requests are not known: {reason}",) == line


def test_hits_are_asked_for_only_where_they_are_wrong():
    """A workload that shares prefixes wants them."""
    assert 2 == len(unchecked(LOAD, "vllm", {}))
    assert 1 == len(unchecked(SHARED, "vllm", {}))
