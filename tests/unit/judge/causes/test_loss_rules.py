"""Rules by loss: the shapes that each names, and those that none does."""

import dataclasses

import pytest

from perfgate.judge.causes.loss_rules import expert_path
from tests.support.symptoms import closed, first, moved, named, server, step

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

    assert "communication" == named(sparse, dense, FLAT)
    slow = server(step(1, 4.8, 5.1), step(32, 5.4, 5.7))
    assert "communication" != named(dense, sparse, slow)
    # One model alone: the host would do the same.
    assert "unknown" == named(dense)


@pytest.mark.parametrize(
    ("first_ms", "cause"), [(16.2, "communication"), (15.4, "unknown")]
)
def test_without_a_single_rank_the_prefill_decides(first_ms, cause):
    """It exchanges more than a step does; a slower host or sampler costs both the same."""
    servers = []
    for sparse in (False, True):
        servers.append(
            server(
                step(1, 3.5, 3.8),
                step(32, 13.3, 13.6),
                first(15.1, first_ms),
                sparse=sparse,
                ranks=2,
            )
        )

    assert cause == named(*servers)


def test_cost_per_token_of_the_batch():
    """One stream is as fast as before."""
    tokens = server(
        step(1, 4.84, 4.86), step(32, 5.41, 5.53), first(20.0, 19.6)
    )

    assert "per-token" == named(tokens)
    assert "unknown" == named(dataclasses.replace(tokens, is_sparse=True))


def test_memory_alone():
    """No load was slower."""
    less = moved("kv_cache_tokens", "", None, 9e5, 8e5)

    assert "memory" == named(server(step(1, 4.8, 4.8), less))


@pytest.mark.parametrize(
    ("metric", "cause"),
    [
        ("answers_perplexity", "answers"),
        ("accuracy", "answers"),
        ("engine_settings", "unknown"),
        ("weights_bytes_per_rank", "memory"),
    ],
)
def test_what_is_red_without_a_load_is_not_always_memory(metric, cause):
    """Answers are their own cause, and settings are none of these."""
    red = dataclasses.replace(
        moved(metric, "", None, 480.0, 960.0), is_red=True
    )

    assert cause == named(server(step(1, 4.8, 4.8), red))


@pytest.mark.parametrize(
    ("between", "cause"),
    [(4.93, "per-token"), (7.0, "unknown"), (4.9, "per-token")],
)
def test_batches_between_lose_their_share_of_a_cost_per_token(between, cause):
    """Within noise; one that lost more than the widest batch contradicts it."""
    rows = (step(1, 4.84, 4.84), step(8, 4.9, between), step(32, 5.41, 5.53))

    assert cause == named(server(*rows))


def test_a_jump_at_the_widest_batch_is_no_cost_per_token():
    """A quarter of the sequences lost nothing of 20 ms."""
    rows = (step(1, 4.84, 4.84), step(8, 4.9, 4.9), step(32, 5.41, 25.5))

    assert "unknown" == named(server(*rows))


def test_a_dense_model_on_one_rank_is_no_control_for_several():
    """It exchanges nothing, and the ranks may have lost the time in exchanges."""
    rows = (step(1, 5.2, 5.5), step(32, 13.3, 13.65))
    sparse = server(*rows, sparse=True, ranks=2)
    control = dataclasses.replace(FLAT, ranks=2, key="e-b-tp2")

    assert "unknown" == named(sparse, FLAT)
    assert "expert-path" == named(sparse, FLAT, control)


def test_a_server_whose_steps_are_as_before_lost_no_experts():
    """Nor has a dense model any, whatever its steps lost."""
    steady = server(step(1, 8.0, 8.0), first(30.0, 52.0), sparse=True)
    dense = server(step(1, 8.0, 20.0))

    assert None is expert_path(steady, [steady])
    assert None is expert_path(dense, [dense])
    assert "expert-path" == expert_path(EXPERTS, [EXPERTS]).cause
