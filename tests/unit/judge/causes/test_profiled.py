"""A late rank of the profile is the cause, where it explains most of the loss."""

import dataclasses

import pytest

from perfgate.judge.causes.finding import Finding
from perfgate.judge.causes.profiled import refined
from perfgate.results.profile import Profile, ProfiledSteps

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


def profile(before, now, server=SERVER):
    """A decode step of two builds."""
    return Profile(
        server=server,
        load="closed-c16",
        phase="decode",
        unit="kernel",
        ranks=2,
        base="the base build",
        before=before,
        now=now,
    )


LATE = profile(steps(10.0, 1.0, 1.2), steps(13.0, 4.0, 1.1))


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


def test_what_the_engine_chose_stays_the_cause():
    """A choice may make a rank late."""
    choice = dataclasses.replace(UNKNOWN, cause="attention", by_choice=True)
    assert choice == refined(choice, SERVER, [LATE])


@pytest.mark.parametrize(
    "other",
    [
        # Of another server; two fifths of the loss; late in the base as well; one rank.
        profile(LATE.before, LATE.now, server="vllm-mixtral-tp2"),
        profile(steps(10.0, 1.0, 1.0), steps(13.0, 2.2, 1.0)),
        profile(steps(10.0, 4.0, 1.0), steps(13.0, 4.0, 1.0)),
        profile(steps(10.0), steps(13.0, 4.0)),
        # Without a base nothing tells what of it is new.
        profile(None, LATE.now),
    ],
)
def test_little_of_a_wait_changes_no_finding(other):
    """The rule that fitted stays."""
    assert UNKNOWN == refined(UNKNOWN, SERVER, [other])
