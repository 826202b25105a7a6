"""Questions about deep loads and soaks: nothing without their options, servers of their own."""

import dataclasses

import msgspec
import pytest

from perfgate.judge.identity import identity
from tests.perf.test_deep import deep
from tests.perf.test_memory import capacity
from tests.perf.test_soak import end_over_beginning, growth
from tests.support import builders as m
from tests.support.studies import SHIPPED, study_of

KEY = "vllm-llama-3.1-8b-tp2"


def asked(platform, *names, engine="vllm", **fields):
    """The study with these deep loads asked for."""
    study = study_of(platform, engine)
    loads = {name: SHIPPED.platforms[platform].deep[name] for name in names}
    return dataclasses.replace(study, deep=loads, **fields)


def gates(question, study):
    """Id of each case -> what it does to a run."""
    return {case.id: case.gate for case in question(study)}


@pytest.mark.parametrize("question", [deep, end_over_beginning, growth])
@pytest.mark.parametrize("platform", ["cpu", "h200"])
def test_nothing_is_asked_without_an_option(platform, question):
    """A session takes no longer than before."""
    assert {} == gates(question, asked(platform))


def test_saturation_is_sent_to_the_usual_server():
    """Its throughput and goodput are judged, the rest is reported."""
    found = gates(deep, asked("h200", "saturation"))

    assert "hard" == found[f"{KEY}/saturation/saturated_throughput"]
    assert "hard" == found[f"{KEY}/saturation/saturated_goodput"]
    assert "report" == found[f"{KEY}/saturation/knee_streams"]


def test_prefix_caching_has_a_server_of_its_own():
    """The usual one keeps nothing, and its identity says nothing of it."""
    cases = list(deep(asked("h200", "prefix")))

    servers = {case.numerator.server for case in cases}
    assert {True} == {server.prefix_caching for server in servers}
    assert f"{KEY}-prefix" in {server.key for server in servers}
    first = cases[0].numerator
    usual = study_of("h200", "vllm").models[0]
    results = m.run({}, ())
    fields = identity(results, first)
    assert "true" == fields["prefix_caching"]
    plain = identity(results, msgspec.structs.replace(first, server=usual))
    assert "prefix_caching" not in plain


def test_an_engine_without_arguments_of_its_own_is_not_asked():
    """Drafts are described for vLLM alone."""
    found = gates(deep, asked("h200", "speculative"))

    assert "hard" == found[f"{KEY}-ngram/speculative/acceptance_length"]
    assert {} == gates(deep, asked("h200", "speculative", engine="sglang"))


def test_a_soak_compares_the_end_with_the_beginning():
    """The same load under another name, of one session; and memory on GPUs twice."""
    study = asked("h200", soak_minutes=5.0)

    found = gates(end_over_beginning, study)
    assert (
        "hard"
        == found[f"{KEY}/steady-c32-soaked--over--steady-c32/output_throughput"]
    )
    assert f"{KEY}/launch/gpu_memory_growth" in gates(growth, study)
    on_cpu = gates(growth, asked("cpu", soak_minutes=5.0))
    assert not [name for name in on_cpu if "gpu" in name]


def test_usual_workloads_send_what_they_always_sent():
    """The fields of deep loads are no part of another load's identity."""
    batch = SHIPPED.workloads["gpu"]["batch-32"]

    expected = (
        "892e9f359d0da9beb4e99074de586c05512bce393ee3a51a65e2909ad0f86ff1"
    )
    assert f"sha256:{expected}" == batch.fingerprint()


@pytest.mark.parametrize(
    ("platform", "load", "gate"),
    [
        ("cpu", "saturation", "report"),
        ("cpu", "prefix", "hard"),
        ("h200", "saturation", "hard"),
    ],
)
def test_peak_of_memory_beside_a_ramp_is_reported_alone(platform, load, gate):
    """A CPU holds more for it; a GPU has taken all before, and a prefix cache its own."""
    peaks = set()
    for case in capacity(asked(platform, load)):
        if case.metric == "memory_peak_bytes":
            peaks.add(case.gate)

    assert {gate} == peaks
