"""Trace files as torch's profiler writes them, for tests: kernels, operators, steps."""

import gzip
import json


def event(category, name, begin_us, length_us, thread=1):
    """A complete event."""
    return {
        "ph": "X",
        "cat": category,
        "name": name,
        "pid": 7,
        "tid": thread,
        "ts": begin_us,
        "dur": length_us,
        "args": {"Ev Idx": 0},
    }


def kernel(name, begin_us, length_us, stream=7):
    """Something that ran on a GPU."""
    return event("kernel", name, begin_us, length_us, stream)


def operator(name, begin_us, length_us, thread=1):
    """Something that ran on the CPU."""
    return event("cpu_op", name, begin_us, length_us, thread)


def vllm_step(
    begin_us, length_us, prefills=0, decodes=0, on_gpu=False, stream=7
):
    """A step as vLLM names it, as it was called, or as its kernels ran."""
    name = (
        f"execute_context_{prefills}({64 * prefills})"
        f"_generation_{decodes}({decodes})"
    )
    if on_gpu:
        return event("gpu_user_annotation", name, begin_us, length_us, stream)
    return event("user_annotation", name, begin_us, length_us)


def write(path, events):
    """A trace file with these events, packed if its name says so."""
    document = {
        "schemaVersion": 1,
        "distributedInfo": {"rank": 0},
        "traceEvents": [
            {"ph": "M", "name": "process_name", "pid": 7, "ts": 0.0},
            *events,
        ],
        "traceName": str(path),
    }
    content = json.dumps(document, indent=1).encode()
    if path.suffix == ".gz":
        content = gzip.compress(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
