"""Questions about stated routings: which servers they need, and what fails a run."""

import dataclasses

import pytest

from perfgate.study import BadStudy
from tests.perf.test_stated_routing import (
    as_predicted,
    as_stated,
    each_way,
    over_even,
    spread_over_even,
)
from tests.support.studies import study_of

QUESTIONS = (each_way, over_even, as_predicted, spread_over_even, as_stated)


def asked(platform, *stated, ranks=1, engine="vllm", **fields):
    """The study with dummy weights, and these routings asked for."""
    study = study_of(platform, engine, ranks, "dummy")
    return dataclasses.replace(study, stated_routings=stated, **fields)


def gates(question, study):
    """Id of each case -> what it does to a run."""
    return {case.id: case.gate for case in question(study)}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("platform", ["cpu", "h200"])
def test_nothing_is_asked_unless_a_routing_is_named(platform, question):
    """Each is a server of its own; a session takes no longer than before."""
    assert {} == gates(question, asked(platform, ranks=2))


def test_each_routing_is_judged_by_itself():
    """The even one, too, whether or not it is named: the others are compared with it."""
    found = gates(each_way, asked("h200", "few", "uniform"))

    server = "vllm-mixtral-8x7b-tp1"
    expected = {}
    for way in ("uniform", "few"):
        expected |= {
            f"{server}-{way}/steady-c32/steady_output_throughput": "hard",
            f"{server}-{way}/steady-c32/itl_median_ms": "hard",
            f"{server}-{way}/single-stream/itl_median_ms": "hard",
        }
    assert expected == found


@pytest.mark.parametrize(
    ("platform", "gate"), [("h200", "hard"), ("cpu", "report")]
)
def test_uneven_routing_is_compared_with_even_routing(platform, gate):
    """Ratios within one session; on two shared cores they are report-only."""
    study = asked(platform, "skewed")
    even = study.stated(study.model, "uniform").key
    skewed = study.stated(study.model, "skewed").key
    load = study.closed.name
    subject = f"{skewed}--over--{even}"

    assert {
        f"{subject}/{load}/{study.closed_throughput}": gate,
        f"{subject}/{load}/itl_median_ms": gate,
        f"{subject}/single-stream/itl_median_ms": gate,
    } == gates(over_even, study)


def test_the_ratio_is_shown_beside_its_prediction():
    """As a ratio of bandwidths, which is the latencies' ratio over that of the bytes."""
    found = gates(as_predicted, asked("h200", "few"))

    assert {"report"} == set(found.values())
    assert {"decode_bandwidth_gb_s"} == {
        name.rpartition("/")[2] for name in found
    }


@pytest.mark.parametrize(("ranks", "expected"), [(1, []), (2, ["hard"])])
def test_spread_experts_need_ranks(ranks, expected):
    """With whole experts on each rank the busiest one decides."""
    found = gates(spread_over_even, asked("h200", "few", ranks=ranks))

    assert expected == list(found.values())
    assert all("tp2-ep-few--over--" in name for name in found)


def test_what_tokens_chose_fails_a_run_where_it_is_not_what_was_stated():
    """Its cost follows from what is stated, so it is judged on every platform."""
    found = gates(as_stated, asked("cpu", "few"))

    server = "vllm-mixtral-small-tp1"
    assert {
        f"{server}-uniform/routing/routing_ep_cost": "hard",
        f"{server}-uniform/routing/routing_max_over_mean": "report",
        f"{server}-few/routing/routing_ep_cost": "hard",
        f"{server}-few/routing/routing_max_over_mean": "report",
    } == found


def test_on_gpus_another_launch_says_what_tokens_chose():
    """A server that returns its experts is never timed; SGLang returns none there."""
    keys = [
        case.numerator.server.key for case in as_stated(asked("h200", "few"))
    ]

    assert [
        "vllm-mixtral-8x7b-tp1-uniform-routing",
        "vllm-mixtral-8x7b-tp1-few-routing",
    ] == list(dict.fromkeys(keys))
    assert {} == gates(as_stated, asked("h200", "few", engine="sglang"))


def test_builds_are_not_compared_by_what_tokens_chose():
    """It would take six more launches, and says nothing of a build's speed."""
    study = asked("h200", "few", has_base_build=True)

    assert {} == gates(as_stated, study)
    assert gates(each_way, study)


@pytest.mark.parametrize("question", QUESTIONS)
def test_real_weights_are_refused(question):
    """Their routers choose, and the message says what to add."""
    study = dataclasses.replace(
        study_of("h200", "vllm", 2), stated_routings=("few",)
    )

    with pytest.raises(BadStudy, match="add --weights dummy"):
        list(question(study))
