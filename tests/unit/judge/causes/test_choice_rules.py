"""Rules by choice: each names the cause where what it can move has moved."""

import dataclasses

import pytest

from perfgate.judge.causes import choice_rules, rules
from perfgate.judge.causes.symptoms import Choice, Decoding
from tests.support.symptoms import (
    batch,
    closed,
    first,
    long_prompts,
    moved,
    named,
    server,
    step,
)


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
    ("before", "kept", "cause"),
    [
        # The base build met it, too, or the engine's own limit is as before.
        (16, {}, "unknown"),
        (0, {"max_num_seqs": "16"}, "unknown"),
        (32, {"max_num_seqs": "256"}, "batch-cap"),
        (0, {"max_num_seqs": "not seen"}, "batch-cap"),
    ],
)
def test_a_limit_that_was_met_before_is_no_new_cap(before, kept, cause):
    """Only the first token is later: the limit has cost nothing."""
    met = tuple(
        Decoding(load, streams, 16, before and min(before, streams))
        for load, streams in (("at-32", 32), ("burst", 100))
    )
    rows = (step(1, 4.8, 4.8), step(32, 5.4, 5.4), closed(32, 5e3, 4.7e3))
    assert cause == named(server(*rows, decoding=met, kept=kept))


def test_a_load_that_pairs_measured_often_is_one_load():
    """It is named once, and two pairs of it are not two loads."""
    rows = (step(1, 4.8, 4.8), closed(32, 5000.0, 2900.0))
    often = (Decoding("at-32", 32, 16),) * 6
    alone = server(*rows, decoding=often)
    limit = Choice("max_num_seqs", "256", "16")
    chosen = dataclasses.replace(alone, changed=(limit,))

    found = choice_rules.batch_cap(chosen, (chosen,))

    assert "unknown" == named(alone)
    assert found is not None
    assert "at once in at-32, and" in found.evidence[-1]


@pytest.mark.parametrize(
    ("choice", "rows", "cause"),
    [
        (("graphs", "on", "off"), (step(1, 4.8, 24.7),), "graphs"),
        (
            ("chunked_prefill_tokens", "8192", "512"),
            (step(1, 4.8, 4.8), closed(100, 11700.0, 10900.0)),
            "prefill-chunk",
        ),
        # Prompts of 4,096 tokens, on an H200.
        (
            ("chunked_prefill_tokens", "8192", "512"),
            (step(1, 4.8, 4.8), long_prompts(104.2, 118.4)),
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
        (("async_scheduling", "on", "off"), (step(1, 4.8, 6.7),), "scheduling"),
        (
            ("capture_sizes", "1 to 512 (51)", "1 to 4 (3)"),
            (step(1, 4.8, 4.8), step(8, 4.9, 26.3)),
            "graphs",
        ),
        (
            ("graphs_captured", "FULL 51, PIECEWISE 51", "FULL 51"),
            (step(1, 4.8, 4.8), first(20.0, 32.0)),
            "graphs",
        ),
        (
            ("max_num_seqs", "1024", "64"),
            (moved("saturated_throughput", "ramp", None, 11300.0, 5700.0),),
            "batch-cap",
        ),
    ],
)
def test_choice_that_changed_names_the_cause(choice, rows, cause):
    """Where what it can move has moved."""
    changed = server(*rows, changed=(Choice(*choice),))
    finding = rules.find(changed, [changed])

    assert (cause, True) == (finding.cause, finding.by_choice)
    assert f"{choice[0]} {choice[1]} -> {choice[2]}" == finding.evidence[0]


@pytest.mark.parametrize(
    ("choice", "rows"),
    [
        # More graphs, a batch that has one, and a step that is slower with its graph.
        (
            ("capture_sizes", "1 to 4 (3)", "1 to 512 (51)"),
            (step(1, 4.8, 4.8), step(8, 4.9, 26.3)),
        ),
        (
            ("capture_sizes", "1 to 512 (51)", "1 to 64 (11)"),
            (step(1, 4.8, 4.8), step(8, 4.9, 26.3)),
        ),
        (
            ("capture_sizes", "1 to 512 (51)", "1 to 4 (3)"),
            (step(1, 4.8, 6.0), step(8, 4.9, 26.3)),
        ),
        (("async_scheduling", "on", "off"), (first(20.0, 32.0),)),
        (("async_scheduling", "off", "on"), (step(1, 4.8, 6.7),)),
        # A prompt that fits into a chunk is slower as well.
        (
            ("chunked_prefill_tokens", "8192", "512"),
            (first(20.0, 26.0), long_prompts(104.2, 118.4)),
        ),
        (
            ("chunked_prefill_tokens", "8192", "16384"),
            (long_prompts(104.2, 118.4),),
        ),
        (
            ("max_num_seqs", "64", "1024"),
            (moved("saturated_throughput", "ramp", None, 11300.0, 5700.0),),
        ),
    ],
)
def test_choice_that_cannot_have_moved_it_is_no_cause(choice, rows):
    """The loss is elsewhere than where the choice acts."""
    changed = server(*rows, changed=(Choice(*choice),))

    assert choice_rules.BY_CHOICE.get(choice[0], "graphs") != named(changed)


def test_choice_for_experts_says_nothing_of_a_dense_model():
    """Nor one for ranks of a server that has one."""
    for name in ("moe_backend", "all_reduce"):
        changed = server(step(1, 4.8, 6.0), changed=(Choice(name, "A", "B"),))
        assert "unknown" == named(changed)


def test_changed_choice_is_told_without_a_loss():
    """It names what it stands for."""
    changed = server(changed=(Choice("moe_config", "a.json", "default"),))
    finding = choice_rules.by_choice(changed)

    assert ("expert-path", True) == (finding.cause, finding.by_choice)
    assert choice_rules.by_choice(server()) is None


# On an H200: prompts one after the other, and many streams that decode.
PREFILL = batch("prefill", 1, 415.7, 544.3, (2048, 1))
DECODE = batch("decode", 32, 432.3, 492.6, (128, 64))
SHORT = batch("short", 4, 200.0, 200.1, (100, 64))


@pytest.mark.parametrize(
    "rows",
    [
        (PREFILL, DECODE),
        (PREFILL, DECODE, SHORT),
        (PREFILL,),
        # The decoding one has not lost.
        (PREFILL, batch("decode", 32, 432.3, 433.0, (128, 64))),
    ],
)
def test_smaller_chunks_slow_batches_of_a_held_engine(rows):
    """Those whose prompts do not fit into one, and the more the less they decode."""
    chunk = Choice("chunked_prefill_tokens", "off", "512")
    held = server(*rows, changed=(chunk,))
    finding = rules.find(held, [held])

    assert ("prefill-chunk", "prefill") == (finding.cause, finding.phase)
    assert finding.by_choice
    assert finding.evidence[1].endswith("decodes least lost most: prefill")


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        # One that fits has lost too.
        (
            ("off", "512"),
            (PREFILL, DECODE, batch("short", 4, 200.0, 230.0, (100, 64))),
        ),
        # What decodes has lost more, or alone.
        (("off", "512"), (PREFILL, batch("decode", 32, 400, 800, (128, 64)))),
        (
            ("off", "512"),
            (batch("prefill", 1, 415.7, 416.0, (2048, 1)), DECODE),
        ),
        # Larger chunks, and both larger than what is in flight.
        (("512", "off"), (PREFILL, DECODE)),
        (("16384", "8192"), (PREFILL, DECODE)),
        # Nothing has lost.
        (("off", "512"), (SHORT,)),
        # Of prompts that vary nothing is known.
        (("off", "512"), (batch("prefill", 1, 415.7, 544.3, (None, None)),)),
    ],
)
def test_chunks_are_no_cause_of_other_losses_of_batches(sizes, rows):
    """It is lost elsewhere than where a chunk acts."""
    chunk = Choice("chunked_prefill_tokens", *sizes)
    assert "unknown" == named(server(*rows, changed=(chunk,)))


@pytest.mark.parametrize(
    ("name", "cause"),
    [("graphs", "graphs"), ("async_scheduling", "scheduling")],
)
def test_steps_of_a_held_engine_are_those_of_batches_that_decode(name, cause):
    """A prefill alone has none."""
    choice = (Choice(name, "on", "off"),)

    assert cause == named(server(DECODE, changed=choice))
    assert "unknown" == named(server(PREFILL, changed=choice))


@pytest.mark.parametrize(
    ("before", "now", "at_most"),
    [("16", "24", 24), ("1024", "512", 20)],
    ids=["a larger limit", "a limit that no stream meets"],
)
def test_a_limit_that_does_not_bind_is_no_cap(before, now, at_most):
    """Streams are as few for another reason."""
    rows = (step(1, 4.8, 4.8), closed(32, 5000.0, 4500.0))
    limit = Choice("max_num_seqs", before, now)
    few = (Decoding("at-32", 32, at_most),)

    assert "unknown" == named(server(*rows, changed=(limit,), decoding=few))


def test_a_smaller_batch_is_the_cause_of_its_fewer_graphs():
    """Of vLLM none is captured beyond twice the batch: a single prefill is slower, too."""
    rows = (
        step(1, 4.8, 4.8),
        step(32, 5.4, 5.1),
        first(18.1, 31.5),
        closed(32, 5000.0, 2900.0),
    )
    changed = (
        Choice("capture_sizes", "1 to 512 (51)", "1 to 32 (7)"),
        Choice("max_num_seqs", "1024", "16"),
    )
    capped = (Decoding("at-32", 32, 16),)

    assert "batch-cap" == named(server(*rows, changed=changed, decoding=capped))


@pytest.mark.parametrize(
    ("captured", "rows", "phase"),
    [
        # Steps run by these: each of them is slower.
        (
            ("FULL 51, PIECEWISE 51", "PIECEWISE 51"),
            (step(1, 4.8, 7.8), step(32, 5.4, 8.5)),
            "decode",
        ),
        (
            ("target decode, target prefill", "target prefill"),
            (step(1, 4.8, 7.8), first(20.0, 20.0)),
            "decode",
        ),
        (
            ("target decode, target prefill", "target decode"),
            (step(1, 4.8, 4.8), first(20.0, 32.0)),
            "prefill",
        ),
    ],
)
def test_a_kind_of_graphs_that_is_gone_is_the_cause(captured, rows, phase):
    """Of vLLM with numbers of sizes, of SGLang without."""
    changed = server(*rows, changed=(Choice("graphs_captured", *captured),))
    finding = rules.find(changed, [changed])

    assert ("graphs", phase) == (finding.cause, finding.phase)


@pytest.mark.parametrize(
    "captured",
    [
        # Two releases of SGLang, and launches that differ.
        ("decode", "target decode"),
        ("FULL 51, PIECEWISE 51", "FULL 51, PIECEWISE 51 or FULL 51"),
        # Steps do not run by these.
        ("FULL 51, PIECEWISE 51", "FULL 51"),
    ],
)
def test_graphs_that_steps_still_have_did_not_slow_them(captured):
    """Something else did."""
    changed = (Choice("graphs_captured", *captured),)

    assert "unknown" == named(server(step(1, 4.8, 7.8), changed=changed))


@pytest.mark.parametrize(
    ("choice", "rows", "phase"),
    [
        (
            ("graphs", "on", "off"),
            (step(1, 4.8, 24.7), first(20.0, 20.0)),
            "decode",
        ),
        (
            ("attention_backend", "A", "B"),
            (step(1, 4.8, 4.8), closed(32, 5000.0, 4500.0)),
            "unknown",
        ),
        (
            ("attention_backend", "A", "B"),
            (moved("kv_cache_tokens", "", None, 9e5, 2e5),),
            "unknown",
        ),
    ],
)
def test_a_phase_that_lost_nothing_is_not_named(choice, rows, phase):
    """Whatever the choice could have slowed."""
    changed = server(*rows, changed=(Choice(*choice),))

    assert phase == rules.find(changed, [changed]).phase
