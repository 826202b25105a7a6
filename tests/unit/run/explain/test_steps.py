"""Steps of a trace: what runs in each, what is counted of them, and when nothing runs."""

import pytest

from perfgate.run.explain import steps
from perfgate.run.explain.trace import collect
from tests.support import traces


def spans(*events):
    """A trace with these events."""
    return collect(events)


def times(totals):
    """Time (us) of each kernel."""
    return {name: kernel.time_us for name, kernel in totals.kernels.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("execute_context_1(65)_generation_3(3)", (1, 3)),
        ("execute_context_0(0)_generation_32(32)", (0, 32)),
        ("step[EXTEND bs=4 toks=256]", (4, 0)),
        ("step[DECODE bs=32]", (0, 32)),
        ("step[MIXED bs=5]", (5, 0)),
        ("step[IDLE bs=0]", None),
        ("step[VERIFY bs=4]", (0, 4)),
        ("step[DRAFT bs=4]", None),
        ("step[DRAFT_EXTEND_V2 bs=4]", None),
        ("aten::mm", None),
    ],
)
def test_both_engines_name_their_steps(name, expected):
    """By what a step prefills and decodes."""
    (span,) = spans(traces.event("user_annotation", name, 0, 1)).marks

    mark = steps.mark_of(span)

    assert expected == (mark and (mark.prefills, mark.decodes))


def test_an_operator_does_not_count_what_it_calls():
    """On the CPU times add up: operators without those that they call, and the rest."""
    trace = spans(
        traces.vllm_step(0, 90, decodes=1),
        traces.operator("vllm::attention", 10, 60),
        traces.operator("_C::attention", 20, 30),
        traces.operator("aten::copy_", 55, 5),
        traces.operator("of another thread", 0, 90, thread=2),
        traces.vllm_step(100, 90, decodes=1),
    )

    totals = steps.decoding(steps.steps_of(trace))

    assert times(totals) == {
        "vllm::attention": 25,
        "_C::attention": 30,
        "aten::copy_": 5,
    }
    assert (totals.length_us, totals.busy_us) == (100, 60)


def test_kernels_of_two_streams_overlap():
    """A GPU is busy while any of them runs; each has its own time."""
    trace = spans(
        traces.vllm_step(0, 50, decodes=1, on_gpu=True),
        traces.kernel("a", 0, 40),
        traces.kernel("b", 30, 30, stream=9),
        # Behind the step's range: the sampler.
        traces.kernel("c", 70, 10),
        traces.vllm_step(100, 50, decodes=1, on_gpu=True),
    )

    totals = steps.decoding(steps.steps_of(trace))

    assert times(totals) == {"a": 40, "b": 30, "c": 10}
    assert (totals.length_us, totals.busy_us) == (100, 70)


def test_a_step_begins_with_its_first_kernel():
    """Not with its call, which may come a step earlier, nor with a copy on another stream."""
    trace = spans(
        traces.vllm_step(0, 5, decodes=1),
        traces.vllm_step(10, 5, decodes=1),
        traces.vllm_step(50, 40, decodes=1, on_gpu=True),
        traces.vllm_step(90, 5, decodes=1, on_gpu=True, stream=9),
        traces.kernel("k", 50, 40),
        traces.kernel("copy", 90, 5, stream=9),
        traces.vllm_step(150, 40, decodes=1, on_gpu=True),
    )

    (step,) = steps.steps_of(trace)

    assert (100, 45) == (step.length_us, step.busy_us)


@pytest.mark.parametrize(
    ("draft", "verify"),
    [("DRAFT", "VERIFY"), ("DECODE", "TARGET_VERIFY")],
    ids=["0.5.23", "0.5.16"],
)
def test_a_draft_is_a_part_of_the_step_that_verifies_it(draft, verify):
    """Else the faster half of the steps were drafts, and what is verified were unseen."""
    events = []
    for begin in range(0, 400, 100):
        events += [
            traces.event("user_annotation", f"step[{verify} bs=4]", begin, 50),
            traces.event(
                "user_annotation", f"step[{draft} bs=4]", begin + 60, 30
            ),
            traces.operator("verified", begin, 50),
            traces.operator("drafted", begin + 60, 30),
        ]

    totals = steps.decoding(steps.steps_of(spans(*events)))

    assert pytest.approx({"verified": 50, "drafted": 30}) == times(totals)
    assert (4, 100) == (totals.batch, totals.length_us)


def test_calls_stand_in_for_ranges_that_a_gpu_lacks():
    """Where the profiler has them for some steps only."""
    trace = spans(
        traces.vllm_step(0, 5, decodes=1),
        traces.vllm_step(100, 5, decodes=1),
        traces.vllm_step(200, 5, decodes=1),
        traces.vllm_step(30, 40, decodes=1, on_gpu=True),
        traces.kernel("k", 30, 40),
        traces.kernel("k", 130, 40),
    )

    assert 2 == len(steps.steps_of(trace))


def test_the_faster_steps_of_the_usual_size_count():
    """Not those of fewer sequences, nor those during which the machine was elsewhere."""
    begins = [0, 100, 200, 300, 900, 1500]
    marks = [traces.vllm_step(begin, 50, decodes=4) for begin in begins]
    marks.append(traces.vllm_step(1600, 50, decodes=3))
    marks.append(traces.vllm_step(1700, 50, decodes=3))
    kernels = [traces.kernel("k", begin, 10) for begin in begins]

    totals = steps.decoding(steps.steps_of(spans(*marks, *kernels)))

    assert (totals.steps, totals.batch, totals.length_us) == (4, 4, 100)
    assert times(totals) == {"k": 10}
    assert totals.kernels["k"].count == 1


def test_a_prefill_is_that_of_one_request():
    """Several are prefilled in one step, or one in several."""
    trace = spans(
        traces.vllm_step(0, 50, prefills=3),
        traces.operator("aten::mm", 0, 40),
        traces.vllm_step(100, 50, prefills=1, decodes=3),
        traces.operator("aten::mm", 100, 20),
        traces.vllm_step(200, 50, decodes=4),
    )

    totals = steps.prefilling(steps.steps_of(trace), requests=4)

    assert (totals.steps, totals.length_us) == (2, 50)
    assert times(totals) == {"aten::mm": 15}


def test_a_trace_without_steps_counts_as_a_whole():
    """An engine that names no steps: all of the busiest thread, by request."""
    trace = spans(
        traces.operator("aten::mm", 0, 40),
        traces.operator("aten::mm", 60, 40),
        traces.operator("other", 0, 10, thread=2),
    )

    totals = steps.of_request(trace, requests=2)

    assert [] == steps.steps_of(trace)
    assert (totals.length_us, totals.busy_us) == (50, 40)
    assert times(totals) == {"aten::mm": 40}
    assert None is steps.of_request(spans(), requests=2)


def test_ranks_are_averaged():
    """One waits for the other in the all-reduce: the mean is what a step costs."""
    rows = []
    for length_us in (10, 30):
        trace = spans(
            traces.vllm_step(0, 50, decodes=2),
            traces.operator("c10d::allreduce_", 0, length_us),
            traces.vllm_step(100, 50, decodes=2),
        )
        rows.append(steps.decoding(steps.steps_of(trace)))

    totals = steps.averaged(rows)

    assert times(totals) == {"c10d::allreduce_": 20}
    assert totals.kernels["c10d::allreduce_"].count == 1
