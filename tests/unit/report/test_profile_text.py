"""Text of profiles: kernels by name, the share that they explain, and what the profiler costs."""

import msgspec
import pytest

from perfgate.report import profile_text
from perfgate.results.profile import (
    CounterProof,
    KernelChange,
    Profile,
    ProfiledSteps,
)

BEFORE = ProfiledSteps(
    steps=22,
    batch=16,
    step_ms=10.0,
    idle_ms=2.0,
    communication_ms=1.0,
    other_ms=0.5,
    plain_itl_ms=9.0,
    profiled_itl_ms=10.0,
)
NOW = msgspec.structs.replace(
    BEFORE, step_ms=22.0, idle_ms=2.5, plain_itl_ms=20.0, profiled_itl_ms=21.0
)
KERNELS = (
    KernelChange(
        name="fused_moe_kernel",
        before_ms=4.0,
        now_ms=15.0,
        before_count=64,
        now_count=64,
    ),
    KernelChange(
        name="void cutlass::device_kernel<" + "x" * 90,
        before_ms=0.0,
        now_ms=1.0,
        before_count=0,
        now_count=32,
    ),
    KernelChange(
        name="gone", before_ms=0.2, now_ms=0.0, before_count=1, now_count=0
    ),
)
PROFILE = Profile(
    server="vllm-a-tp1",
    load="closed-c16",
    phase="decode",
    unit="kernel",
    ranks=2,
    base="the base build",
    before=BEFORE,
    now=NOW,
    kernels=KERNELS,
    lost_ms=12.5,
    lost_metric="ITL of closed-c16",
    traces=("profiles/a-base/0.json.gz", "profiles/a-candidate/0.json.gz"),
)
PROOF = CounterProof(
    server="vllm-a-tp1",
    choice="moe_backend TRITON -> X",
    argument="--moe-backend triton",
    metric="itl_median_ms",
    load="closed-c16",
    base="the base build",
    before=10.0,
    now=9.99,
    without=0.5,
)


def test_lines_of_a_profile():
    """Steps, kernels, the rest, the share of the loss, the profiler's cost, the files."""
    lines = list(profile_text.lines(PROFILE, "runs/x"))

    assert lines == [
        (
            "profile",
            "a decode step of closed-c16 (16 sequences), the base build against the "
            "candidate: 10 -> 22 ms under the profiler (22 and 22 steps, 2 ranks)",
        ),
        ("kernel", "fused_moe_kernel: +11 ms (4 -> 15 ms, 64 -> 64 calls)"),
        (
            "kernel",
            f"cutlass::device_kernel<{'x' * 44}... (new): +1 ms (0 -> 1 ms, 0 -> 32 "
            "calls)",
        ),
        ("kernel", "gone (vanished): -0.2 ms (0.2 -> 0 ms, 1 -> 0 calls)"),
        (
            "rest",
            "gaps in which no kernel runs 2 -> 2.5 ms, communication 1 -> 1 ms, other "
            "kernels 0.5 -> 0.5 ms",
        ),
        (
            "explains",
            "96 % of the +12.5 ms that ITL of closed-c16 lost: fused_moe_kernel +11 ms; "
            f"cutlass::device_kernel<{'x' * 44}... +1 ms",
        ),
        (
            "profiler",
            "it changes ITL by +11.1 % (base) and +5.0 % (candidate); these launches are "
            "not judged",
        ),
        (
            "traces",
            "runs/x/profiles/a-base; runs/x/profiles/a-candidate (open a file in "
            "https://ui.perfetto.dev)",
        ),
    ]


def test_little_that_is_explained_is_said():
    """With where the rest is, if it is between kernels."""
    gaps = msgspec.structs.replace(NOW, idle_ms=13.0)
    row = msgspec.structs.replace(PROFILE, now=gaps, kernels=())
    elsewhere = msgspec.structs.replace(PROFILE, kernels=())

    assert "0 % of the" in profile_text.explains(row)
    assert "between kernels (host, launches): +11 ms" in profile_text.explains(
        row
    )
    assert "most of the loss is not in kernels" in profile_text.explains(
        elsewhere
    )


def test_a_loss_that_differs_under_the_profiler_is_said():
    """The share is that of the profile's own steps."""
    row = msgspec.structs.replace(PROFILE, lost_ms=3.0)

    text = profile_text.explains(row)

    assert "100 % of the +12 ms that it takes longer under the" in text
    assert "(ITL of closed-c16 had changed by +3 ms: launches of a" in text


def test_a_load_that_is_no_slower_is_said():
    """The loss may lie in what the short load does not have."""
    same = msgspec.structs.replace(NOW, step_ms=9.9)
    row = msgspec.structs.replace(PROFILE, now=same)
    capped = msgspec.structs.replace(
        row, now=msgspec.structs.replace(same, batch=2)
    )

    assert "nothing: a decode step of closed-c16 takes no longer" == (
        profile_text.explains(row)
    )
    assert profile_text.explains(capped).endswith(
        "takes no longer, and has 2 sequences in place of 16"
    )


def test_without_a_base_there_is_a_table_alone():
    """And what would give one."""
    row = msgspec.structs.replace(PROFILE, before=None, base="")

    text = dict(profile_text.lines(row, "RUN"))

    assert "--against-engine" in text["explains"]
    assert text["profile"].startswith(
        "a decode step of closed-c16 (16 sequences): 22 ms"
    )


def test_counter_proof_says_what_the_argument_brings_back():
    """And that there is another cause where it brings back little."""
    other = msgspec.structs.replace(PROOF, now=14.0)
    faster = msgspec.structs.replace(PROOF, now=5.0)
    failed = msgspec.structs.replace(PROOF, problem="no such argument")

    assert profile_text.counter_proof(PROOF) == (
        "with --moe-backend triton put back: -0.10 % in itl_median_ms of closed-c16 vs "
        "the base build (+50.0 % without it): it brings back 100 % of the loss"
    )
    assert "only 20 %, so there is another cause" in profile_text.counter_proof(
        other
    )
    assert "all of the loss and more: launches of a shared" in (
        profile_text.counter_proof(faster)
    )
    assert profile_text.counter_proof(failed) == (
        "--moe-backend triton was not put back: no such argument"
    )


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        (
            (1.0, 1.2),
            (9.0, 1.1),
            "rank 1 is late: another one waits 7.9 ms for it, 0.2 ms in the base",
        ),
        # As late as in the base, and one rank.
        ((9.0, 1.0), (9.0, 1.1), None),
        ((), (5.0,), None),
        # Without a base: a fifth of the step.
        (None, (1.0, 9.0), "rank 0 is late: another one waits 8 ms for it"),
        (None, (1.0, 3.0), None),
    ],
)
def test_late_rank_is_named(before, now, line):
    """Where the wait for it is a part of the loss: it takes part for the shortest time."""
    replace = msgspec.structs.replace
    base = None
    if before is not None:
        base = replace(BEFORE, rank_communication_ms=before)
    profile = replace(
        PROFILE, before=base, now=replace(NOW, rank_communication_ms=now)
    )

    assert dict(profile_text.lines(profile, "run")).get("rank") == line


def test_new_kernels_in_place_of_others_are_one_item():
    """What is renamed between releases has not cost its whole time."""
    renamed = (
        KernelChange(
            name="new", before_ms=0.0, now_ms=9.0, before_count=0, now_count=1
        ),
        KernelChange(
            name="old", before_ms=6.0, now_ms=0.0, before_count=1, now_count=0
        ),
    )
    profile = msgspec.structs.replace(
        PROFILE,
        kernels=(KERNELS[0], *renamed),
        now=msgspec.structs.replace(NOW, step_ms=20.0),
        lost_ms=None,
    )

    assert (
        "more than the +10 ms that it takes longer under the profiler, of which other "
        "kernels save a part: fused_moe_kernel +11 ms; 1 new kernel in place of "
        "others +3 ms"
    ) == profile_text.explains(profile)
