"""Symptoms: streams that decode at once, graphs as captured, roles by architecture."""

import msgspec
import pytest

from perfgate.judge.baseline_store import Store
from perfgate.judge.causes.symptoms import most_decoding, symptoms_of
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.load.repetition import RequestRow
from tests.support import builders as m


def halved(noise=None):
    """A throughput that lost half."""
    return Verdict(
        case=m.THROUGHPUT.id,
        metric="output_throughput",
        outcome=Outcome.REGRESSED,
        gate="hard",
        value=500.0,
        baseline=1000.0,
        noise=noise,
        summary="",
    )


def request(sent_ms, ttft_ms, e2el_ms):
    """A request that was answered, or that failed."""
    return RequestRow(
        scheduled_ms=0.0,
        sent_ms=sent_ms,
        ttft_ms=ttft_ms,
        e2el_ms=e2el_ms,
        output_tokens=8,
        itl_ms=(),
        error=None,
    )


def test_streams_that_decode_at_once():
    """From the first token to the last; one that waits or failed does not count."""
    rows = (
        request(0.0, 10.0, 100.0),
        request(0.0, 20.0, 90.0),
        request(0.0, 90.0, 120.0),
        request(0.0, None, None),
    )
    repetition = msgspec.structs.replace(
        m.repetition(0, {"itl_median_ms": 1.0}), requests=rows
    )

    assert 2 == most_decoding(repetition)


def test_streams_of_the_base_build_are_known_in_pairs(tmp_path):
    """Of its launches the one in which most decoded at once."""
    load = m.THROUGHPUT.numerator
    base = load.base
    values = {one: {"output_throughput": [1000.0] * 2} for one in (load, base)}
    results = m.run(values, [m.THROUGHPUT])
    at_once = {(load.server.key, 0): 1, (base.server.key, 1): 2}
    measurements = []
    for row in results.measurements:
        count = at_once.get((row.server, row.launch), 0)
        rows = (request(0.0, 10.0, 100.0),) * count
        repetitions = tuple(
            msgspec.structs.replace(one, requests=rows)
            for one in row.repetitions
        )
        measurements.append(
            msgspec.structs.replace(row, repetitions=repetitions)
        )
    results = msgspec.structs.replace(
        results, mode="paired", measurements=tuple(measurements)
    )

    (server,) = symptoms_of(RunReader(results), [halved()], Store(tmp_path))

    (decoding,) = server.decoding
    assert (1, 2) == (decoding.at_most, decoding.before)


def test_a_server_has_its_models_role(tmp_path):
    """By the architecture that the run stores, whatever it is called."""
    results = m.run(
        {m.MOE_LOAD: {"output_throughput": [1000.0]}}, [m.THROUGHPUT]
    )

    (server,) = symptoms_of(
        RunReader(results), [halved(noise=0.01)], Store(tmp_path)
    )

    assert server.is_sparse
    (row,) = server.moved
    assert row.is_worse
    assert row.loss == pytest.approx(0.693, abs=1e-3)
