"""Server rates: prefix hits and accepted tokens, of the loads that ask for them alone."""

import math

from perfgate.load import server_rates
from perfgate.load.workload import Synthetic, Workload
from tests.support import builders as m

SHARED = Workload(
    name="shared",
    num_prompts=2,
    prompts=Synthetic(input_len_tokens=32, shared_prefix_tokens=16),
)
DRAFTED = Workload(name="drafted", num_prompts=2, speculative=True)


def answered(tokens_per_chunk=1):
    """Two answers of four chunks, 10 ms apart."""
    return [
        m.transcript(
            chunks_ms=(5.0, 15.0, 25.0, 35.0),
            output_tokens=4 * tokens_per_chunk,
        )
        for _ in range(2)
    ]


def test_hits_are_a_share_of_the_prompt_tokens():
    """As the server counts them."""
    rows = answered()
    tokens = sum(row.input_tokens for row in rows)

    figures = server_rates.values(
        SHARED, rows, {"prefix_cache_hit_tokens": tokens / 2}
    )

    assert math.isclose(0.5, figures["prefix_hit_rate"], rel_tol=0.05)


def test_no_hit_is_nearly_nothing_and_has_a_logarithm():
    """A cache that is off can be judged."""
    figures = server_rates.values(
        SHARED, answered(), {"prefix_cache_hit_tokens": 0.0}
    )

    assert 0 < figures["prefix_hit_rate"] < 0.3


def test_a_server_without_the_counter_has_no_rate():
    """Nothing is assumed of it."""
    assert {} == server_rates.values(SHARED, answered(), {})


def test_a_plain_load_has_none_of_it():
    """However many counters the server has."""
    counters = {"prefix_cache_hit_tokens": 5.0, "accepted_draft_tokens": 5.0}

    assert {} == server_rates.values(m.CLOSED, answered(), counters)


def test_a_step_and_a_token_have_times_of_their_own():
    """Two tokens a chunk: a step takes 10 ms, and a token half of that."""
    figures = server_rates.values(
        DRAFTED, answered(2), {"accepted_draft_tokens": 8.0}
    )

    assert 2.0 == figures["chunk_tokens"]
    assert 2.0 == figures["acceptance_length"]
    assert math.isclose(10.0, figures["step_itl_median_ms"])
    assert math.isclose(30.0 / 7, figures["token_itl_mean_ms"])


def test_drafts_that_never_hit_are_one_token_a_step():
    """So is a server that drafts nothing, and has no such counter."""
    for counters in ({"accepted_draft_tokens": 0.0}, {}):
        figures = server_rates.values(DRAFTED, answered(), counters)
        assert 1.0 == figures["acceptance_length"]


def test_a_load_without_answers_has_no_rate():
    """All of its requests failed."""
    assert {} == server_rates.values(DRAFTED, [], {})


def test_as_many_accepted_tokens_as_answered_have_no_length():
    """A counter that other requests moved, too: no step would be left."""
    for accepted in (8.0, 9.0):
        figures = server_rates.values(
            DRAFTED, answered(), {"accepted_draft_tokens": accepted}
        )
        assert "acceptance_length" not in figures
