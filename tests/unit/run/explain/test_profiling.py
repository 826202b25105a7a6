"""Profiling: what is sent under the profiler, where traces go, and what becomes of them."""

import dataclasses
from pathlib import Path

import msgspec
import pytest

from perfgate.engines.base import ServerConfig
from perfgate.load.workload import ShareGPT, Synthetic, Workload
from perfgate.results.verdict import Outcome, Verdict
from perfgate.run.explain import profiling
from perfgate.run.explain.builds import Build
from perfgate.run.explain.comparison import Recorded
from perfgate.run.explain.profiling import Profiled
from perfgate.run.explain.steps import Sum, Totals
from perfgate.run.explain.subject import Loss, Subject
from tests.support import builders as m

CONFIG = ServerConfig(engine="vllm", model="mixtral-small")
LOAD = Workload(
    name="closed-c16",
    num_prompts=320,
    max_concurrency=16,
    prompts=Synthetic(
        input_len_tokens=512, output_len_tokens=128, output_range_ratio=0.5
    ),
)


@pytest.mark.parametrize(
    ("streams", "requests"), [(1, 4), (16, 16), (None, 320)]
)
def test_a_short_part_of_the_load_is_sent(streams, requests):
    """As many streams, the same prompts, few tokens."""
    workload = msgspec.structs.replace(LOAD, max_concurrency=streams)

    short = profiling.short_load(workload)

    assert (requests, streams) == (short.num_prompts, short.max_concurrency)
    assert 512 == short.prompts.input_len_tokens
    assert 24 == short.prompts.output_len_tokens
    assert 0 == short.prompts.output_range_ratio


def test_prompts_of_a_file_stay_as_they_are():
    """Fewer of them are sent."""
    workload = msgspec.structs.replace(
        LOAD, prompts=ShareGPT(path="p", tokenizer="t")
    )

    assert 16 == profiling.short_load(workload).num_prompts
    assert workload.prompts == profiling.short_load(workload).prompts


def test_traces_of_an_earlier_command_stay(tmp_path):
    """The next ones have a folder of their own."""
    first = profiling.new_folder(tmp_path / "a" / "b")
    second = profiling.new_folder(tmp_path / "a" / "b")

    assert ("b", "b-2") == (first.name, second.name)
    assert second.is_dir()


def launch(side, run_dir, **kernels):
    """A launch whose decode steps have these kernels (us)."""
    totals = Totals(
        steps=20,
        batch=16,
        length_us=1000 + sum(kernels.values()),
        busy_us=sum(kernels.values()),
        kernels={name: Sum(us, 2) for name, us in kernels.items()},
    )
    recorded = Recorded(
        "kernel", 2, {"decode": totals}, (run_dir / side / "0.json.gz",)
    )
    plain, traced = (
        m.repetition(0, {"itl_median_ms": itl}) for itl in (8.0, 10.0)
    )
    return Profiled(recorded, plain, traced)


def subject():
    """A load that lost 5 ms in a step."""
    return Subject(
        config=CONFIG,
        workload=LOAD,
        worst=Verdict(
            case="a/closed-c16/itl_median_ms",
            metric="itl_median_ms",
            outcome=Outcome.REGRESSED,
            gate="hard",
            summary="",
        ),
        output_tokens=128,
        losses={"decode": Loss(10.0, 15.0, "ITL of closed-c16")},
    )


def test_profile_compares_base_and_candidate():
    """With the loss as measured, the profiler's cost, and the files of both."""
    run_dir = Path("/runs/x")
    base = Build("base", "the base build", CONFIG, None)

    profile = profiling.profile_of(
        subject(),
        launch("candidate", run_dir, moe=9000.0),
        (base, launch("base", run_dir, moe=4000.0)),
        run_dir,
    )

    (kernel,) = profile.kernels
    assert (4, 9) == (kernel.before_ms, kernel.now_ms)
    assert ("decode", 5.0, "the base build") == (
        profile.phase,
        profile.lost_ms,
        profile.base,
    )
    assert 1.0 == profile.explained
    assert pytest.approx(0.25) == profile.now.overhead
    assert ("base/0.json.gz", "candidate/0.json.gz") == profile.traces


@pytest.mark.parametrize(
    ("mean_ms", "count"), [(30.0, 1), (26.0, 0)], ids=["more", "alike"]
)
def test_a_mean_gap_that_lost_more_is_told(mean_ms, count):
    """A decode step is not all of it: the line that explains it speaks of the step alone."""
    run_dir = Path("/runs/x")
    mean = Loss(20.0, mean_ms, "mean ITL of closed-c16")
    base = Build("base", "the base build", CONFIG, None)

    profile = profiling.profile_of(
        dataclasses.replace(subject(), mean=mean),
        launch("candidate", run_dir, moe=9000.0),
        (base, launch("base", run_dir, moe=4000.0)),
        run_dir,
    )

    assert count == len(profile.notes)
    if count:
        assert "mean ITL of closed-c16 lost +10 ms" in profile.notes[0]


def test_a_trace_of_a_gpu_must_have_kernels():
    """Calls alone would be taken for what ran."""
    on_gpu = msgspec.structs.replace(CONFIG, device="cuda")
    calls = Recorded("operator", 1, {}, ())
    build = Build("candidate", "the candidate", on_gpu, None)

    with pytest.raises(profiling.NotProfiled, match="no kernels"):
        profiling._refuse_without_kernels(build, calls, Path("/t"))


def test_profile_without_a_base_has_one_side():
    """A table of its kernels."""
    run_dir = Path("/runs/x")

    profile = profiling.profile_of(
        subject(), launch("candidate", run_dir, moe=9000.0), None, run_dir
    )

    assert None is profile.before
    assert None is profile.explained
    assert 9 == profile.kernels[0].now_ms
