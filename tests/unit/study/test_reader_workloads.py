"""Workloads of a study file: keys that reach the client as the file has them."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import msgspec
import pytest

from perfgate.load.measurement import Target, measure
from perfgate.load.workload import build_requests
from perfgate.study import BadStudy, read_study
from tests.support.fake_launch import FakeEngine

OPEN = """
[workloads.short.open]
input_len_tokens = 8
output_len_tokens = 4
num_prompts = {prompts}
request_rate = 100.0
repetitions = 1
{more}
"""


def write(folder, more="", prompts=400):
    """A study file that declares one open loop, with more keys; its path."""
    path = folder / "study.toml"
    path.write_text(OPEN.format(prompts=prompts, more=more))
    return path


def workload_of(folder, more="", prompts=400):
    """The workload that the file declares."""
    return read_study(write(folder, more, prompts)).workloads["short"]["open"]


def variation(workload):
    """Coefficient of variation of the gaps between arrivals."""
    arrivals = [
        request.arrival_ns for request in build_requests(workload, 0, 1000)
    ]
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    return statistics.stdev(gaps) / statistics.fmean(gaps)


@pytest.fixture(scope="module")
def engine():
    """One fake engine for the tests of this module."""
    with FakeEngine(ttft_s=0.01, itl_s=0.002) as engine:
        yield engine


@pytest.fixture
def target(engine):
    """The fake engine as a server to be measured."""
    engine.set()
    return Target(
        url=engine.url, served_model="fake", vocab_size=1000, engine="vllm"
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [("", 1.0), ("burstiness = 0.25", 2.0), ("burstiness = 4", 0.5)],
)
def test_burstiness_of_the_file_shapes_the_arrivals(tmp_path, key, expected):
    """Gaps vary by 1 / sqrt(burstiness); 400 of them estimate that within a quarter."""
    assert pytest.approx(expected, rel=0.25) == variation(
        workload_of(tmp_path, key)
    )


def test_infinite_burstiness_gives_even_gaps(tmp_path):
    """Requests arrive every 10 ms; arrivals are whole nanoseconds."""
    assert math.isclose(
        0.0, variation(workload_of(tmp_path, "burstiness = inf")), abs_tol=1e-6
    )


def test_the_client_sends_at_the_arrivals_of_the_file(tmp_path, target):
    """When each request was due is what the file's burstiness drew, and nothing else."""
    workload = workload_of(tmp_path, "burstiness = 0.5", prompts=20)
    repetition = measure(target, workload, 0)

    arrivals_ms = [
        r.arrival_ns / 1e6 for r in build_requests(workload, 0, 1000)
    ]
    assert arrivals_ms == [
        request.scheduled_ms for request in repetition.requests
    ]


def test_two_processes_of_the_file_send(tmp_path, target, engine):
    """Every request arrives once, and the result has both processes and why."""
    workload = workload_of(tmp_path, "client_processes = 2", prompts=20)
    repetition = measure(target, workload, 0)

    assert (20, 2.0) == (
        repetition.completed,
        repetition.client_values["processes"],
    )
    sent = {
        request.prompt_token_ids
        for request in build_requests(workload, 0, 1000)
    }
    assert sent == {tuple(log["prompt"]) for log in engine.sent()}
    assert 20 == len(engine.sent())
    note = "sent by 2 client processes: as the workload declares (client_processes)"
    assert note in repetition.notes


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("burstiness = 0", "burstiness must be above 0"),
        (
            "client_processes = 0",
            "client_processes is 0, and must be from 1 to 64",
        ),
        (
            "client_processes = 65",
            "client_processes is 65, and must be from 1 to 64",
        ),
        ("client_processes = 1.5", "client_processes: Expected `int"),
        ("client_process = 2", "did you mean client_processes?"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, line, seen):
    """The message names the file, the table and the key."""
    path = write(tmp_path, line)
    with pytest.raises(BadStudy) as caught:
        read_study(path)

    message = str(caught.value)
    assert str(path) in message
    assert "[workloads.short.open]" in message
    assert seen in message


def test_client_processes_are_no_identity(tmp_path):
    """A baseline recorded with one process is comparable with a run of several."""
    one = workload_of(tmp_path)
    two = msgspec.structs.replace(one, client_processes=2)

    assert one.fingerprint() == two.fingerprint()
