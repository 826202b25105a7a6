"""Comparison of two profiles: kernels that changed, new and vanished ones, the lost phase."""

import shutil
from pathlib import Path

import pytest

from perfgate.results.profile import KernelChange
from perfgate.run.explain import comparison
from perfgate.run.explain.steps import Sum, Totals
from perfgate.run.explain.trace import UnreadableTrace
from tests.support import traces

TRACES = Path(__file__).resolve().parents[3] / "data" / "traces"


def totals(length_us, **kernels):
    """A step with these kernels (us), each once."""
    return Totals(
        steps=9,
        batch=4,
        length_us=length_us,
        busy_us=sum(kernels.values()),
        kernels={name: Sum(us, 1) for name, us in kernels.items()},
    )


def change(name, before_ms, now_ms):
    """A kernel that ran once a step where it ran."""
    return KernelChange(
        name=name,
        before_ms=before_ms,
        now_ms=now_ms,
        before_count=float(bool(before_ms)),
        now_count=float(bool(now_ms)),
    )


def test_what_changed_most_comes_first():
    """New and vanished kernels too, by name."""
    before = totals(20e3, gone=4e3, same=9e3, slower=1e3)
    now = totals(30e3, new=5e3, same=9e3, slower=8e3)

    assert comparison.changes(before, now) == (
        change("slower", 1, 8),
        change("new", 0, 5),
        change("gone", 4, 0),
        change("same", 9, 9),
    )


def test_without_a_base_the_longest_come_first():
    """By their time alone."""
    rows = comparison.changes(None, totals(20e3, short=1e3, long=9e3))

    assert [(row.name, row.now_ms) for row in rows] == [
        ("long", 9),
        ("short", 1),
    ]


def recorded(**phases):
    """What the profiler recorded of one launch, by phase."""
    return comparison.Recorded("kernel", 1, phases, ())


def test_the_parts_of_a_step_add_up():
    """Named kernels, other kernels, and the time in which nothing runs."""
    step = totals(20e3, moe=9e3, ncclDevKernel_AllReduce=2e3, rest=1e3)
    named = [change("moe", 1, 9)]

    row = comparison.profiled_steps(
        step, sum(kernel.now_ms for kernel in named)
    )

    assert (row.step_ms, row.idle_ms, row.other_ms) == (20, 8, 3)
    assert row.communication_ms == 2
    assert (row.steps, row.batch) == (9, 4)


@pytest.mark.parametrize(
    ("tokens", "streams", "phase"),
    [(128, 1, "decode"), (2, 1, "prefill"), (128, 32, "prefill")],
)
def test_the_phase_that_costs_a_request_more_is_shown(tokens, streams, phase):
    """A step counts once for each token, a prefill once for each stream in flight."""
    before = recorded(decode=totals(10), prefill=totals(100))
    now = recorded(decode=totals(11), prefill=totals(110))

    assert phase == comparison.lost_phase(before, now, tokens, streams, {})


@pytest.mark.parametrize(
    ("measured_ms", "phase"),
    [
        ({}, "decode"),
        ({"decode": 0.0}, "prefill"),
        ({"decode": 0.0, "prefill": 97.4}, "prefill"),
        ({"decode": 2.0, "prefill": 97.4}, "decode"),
    ],
    ids=["unknown", "decode alone", "both", "both, decode lost more"],
)
def test_what_was_lost_without_the_profiler_decides_the_phase(
    measured_ms, phase
):
    """The profiler cost the candidate 1.6 ms a step; its prompts were what took longer."""
    before = recorded(decode=totals(3700), prefill=totals(59_000))
    now = recorded(decode=totals(5330), prefill=totals(155_400))

    assert phase == comparison.lost_phase(before, now, 64, 1, measured_ms)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevComm*)", True),
        ("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 2>", True),
        ("_C::shm_allreduce", True),
        ("c10d::_allgather_base_", True),
        ("fused_moe_kernel", False),
        ("aten::sum", False),
    ],
)
def test_communication_is_known_by_name(name, expected):
    """NCCL's kernels, those of the engines, and PyTorch's operators."""
    assert expected == comparison.is_communication(name)


def test_all_ranks_are_read_and_the_front_end_is_not(tmp_path):
    """A trace of the front end has operators at most, and no steps."""
    for rank in range(2):
        traces.write(
            tmp_path / f"rank{rank}.pt.trace.json.gz",
            [
                traces.vllm_step(0, 50, decodes=4),
                traces.operator("aten::mm", 0, 40),
                traces.vllm_step(100, 50, decodes=4),
            ],
        )
    front = [traces.operator("aten::empty", 0, 1)]
    traces.write(tmp_path / "front.pt.trace.json.gz", front)

    read = comparison.recorded(tmp_path, requests=4)

    assert (read.unit, read.ranks) == ("operator", 2)
    assert [path.name for path in read.files] == [
        "rank0.pt.trace.json.gz",
        "rank1.pt.trace.json.gz",
    ]
    assert read.phases["decode"].kernels["aten::mm"].time_us == 40


def test_kernels_of_a_real_gpu_are_told_apart(tmp_path):
    """Some steps of Mixtral in vLLM 0.26 on an H200, with a good and a bad kernel file."""
    steps = []
    for side in ("base", "candidate"):
        name = f"h200-mixtral-{side}.trace.json.gz"
        folder = tmp_path / side
        folder.mkdir()
        shutil.copy(TRACES / name, folder / name)
        recorded = comparison.recorded(folder, requests=1)
        assert ("kernel", 1) == (recorded.unit, recorded.ranks)
        steps.append(recorded.phases["decode"])
    before, now = steps

    slower, second, *_ = comparison.changes(before, now)

    assert ("fused_moe_kernel", 64, 64) == (
        slower.name,
        slower.before_count,
        slower.now_count,
    )
    lost_ms = (now.length_us - before.length_us) / 1e3
    assert pytest.approx(1.0, abs=0.05) == slower.added_ms / lost_ms
    assert abs(second.added_ms) < 0.01 * lost_ms
    assert before.busy_us > 0.9 * before.length_us


def test_no_trace_is_an_error(tmp_path):
    """The profiler did not start: the log says why."""
    with pytest.raises(UnreadableTrace, match="server's log"):
        comparison.recorded(tmp_path, requests=4)


def test_marks_alone_are_no_work(tmp_path):
    """They have no phase that could be shown."""
    marks = [traces.vllm_step(begin_us, 50, decodes=4) for begin_us in (0, 90)]
    traces.write(tmp_path / "rank0.pt.trace.json", marks)

    with pytest.raises(UnreadableTrace, match="no trace has a kernel"):
        comparison.recorded(tmp_path, requests=4)


def test_a_rank_without_kernels_is_an_error(tmp_path):
    """It would look like one that takes part in no exchange, for which the others wait."""
    work = {
        0: traces.kernel("ncclDevKernel_AllReduce", 10, 70),
        1: traces.operator("aten::mm", 10, 30),
    }
    for rank, event in work.items():
        traces.write(
            tmp_path / f"rank{rank}.pt.trace.json",
            [
                traces.vllm_step(0, 90, decodes=4),
                event,
                traces.vllm_step(100, 90, decodes=4),
            ],
        )

    with pytest.raises(UnreadableTrace, match=r"rank1.*no kernels") as caught:
        comparison.recorded(tmp_path, requests=4)

    assert "another profiler" in caught.value.remedy


def test_communication_of_each_rank_in_their_order(tmp_path):
    """The tenth comes after the second; the late one takes part for the shortest time."""
    for rank, length_us in ((0, 40), (2, 30), (10, 5)):
        traces.write(
            tmp_path / f"rank{rank}.pt.trace.json.gz",
            [
                traces.vllm_step(0, 90, decodes=4),
                traces.operator("_C::shm_allreduce", 10, length_us),
                traces.vllm_step(100, 90, decodes=4),
            ],
        )

    phase = comparison.recorded(tmp_path, requests=4).phases["decode"]
    steps = comparison.profiled_steps(phase, named_ms=0.0)

    assert (40.0, 30.0, 5.0) == phase.communication_us
    assert (0.04, 0.03, 0.005) == steps.rank_communication_ms
    assert (2, pytest.approx(0.035)) == steps.slow_rank


def test_a_phase_that_one_side_lacks_is_not_compared():
    """What remains is shown; the whole request where nothing does."""
    decode = recorded(decode=totals(10))
    both = recorded(decode=totals(11), prefill=totals(900))

    assert "decode" == comparison.lost_phase(decode, both, 128, 1, {})
    assert "decode" == comparison.lost_phase(both, decode, 128, 1, {})
    assert "request" == comparison.lost_phase(
        decode, recorded(prefill=totals(900)), 128, 1, {}
    )
