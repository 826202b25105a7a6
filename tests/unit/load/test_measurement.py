"""Measurement of a repetition: values, validity, requests, equivalent commands."""

import dataclasses
import tracemalloc

import msgspec
import pytest

from perfgate.load.measurement import (
    Target,
    compile_lines,
    measure,
    request_row,
    vllm_bench_command,
)
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Synthetic, Workload
from tests.support.builders import MS, other_than_busy, transcript
from tests.support.fake_launch import FakeEngine
from tests.support.load_targets import SMALL, target_of


@pytest.fixture(scope="module")
def engine():
    """One fake engine for the tests of this module."""
    with FakeEngine(ttft_s=0.02, itl_s=0.01) as engine:
        yield engine


def target(engine, **fields):
    """The fake engine as a server to be measured, by the limits of a busy machine."""
    return target_of(engine, device="cpu", **fields)


def test_a_good_repetition(engine):
    """Counts, figures and the server's own counters agree, and every request has its row."""
    engine.set()
    result = measure(target(engine), SMALL, 0)

    # 12 requests of 8 tokens in and 6 out
    assert (12, 0, 96, 72) == (
        result.completed,
        result.failed,
        result.input_tokens,
        result.output_tokens,
    )
    assert (96.0, 72.0, 12.0) == tuple(
        result.server_values[name]
        for name in ("prompt_tokens", "generation_tokens", "requests")
    )
    assert 72 / result.duration_s == pytest.approx(
        result.values["output_throughput"]
    )
    assert {(6, 5, None)} == {
        (r.output_tokens, len(r.itl_ms), r.error) for r in result.requests
    }
    assert [] == other_than_busy(result.invalid)


def test_a_repetition_survives_json(engine):
    """It is written to the run's data as it is."""
    engine.set()
    result = measure(target(engine), SMALL, 1)

    assert result == msgspec.json.decode(
        msgspec.json.encode(result), type=Repetition
    )


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (
            {"fault": "http_503", "fault_serials": [3]},
            "1 of 12 requests failed: HTTP 503",
        ),
        (
            {"fault": "short_count"},
            "12 requests with another output length than requested",
        ),
        (
            {"fault": "wrong_usage"},
            "12 requests with another output length than requested",
        ),
        (
            {"fault": "wrong_prompt_usage"},
            "12 requests with another input length than sent",
        ),
        ({"stalls": [[0.05, 1.0]]}, "streams fell silent at once for 1"),
        ({"preemptions_per_request": 1}, "the engine preempted 12 requests"),
        (
            {"prefix_hits_per_request": 8},
            "the prefix cache answered 96 of 96 input tokens",
        ),
    ],
)
def test_what_makes_it_invalid(engine, behaviour, reason):
    """Each injected fault is named as the reason.

    Where others kept the client itself from running for most of a stall, that
    is the reason, and the stall its note.
    """
    engine.set(**behaviour)
    result = measure(target(engine), SMALL, 2)

    assert result.invalid
    told = [
        *result.invalid,
        *(
            note
            for note in result.notes
            if note.startswith("the client itself did not run")
        ),
    ]
    assert any(reason in why for why in told), told


def test_chunks_of_several_tokens_are_noted(engine):
    """ITL then means something else, and the result says so."""
    engine.set(tokens_per_chunk=3)
    result = measure(target(engine), SMALL, 3)

    assert [
        "72 tokens came in 24 chunks, some of several tokens: ITL is per chunk, not per token"
    ] == other_than_busy(result.notes)
    assert [] == other_than_busy(result.invalid)


def test_a_server_without_metrics_is_said(engine):
    """The client's figures stand; that the server's are missing is a note with the remedy."""
    with FakeEngine() as other:
        other.process.kill()
    result = measure(target(other), SMALL, 0)

    assert {} == result.server_values
    assert 12 == result.failed
    assert any("no server metrics" in note for note in result.notes), (
        result.notes
    )


def test_compilation_in_the_log_is_a_reason(engine, tmp_path):
    """What the engine logged before the measurement does not count, what it logs during it does."""
    log = tmp_path / "server.log"
    log.write_text("Triton kernel JIT compilation during inference: old\n")
    size = log.stat().st_size
    with log.open("a") as file:
        file.write(
            "INFO nothing\nTriton kernel JIT compilation during inference: fused_moe_kernel\n"
        )

    assert (
        (
            "the engine compiled during the measurement: Triton kernel JIT "
            "compilation during inference: fused_moe_kernel"
        ),
    ) == compile_lines(log, size, "vllm")
    engine.set()
    assert [] == other_than_busy(
        measure(target(engine, log=log), SMALL, 4).invalid
    )


def test_without_the_log_nothing_is_known_of_compilation(engine, tmp_path):
    """A log that was deleted meanwhile is a reason, and no crash."""
    engine.set()
    gone = tmp_path / "server.log"

    result = measure(target(engine, log=gone), SMALL, 0)

    assert 0 == result.failed
    assert [
        f"whether the engine compiled is not known: no such file: {gone}"
    ] == other_than_busy(result.invalid)


def test_equivalent_command_lines(engine):
    """The same pattern as `vllm bench serve` options; there a shared prefix adds to the length."""
    prompts = Synthetic(
        input_len_tokens=100,
        output_len_tokens=10,
        input_range_ratio=0.2,
        shared_prefix_tokens=60,
    )
    workload = Workload(
        name="open",
        num_prompts=7,
        request_rate=2.5,
        burstiness=0.5,
        prompts=prompts,
        seed=3,
    )
    where = Target(
        url="http://h:1",
        served_model="m",
        vocab_size=9,
        engine="vllm",
        tokenizer="/t",
    )

    assert (
        "vllm bench serve --backend openai --base-url http://h:1 "
        "--endpoint /v1/completions --model m --tokenizer /t "
        "--dataset-name random --random-output-len 10 --random-input-len 40 --random-prefix-len 60 "
        """--random-range-ratio '{"input":0.2,"output":0.0}' --num-prompts 7 """
        "--request-rate 2.5 --burstiness 0.5 "
        "--ignore-eos --temperature 0 --seed 3 --percentile-metrics ttft,tpot,itl,e2el"
    ) == vllm_bench_command(where, workload)
    assert "--request-rate inf --max-concurrency 4" in vllm_bench_command(
        where, SMALL
    )


def test_a_log_that_was_emptied_says_nothing_of_compilation(tmp_path):
    """Rotation empties it: what was logged since then does not begin where it ended."""
    log = tmp_path / "server.log"
    log.write_text("Triton kernel JIT compilation during inference: new\n")
    size = log.stat().st_size

    assert (
        f"whether the engine compiled is not known: {log} was emptied meanwhile",
    ) == compile_lines(log, size + 1, "vllm")
    assert () == compile_lines(log, size, "vllm")


def test_a_log_is_read_line_by_line(tmp_path):
    """A gigabyte that an engine logs in a repetition does not fill the client's memory."""
    log = tmp_path / "server.log"
    log.write_bytes(b"INFO a line of a log that is long\r\xff\n" * 200_000)

    tracemalloc.start()
    try:
        assert () == compile_lines(log, 0, "vllm")
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most_bytes < log.stat().st_size / 4


def test_a_request_is_stored_by_the_time_since_the_start():
    """In milliseconds; of one that was never sent the time is not known."""
    start_ns = 5000 * MS
    row = transcript(sent_ms=5020, chunks_ms=[5030, 5045, 5065])
    unsent = dataclasses.replace(row, sent_ns=None, error="no descriptor")

    found = request_row(row, start_ns)

    assert (20.0, 20.0, 10.0, 45.0, 3, (15.0, 20.0)) == (
        found.scheduled_ms,
        found.sent_ms,
        found.ttft_ms,
        found.e2el_ms,
        found.output_tokens,
        found.itl_ms,
    )
    failed = request_row(unsent, start_ns)
    assert (None, None, None) == (
        failed.sent_ms,
        failed.ttft_ms,
        failed.e2el_ms,
    )
