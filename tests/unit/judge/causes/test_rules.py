"""Rules for causes: the shapes of losses that each names, and those that none does."""

import dataclasses
import math

import pytest

from perfgate.judge.causes import rules
from perfgate.judge.causes.symptoms import (
    Choice,
    Decoding,
    Moved,
    ServerSymptoms,
)

UNITS_HIGHER = ("output_throughput", "kv_cache_tokens")


def moved(metric, load, streams, before, now):
    """A metric that changed; red where it lost more than 2 %."""
    loss = math.log(now / before)
    if metric in UNITS_HIGHER:
        loss = -loss
    return Moved(
        case=f"s/{load}/{metric}",
        metric=metric,
        load=load,
        streams=streams,
        together=False,
        before=before,
        now=now,
        loss=loss,
        noise=0.003,
        is_red=loss > 0.02,
    )


def step(streams, before, now):
    """A decode step."""
    return moved("itl_median_ms", f"at-{streams}", streams, before, now)


def first(before, now):
    """The first token of one stream."""
    return moved("ttft_median_ms", "at-1", 1, before, now)


def closed(streams, before, now):
    """Throughput of a closed load."""
    return moved("output_throughput", f"at-{streams}", streams, before, now)


def server(*rows, sparse=False, ranks=1, **fields):
    """A server whose name says nothing about its model."""
    base = ServerSymptoms(
        key=f"e-{'a' if sparse else 'b'}-tp{ranks}",
        engine="e",
        model="a" if sparse else "b",
        is_sparse=sparse,
        layers=32,
        ranks=ranks,
        gpus=ranks,
        injected="",
        moved=rows,
        changed=(),
        decoding=(),
    )
    return dataclasses.replace(base, **fields)


def named(*servers):
    """The cause of the first server."""
    return rules.find(servers[0], servers).cause


EXPERTS = server(
    step(1, 8.0, 20.0),
    first(30.0, 52.0),
    closed(32, 1250.0, 650.0),
    sparse=True,
)
FLAT = server(step(1, 4.8, 4.81), step(32, 5.4, 5.4))


def test_sparse_alone_is_slower():
    """The dense control has not moved: the experts, even for a small loss."""
    small = server(step(1, 8.0, 8.3), step(32, 24.0, 26.0), sparse=True)

    assert "expert-path" == named(EXPERTS) == named(small, FLAT)


def test_without_control_a_small_loss_of_a_sparse_model_is_unknown():
    """Clocks and hosts cost that much too."""
    small = server(step(1, 8.0, 8.3), step(32, 24.0, 26.0), sparse=True)

    assert "unknown" == named(small)


@pytest.mark.parametrize(
    "rows",
    [
        # Everything by the same share, as slower clocks make it.
        (step(1, 8.0, 10.4), first(30.0, 39.0), closed(32, 1250.0, 960.0)),
        # Each step by the same time, as a slower host makes it.
        (step(1, 8.0, 10.4), first(30.0, 32.4), closed(32, 1250.0, 1145.0)),
    ],
    ids=["clocks", "host"],
)
def test_sparse_model_alone_on_a_slow_machine_is_not_its_experts(rows):
    """Nothing was measured that could tell."""
    assert "unknown" == named(server(*rows, sparse=True))


def test_dense_too_is_not_the_expert_path():
    """Both lost as much of a step."""
    dense = server(step(1, 4.8, 6.0), step(32, 5.4, 6.7))
    sparse = server(step(1, 8.0, 10.0), step(32, 24.0, 30.0), sparse=True)

    assert "host" == named(dense, sparse) == named(sparse, dense)


def test_same_time_for_each_step_on_several_ranks():
    """Communication: not a like share. A server of one rank has not lost it."""
    dense = server(step(1, 3.5, 3.8), step(32, 3.8, 4.1), ranks=2)
    sparse = server(
        step(1, 5.2, 5.5), step(32, 13.3, 13.65), sparse=True, ranks=2
    )

    assert "communication" == named(dense, sparse) == named(sparse, dense, FLAT)
    slow = server(step(1, 4.8, 5.1), step(32, 5.4, 5.7))
    assert "communication" != named(dense, sparse, slow)
    # One model alone: the host would do the same.
    assert "unknown" == named(dense)


def test_cost_per_token_of_the_batch():
    """One stream is as fast as before."""
    tokens = server(
        step(1, 4.84, 4.86), step(32, 5.41, 5.53), first(20.0, 19.6)
    )

    assert "per-token" == named(tokens)
    assert "unknown" == named(dataclasses.replace(tokens, is_sparse=True))


def test_capped_batch_waits_and_computes_no_slower():
    """The same limit in every load with more streams."""
    rows = (step(1, 4.8, 4.8), step(32, 5.4, 5.1), closed(32, 5000.0, 2900.0))
    at_16 = (Decoding("at-32", 32, 16), Decoding("burst", 100, 16))
    capped = server(*rows, decoding=at_16)

    assert "batch-cap" == named(capped)
    free = (Decoding("at-32", 32, 32), Decoding("burst", 100, 100))
    assert "unknown" == named(dataclasses.replace(capped, decoding=free))
    # Less room for the KV cache would do the same.
    less = moved("kv_cache_tokens", "", None, 9e5, 2e5)
    full = dataclasses.replace(capped, moved=(*rows, less))
    assert "batch-cap" != named(full)


@pytest.mark.parametrize(
    ("choice", "rows", "cause"),
    [
        (("graphs", "on", "off"), (step(1, 4.8, 24.7),), "graphs"),
        (
            ("chunked_prefill_tokens", "8192", "512"),
            (step(1, 4.8, 4.8), closed(100, 11700.0, 10900.0)),
            "prefill-chunk",
        ),
        (("attention_backend", "A", "B"), (first(20.0, 26.0),), "attention"),
        (("model_runner", "V1", "V2"), (first(20.0, 26.0),), "model-runner"),
        (
            ("quantization", "none", "fp8"),
            (first(20.0, 26.0),),
            "number-format",
        ),
        (("sampling_backend", "A", "B"), (first(20.0, 26.0),), "sampling"),
    ],
)
def test_choice_that_changed_names_the_cause(choice, rows, cause):
    """Where what it can move has moved."""
    changed = server(*rows, changed=(Choice(*choice),))
    finding = rules.find(changed, [changed])

    assert (cause, True) == (finding.cause, finding.by_choice)
    assert f"{choice[0]} {choice[1]} -> {choice[2]}" == finding.evidence[0]


def test_choice_for_experts_says_nothing_of_a_dense_model():
    """Nor one for ranks of a server that has one."""
    for name in ("moe_backend", "all_reduce"):
        changed = server(step(1, 4.8, 6.0), changed=(Choice(name, "A", "B"),))
        assert "unknown" == named(changed)


def test_memory_alone():
    """No load was slower."""
    less = moved("kv_cache_tokens", "", None, 9e5, 8e5)

    assert "memory" == named(server(step(1, 4.8, 4.8), less))


def test_unknown_tells_what_was_lost():
    """A prefill that is slower alone has no rule."""
    slow = server(step(1, 4.8, 4.8), first(20.0, 30.0))
    finding = rules.find(slow, [slow])

    assert ("unknown", "prefill") == (finding.cause, finding.phase)
    assert "TTFT of at-1 +50.0 %" in finding.evidence[0]


def test_changed_choice_is_told_without_a_loss():
    """It names what it stands for."""
    changed = server(changed=(Choice("moe_config", "a.json", "default"),))
    finding = rules.by_choice(changed)

    assert ("expert-path", True) == (finding.cause, finding.by_choice)
    assert rules.by_choice(server()) is None
