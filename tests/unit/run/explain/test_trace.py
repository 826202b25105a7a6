"""Trace files: read one event after the other, whatever their size; broken ones are named."""

import pytest

from perfgate.run.explain import trace
from perfgate.run.explain.trace import UnreadableTrace
from tests.support import traces

EVENTS = [
    traces.vllm_step(0, 90, decodes=4),
    traces.operator("aten::mm", 10, 30),
    traces.kernel("fused_moe_kernel", 20, 50),
    traces.event("cuda_runtime", "cudaGraphLaunch", 1, 2),
]


@pytest.mark.parametrize("name", ["a.pt.trace.json", "a.pt.trace.json.gz"])
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_events_are_sorted_by_what_they_are(tmp_path, monkeypatch, name, block):
    """Whatever is read at once; what is neither work nor a step is left out."""
    monkeypatch.setattr(trace, "BLOCK_CHARACTERS", block)

    read = trace.read(traces.write(tmp_path / name, EVENTS))

    assert [span.name for span in read.kernels] == ["fused_moe_kernel"]
    assert [span.name for span in read.operators] == ["aten::mm"]
    assert [span.begin_us for span in read.marks] == [0.0]
    assert read.kernels[0].end_us == 70.0


def test_ranges_are_kept_on_both_clocks(tmp_path):
    """Steps are prepared on the CPU while earlier ones run."""
    on_gpu = traces.vllm_step(40, 50, decodes=4, on_gpu=True, stream=9)

    read = trace.read(traces.write(tmp_path / "a.json", [*EVENTS, on_gpu]))

    assert [span.begin_us for span in read.marks] == [0.0]
    assert [(span.begin_us, span.thread) for span in read.gpu_marks] == [
        (40.0, ("7", "9"))
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"traceEvents": [{"ph": "X", "cat": "cpu_op"',
        b'{"traceEvents": [{"ph": "X", "cat": "cpu_op"}]}',
        b'{"traceEvents": [1]}',
        b'{"traceEvents": [' + b"[" * 200_000,
        *(
            b'{"traceEvents": [{"ph": "X", "cat": "kernel", "name": "k", "pid": 1, '
            b'"tid": 1, "ts": %b}]}' % number
            for number in (b"NaN", b"Infinity", b"9" * 400)
        ),
    ],
)
def test_a_broken_trace_is_named(tmp_path, content):
    """Empty, cut off, or of another form."""
    path = tmp_path / "broken.json"
    path.write_bytes(content)

    with pytest.raises(UnreadableTrace, match="broken"):
        trace.read(path)


def test_a_packed_trace_that_was_cut_off_is_named(tmp_path):
    """The engine was ended while it wrote."""
    path = traces.write(tmp_path / "cut.json.gz", EVENTS)
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(UnreadableTrace, match="cut"):
        trace.read(path)
