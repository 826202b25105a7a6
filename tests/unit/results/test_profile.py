"""Profile: what kernels explain of a loss, and what the profiler itself costs."""

import pytest

from perfgate.results.profile import (
    CounterProof,
    KernelChange,
    Profile,
    ProfiledSteps,
)


def steps(step_ms, idle_ms=1.0, **more):
    """Steps of a launch under the profiler."""
    return ProfiledSteps(
        steps=20,
        batch=4,
        step_ms=step_ms,
        idle_ms=idle_ms,
        communication_ms=0.5,
        other_ms=0.2,
        **more,
    )


def kernel(name, before_ms, now_ms):
    """A kernel that runs once a step; of a build in which it takes no time, not at all."""
    return KernelChange(
        name=name,
        before_ms=before_ms,
        now_ms=now_ms,
        before_count=int(before_ms > 0),
        now_count=int(now_ms > 0),
    )


def profile(before, now, *kernels, lost_ms=None):
    """A profile of a decode step."""
    return Profile(
        server="vllm-a-tp1",
        load="closed-c4",
        phase="decode",
        unit="kernel",
        ranks=1,
        base="the base build",
        before=before,
        now=now,
        kernels=kernels,
        lost_ms=lost_ms,
    )


def test_share_is_of_what_was_lost_without_the_profiler():
    """Kernels below 5 % of it have no name, and gains count for nothing."""
    row = profile(
        steps(10),
        steps(21),
        kernel("moe", 2, 10),
        kernel("small", 1, 1.2),
        kernel("gain", 5, 1),
        lost_ms=10.0,
    )

    assert ("moe",) == tuple(change.name for change in row.slower)
    assert pytest.approx(0.8) == row.explained


@pytest.mark.parametrize(
    ("lost_ms", "loss_ms"), [(9.0, 9.0), (3.0, 11), (40.0, 11), (-1.0, 11)]
)
def test_a_loss_that_the_profile_does_not_show_is_not_explained_by_it(
    lost_ms, loss_ms
):
    """A shared machine disturbed one of them: the profile's own loss adds up."""
    row = profile(steps(10), steps(21), kernel("moe", 2, 13), lost_ms=lost_ms)

    assert loss_ms == row.loss_ms
    assert (loss_ms == lost_ms) == row.agrees


def test_without_a_metric_the_profile_itself_says_what_was_lost():
    """As of a burst, whose throughput has no unit of a step."""
    row = profile(steps(10), steps(14), kernel("moe", 2, 5))

    assert 4 == row.loss_ms
    assert pytest.approx(0.75) == row.explained


@pytest.mark.parametrize("before", [None, steps(15)])
def test_without_a_loss_nothing_is_explained(before):
    """Nor without a base."""
    row = profile(before, steps(14), kernel("moe", 2, 5))

    assert None is row.explained
    assert () == row.slower


def test_overhead_is_that_of_the_same_load():
    """Sent with the profiler off and on."""
    known = steps(10, plain_itl_ms=8.0, profiled_itl_ms=10.0)

    assert pytest.approx(0.25) == known.overhead
    assert None is steps(10).overhead


@pytest.mark.parametrize(
    ("now", "share"), [(100.0, 1.0), (60.0, 0.0), (80.0, 0.5)]
)
def test_what_an_argument_brings_back(now, share):
    """Of a throughput that fell from 100 to 60."""
    proof = CounterProof(
        server="s",
        choice="c",
        argument="--a b",
        metric="output_throughput",
        load="l",
        before=100.0,
        now=now,
        without=-0.4,
    )

    assert pytest.approx(share) == proof.brings_back


def test_new_kernels_in_place_of_others_explain_what_they_cost_more():
    """As between two releases on an H200: the same work has other names."""
    row = profile(
        steps(5.54),
        steps(5.68),
        kernel("attention of 0.33", 0, 0.66),
        kernel("attention of 0.26", 0.64, 0),
        kernel("sampling", 0.03, 0.05),
        lost_ms=0.1,
    )

    assert ["sampling"] == [kernel.name for kernel in row.slower]
    assert 0.02 == pytest.approx(row.replaced_ms)
    assert 0.4 == pytest.approx(row.explained)


def test_new_kernels_are_named_where_little_vanished():
    """A small one that is gone makes no new one its successor."""
    row = profile(
        steps(5), steps(6), kernel("added", 0, 1.0), kernel("gone", 0.1, 0)
    )

    assert ["added"] == [kernel.name for kernel in row.slower]
    assert () == row.replaced_by
    assert 1.0 == pytest.approx(row.explained)
