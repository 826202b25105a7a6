"""Pages of metrics in other forms, under other names, and pages that are none."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.load.server_metrics import (
    ScrapeFailed,
    actual_name,
    difference,
    parse,
    renamed,
    scrape,
)
from tests.support.raw_server import by_path, endless, pieces, serving, whole

OPEN_METRICS = r"""# TYPE vllm:num_preemptions counter
# HELP vllm:num_preemptions Preempted
vllm:num_preemptions_total{engine="0",path="a}\" b"} 5.0 1700000000.123 # {trace_id="x"} 1.0
vllm:num_preemptions_created{engine="0"} 1.7e+09
vllm:prompt_tokens_total 7 1700000000
# EOF
"""


def test_open_metrics_is_read():
    """Times, exemplars and quotes within labels do not hide a sample."""
    assert {
        "vllm:num_preemptions_total": 5.0,
        "vllm:num_preemptions_created": 1.7e9,
        "vllm:prompt_tokens_total": 7.0,
    } == parse(OPEN_METRICS)


@pytest.mark.parametrize(
    "name",
    [
        "num_preemptions_total",
        "vllm_num_preemptions_total",
        "vllm:gpu_num_preemptions_total",
        "ray_vllm:num_preemptions_total",
        "vllm:num_preemptions",
    ],
)
def test_a_counter_under_another_prefix_is_found_and_told(name):
    """Versions, collectors and fronts rename."""
    page = {name: 3.0, "vllm:num_preemptions_created": 1e9}

    assert 3.0 == difference("vllm", {name: 0.0}, page)["preemptions"]
    note = f"/metrics: {name} was read as vllm:num_preemptions_total"
    assert (note,) == renamed("vllm", page)


def test_two_candidates_are_none():
    """Which one counts is not guessed."""
    page = {"a_num_preemptions_total": 1.0, "b_num_preemptions_total": 2.0}
    key = "vllm:num_preemptions_total"

    assert key == actual_name(key, page)
    assert "preemptions" not in difference("vllm", page, page)


def test_a_late_counter_is_zero_only_on_the_engines_own_page():
    """SGLang shows it once it counted; a page without any of its counters says nothing."""
    own = {"sglang:generation_tokens_total": 5.0}

    assert 0.0 == difference("sglang", own, own)["preemptions"]
    assert {} == difference("sglang", {"up": 1.0}, {"up": 1.0})


def test_a_counter_that_goes_back_is_not_known():
    """Another replica answered, or the server was started again."""
    before = {"vllm:num_preemptions_total": 5.0}
    after = {"vllm:num_preemptions_total": 1.0}

    assert {} == difference("vllm", before, after)


def test_a_histogram_without_its_sum_has_no_mean():
    """Instead of an error."""
    after = {"vllm:time_to_first_token_seconds_count": 3.0}

    assert {} == difference("vllm", {}, after)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (whole(b'{"metrics": "disabled"}'), "no page of metrics"),
        (whole(b"<html>found"), "no page of metrics: it starts '<html>found'"),
        (whole(b""), "it starts 'nothing'"),
        (whole(b"\x1b[2Jmetrics disabled"), r"x1b\[2J"),
        (whole(b"up nan\n"), "no page of metrics"),
        (whole(b"no", "401 Unauthorized"), "HTTP 401"),
        (endless(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 10**6), "larger than"),
        (
            endless(b"HTTP/1.0 200 OK\r\n\r\n", b"up 1\n", 0.05),
            "no complete answer",
        ),
        (pieces(b""), "closed without an answer"),
    ],
)
def test_what_is_no_page_of_metrics_is_told(answer, seen):
    """Whatever answers 200 there, and however slowly."""
    with (
        serving(by_path({"/metrics": answer})) as server,
        pytest.raises(ScrapeFailed, match=seen),
    ):
        scrape(server.url, timeout_s=0.5 if "complete" in seen else 20)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_parsed(text):
    """Nothing that a page can hold raises."""
    assert all(map(math.isfinite, parse(text).values()))


@pytest.mark.parametrize(
    ("status", "is_sglang"),
    [("404 Not Found", True), ("500 Internal Server Error", False)],
)
def test_a_page_that_is_not_there_names_the_option(status, is_sglang):
    """SGLang has it by an option; an error of the server has another reason."""
    answer = whole(b"no", status)
    with (
        serving(by_path({"/metrics": answer})) as server,
        pytest.raises(ScrapeFailed) as refused,
    ):
        scrape(server.url)

    assert is_sglang is ("--enable-metrics" in refused.value.remedy)
