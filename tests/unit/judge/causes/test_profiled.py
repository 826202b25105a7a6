"""A late rank, communication, one kernel or launches of the profile cause most of a loss."""

import dataclasses

import msgspec
import pytest

from perfgate.judge.causes.finding import Finding
from perfgate.judge.causes.profiled import refined
from perfgate.results.profile import KernelChange, Profile, ProfiledSteps
from tests.support.symptoms import moved

SERVER = "vllm-llama-tp2"
UNKNOWN = Finding("unknown", "decode", ("ITL +30 %",))


def steps(step_ms, *waits_ms):
    """Steps whose ranks spend so long in exchanges."""
    return ProfiledSteps(
        steps=20,
        batch=16,
        step_ms=step_ms,
        idle_ms=1.0,
        communication_ms=sum(waits_ms) / max(1, len(waits_ms)),
        other_ms=1.0,
        rank_communication_ms=waits_ms,
    )


def profile(before, now, server=SERVER, ranks=2, **fields):
    """A decode step of two builds."""
    return Profile(
        server=server,
        load="closed-c16",
        phase="decode",
        ranks=ranks,
        base="the base build",
        before=before,
        now=now,
        **({"unit": "kernel"} | fields),
    )


def kernel(name, before_ms, now_ms):
    """A kernel that runs as often as before."""
    return KernelChange(
        name=name,
        before_ms=before_ms,
        now_ms=now_ms,
        before_count=32,
        now_count=32,
    )


LATE = profile(steps(10.0, 1.0, 1.2), steps(13.0, 4.0, 1.1))
SLOW_EXCHANGE = profile(steps(10.0, 1.0, 1.2), steps(13.0, 3.6, 3.7))
SLOW_KERNEL = profile(
    steps(10.0),
    steps(13.0),
    ranks=1,
    kernels=(kernel(f"void {'k' * 80}", 1.0, 3.4), kernel("gemm", 2.0, 2.3)),
)


def test_a_late_rank_is_the_cause_and_comes_first_in_the_evidence():
    """Rank 1 is waited for by 2.7 ms more, of 3 ms that a step is longer."""
    found = refined(UNKNOWN, SERVER, [LATE])

    assert ("late-rank", "decode") == (found.cause, found.phase)
    assert (
        "In the profile rank 1 is late: the wait for it is 90 % of the loss"
        == found.evidence[0]
    )
    assert UNKNOWN.evidence == found.evidence[1:]


def test_the_shape_of_a_loss_tells_less_than_its_profile():
    """Communication is what the shape says; the profile has the rank."""
    shape = dataclasses.replace(UNKNOWN, cause="communication")
    assert "late-rank" == refined(shape, SERVER, [LATE]).cause


@pytest.mark.parametrize(
    "other",
    [
        # Of another server; two fifths of the loss; late in the base as well; one rank.
        profile(LATE.before, LATE.now, server="vllm-mixtral-tp2"),
        profile(steps(10.0, 1.0, 1.0), steps(13.0, 2.2, 1.0)),
        profile(steps(10.0, 4.0, 1.0), steps(13.0, 4.0, 1.0)),
        profile(steps(10.0), steps(13.0, 4.0), ranks=1),
        # Without a base nothing tells what of it is new.
        profile(None, LATE.now),
    ],
)
def test_little_of_a_wait_changes_no_finding(other):
    """The rule that fitted stays."""
    assert UNKNOWN == refined(UNKNOWN, SERVER, [other])


def test_communication_is_the_cause_where_no_rank_is_late():
    """Both ranks exchange for 2.55 ms more, of 3 ms that a step is longer."""
    found = refined(UNKNOWN, SERVER, [SLOW_EXCHANGE])

    assert ("communication", "decode") == (found.cause, found.phase)
    assert (
        "In the profile communication between the ranks takes 2.55 ms longer: "
        "85 % of the loss"
    ) == found.evidence[0]
    assert UNKNOWN.evidence == found.evidence[1:]


def test_a_late_rank_comes_before_communication():
    """Others wait for it in their exchanges: of these one half is the mean of the ranks."""
    late = profile(steps(10.0, 1.0, 1.0), steps(13.0, 4.5, 1.5))

    assert late.communication_added_ms >= 0.5 * late.loss_ms
    assert "late-rank" == refined(UNKNOWN, SERVER, [late]).cause


@pytest.mark.parametrize(
    "other",
    [
        # A third of the loss; a rank late by a third of it; one rank; no base.
        profile(steps(10.0, 1.0, 1.0), steps(13.0, 2.0, 2.0)),
        profile(steps(10.0, 1.0, 1.0), steps(13.0, 3.5, 2.5)),
        profile(steps(10.0, 1.0), steps(13.0, 4.0), ranks=1),
        profile(None, SLOW_EXCHANGE.now),
    ],
)
def test_communication_needs_half_of_the_loss_and_ranks_alike(other):
    """The rule that fitted stays."""
    assert UNKNOWN == refined(UNKNOWN, SERVER, [other])


def test_one_kernel_is_named_where_nothing_else_fits():
    """Without the words of its template, and cut; also of one rank."""
    found = refined(UNKNOWN, SERVER, [SLOW_KERNEL])

    assert "one-kernel" == found.cause
    assert (
        f"In the profile {'k' * 67}... takes 2.4 ms longer: 80 % of the loss"
        == found.evidence[0]
    )


HARDLY_LONGER = (
    profile(steps(10.0, 1.0, 1.0), steps(10.04, 1.04, 1.01)),
    profile(steps(10.0, 1.0, 1.0), steps(10.04, 1.03, 1.03)),
    profile(
        steps(10.0), steps(10.04), ranks=1, kernels=(kernel("gemm", 5.0, 5.03),)
    ),
)


@pytest.mark.parametrize(
    "other", HARDLY_LONGER, ids=["rank", "exchange", "kernel"]
)
def test_a_step_that_is_hardly_longer_explains_no_loss(other):
    """ITL lost 3 ms, and the step 0.04: the front end is in no profile of steps."""
    lost = msgspec.structs.replace(
        other, lost_ms=3.0, lost_metric="ITL of closed-c16"
    )
    assert UNKNOWN == refined(UNKNOWN, SERVER, [lost])


def test_a_decode_step_explains_no_mean_gap_that_lost_more():
    """A steady load: the mean gap lost 12 ms, in steps that take prompts in."""
    mean = moved("itl_mean_ms", "closed-c16", 16, 20.0, 32.0)
    other = dataclasses.replace(mean, load="closed-c64")

    assert UNKNOWN == refined(UNKNOWN, SERVER, [SLOW_KERNEL], [mean])
    found = refined(UNKNOWN, SERVER, [SLOW_KERNEL], [other])
    assert "one-kernel" == found.cause


@pytest.mark.parametrize("other", [LATE, SLOW_EXCHANGE, SLOW_KERNEL])
@pytest.mark.parametrize("lost_ms", [-0.002, 0.0, 1.4])
def test_what_only_the_profiler_costs_is_no_cause(other, lost_ms):
    """Steps are 3 ms longer under it, and less than half of that without it."""
    plain = msgspec.structs.replace(
        other, lost_ms=lost_ms, lost_metric="ITL of closed-c16"
    )
    assert UNKNOWN == refined(UNKNOWN, SERVER, [plain])


def waiting(**fields):
    """A decode step of 4 ms, and one of 10 in which nothing runs for 6 ms more."""
    before = msgspec.structs.replace(steps(4.0), idle_ms=0.5)
    now = msgspec.structs.replace(steps(10.0), idle_ms=6.5)
    return profile(before, now, **({"ranks": 1} | fields))


def test_launches_are_the_cause_where_the_gpu_waits_between_kernels():
    """Nothing else fits: no kernel takes longer, and no rank is late."""
    found = refined(UNKNOWN, SERVER, [waiting()])

    assert ("launches", "decode") == (found.cause, found.phase)
    assert (
        "In the profile the GPU waits 6 ms longer between kernels: 100 % of the loss"
        == found.evidence[0]
    )


@pytest.mark.parametrize(
    ("cause", "fields"),
    [
        ("host", {}),
        ("unknown", {"unit": "operator"}),
        ("unknown", {"lost_ms": 20.0}),
    ],
    ids=["a rule fitted", "of a CPU", "a third of the loss"],
)
def test_gaps_are_no_cause_beside_a_rule_or_for_a_part(cause, fields):
    """The finding stays."""
    finding = dataclasses.replace(UNKNOWN, cause=cause)
    assert finding == refined(finding, SERVER, [waiting(**fields)])


def test_communication_comes_before_its_kernel():
    """It says more than the name of an all-reduce."""
    both = profile(
        SLOW_EXCHANGE.before,
        SLOW_EXCHANGE.now,
        kernels=(kernel("ncclDevKernel_AllReduce", 1.1, 3.65),),
    )
    assert "communication" == refined(UNKNOWN, SERVER, [both]).cause


@pytest.mark.parametrize(
    ("cause", "fields"),
    [
        # A rule fitted; two kernels share the loss; an operator of a CPU.
        ("expert-path", {"kernels": SLOW_KERNEL.kernels}),
        (
            "unknown",
            {"kernels": (kernel("a", 1.0, 2.4), kernel("b", 1.0, 2.4))},
        ),
        ("unknown", {"kernels": SLOW_KERNEL.kernels, "unit": "operator"}),
    ],
)
def test_a_kernel_is_no_cause_beside_a_rule_or_another_one(cause, fields):
    """The finding stays."""
    finding = dataclasses.replace(UNKNOWN, cause=cause)
    other = profile(steps(10.0), steps(13.0), ranks=1, **fields)

    assert finding == refined(finding, SERVER, [other])


@pytest.mark.parametrize("cause", ["memory", "answers"])
@pytest.mark.parametrize("other", [LATE, SLOW_EXCHANGE])
def test_what_has_no_time_is_not_explained_by_one(cause, other):
    """Only memory or answers were lost."""
    finding = dataclasses.replace(UNKNOWN, cause=cause)
    assert finding == refined(finding, SERVER, [other])


@pytest.mark.parametrize("other", [LATE, SLOW_EXCHANGE, SLOW_KERNEL])
def test_a_choice_comes_before_each_cause_of_a_profile(other):
    """It may be what made a rank, an exchange or a kernel slow."""
    choice = dataclasses.replace(UNKNOWN, cause="attention", by_choice=True)
    assert choice == refined(choice, SERVER, [other])
