"""Server metrics: the engine's own counters before and after a measurement."""

import pytest
import requests

from perfgate.load.server_metrics import ScrapeFailed, difference, parse, scrape
from tests.support.fake_launch import FakeEngine

BEFORE = """
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 100.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 1.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 2.0
vllm:time_to_first_token_seconds_sum{engine="0"} 1.0
vllm:time_to_first_token_seconds_count{engine="0"} 3.0
process_open_fds 12
"""
AFTER = """
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.5e+03
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 1.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 12.0
vllm:num_preemptions_total{engine="0"} 1.0
vllm:time_to_first_token_seconds_sum{engine="0"} 1.5
vllm:time_to_first_token_seconds_count{engine="0"} 13.0
"""


def test_labels_are_summed():
    """An engine splits its counters by reason, rank or source."""
    assert 3.0 == parse(BEFORE)["vllm:request_success_total"]
    assert 12.0 == parse(BEFORE)["process_open_fds"]


def test_difference_under_names_of_both_engines():
    """Counts are differences, means are of the measurement alone; missing counters are absent."""
    # 1500 - 100 tokens, 13 - 3 requests, 1 preemption of a counter that did not
    # show before, 0.5 s over 10 requests
    assert {
        "prompt_tokens": 1400.0,
        "requests": 10.0,
        "preemptions": 1.0,
        "ttft_mean_ms": 50.0,
    } == difference("vllm", parse(BEFORE), parse(AFTER))


@pytest.mark.parametrize("style", ["vllm", "sglang"])
def test_both_engines_counters(style):
    """One suite for both: the fake engine counts under either's names."""
    with FakeEngine(
        "--style", style, preemptions_per_request=2, prefix_hits_per_request=3
    ) as engine:
        before = scrape(engine.url)
        requests.post(
            f"{engine.url}/v1/completions",
            json={"prompt": [1, 2, 3, 4], "max_tokens": 2, "stream": True},
            timeout=10,
        )
        found = difference(style, before, scrape(engine.url))

    assert 4.0 == found["prompt_tokens"]
    assert 2.0 == found["generation_tokens"]
    assert (2.0, 3.0) == (
        found["preemptions"],
        found["prefix_cache_hit_tokens"],
    )


def test_no_server_is_an_error():
    """Nothing is made up where nothing answers."""
    with pytest.raises(ScrapeFailed, match="metrics"):
        scrape("http://127.0.0.1:9", timeout_s=2)


def test_a_histogram_that_appears_under_load_has_its_mean():
    """An engine shows it from the first request on: what stands there was added."""
    after = {
        "vllm:request_queue_time_seconds_sum": 0.5,
        "vllm:request_queue_time_seconds_count": 20.0,
    }

    assert 25.0 == difference("vllm", {}, after)["queue_mean_ms"]
