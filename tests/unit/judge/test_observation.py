"""Observations: each launch read once, ratios taken between launches that are paired."""

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.judge.observation import RunReader, hardware_label
from tests.support import builders as m


def ratio_of(dense, moe):
    """The samples of dense over sparse with these launches."""
    values = {
        m.DENSE_LOAD: {"output_throughput": dense},
        m.MOE_LOAD: {"output_throughput": moe},
    }
    return RunReader(m.run(values, [m.RATIO])).observe(m.RATIO)


def test_launches_of_the_same_number_are_paired():
    """9,000 / 3,000 and 9,300 / 3,000: each over the other server's launch of the same number."""
    assert [3.0, 3.1] == ratio_of([9000.0, 9300.0], [3000.0, 3000.0]).values


def test_a_dead_launch_is_replaced_in_the_pair():
    """The sparse server's launch 1 replaced launch 0, which died.

    Its pair is the dense server's launch 0.
    """
    seen = ratio_of([9000.0], [None, 3000.0])
    assert [3.0] == seen.values
    assert [
        "launch 0: denominator: all streams fell silent for 1,400 ms"
    ] == list(dict.fromkeys(seen.invalid))


def test_a_launch_without_partner_does_not_count():
    """Three launches of one server and one of the other make one ratio, and nothing invalid."""
    seen = ratio_of([9000.0, 9100.0, 9200.0], [3000.0])
    assert ([3.0], []) == (seen.values, seen.invalid)


def test_ratio_has_both_identities():
    """Every field of both sides is there, told apart by its prefix; both sides' values are kept."""
    seen = ratio_of([9000.0], [3000.0])
    assert ("llama-3.1-8b", "mixtral-8x7b") == (
        seen.identity["numerator.model"],
        seen.identity["denominator.model"],
    )
    assert [(9000.0, 3000.0)] == seen.sides


def test_ratio_has_the_choices_of_both_sides():
    """Of each server, told apart by its prefix."""
    values = {
        m.DENSE_LOAD: {"output_throughput": [9000.0]},
        m.MOE_LOAD: {"output_throughput": [3000.0]},
    }
    results = m.run(values, [m.RATIO])
    launches = tuple(
        msgspec.structs.replace(launch, effective={"of": launch.server})
        for launch in results.launches
    )
    results = msgspec.structs.replace(results, launches=launches)

    assert {
        "numerator.of": m.DENSE.key,
        "denominator.of": m.MOE.key,
    } == RunReader(results).observe(m.RATIO).chosen


def test_growth_is_taken_on_one_launch():
    """Two workloads of one server: numerator and denominator come from the very same process."""
    burst = Load(server=m.MOE, workload=m.BURST)
    case = Case(
        experiment="E4",
        metric="output_throughput",
        numerator=m.MOE_LOAD,
        denominator=burst,
    )
    values = {
        m.MOE_LOAD: {"output_throughput": [3000.0, 3300.0]},
        burst: {"output_throughput": [1000.0, 1100.0]},
    }
    assert [3.0, 3.0] == [
        pytest.approx(v)
        for v in RunReader(m.run(values, [case])).observe(case).values
    ]


def test_server_metrics_are_read_from_the_launch():
    """A case without workload reads what the launch itself holds."""
    load = Load(server=m.MOE)
    case = Case(experiment="E6", metric="kv_cache_tokens", numerator=load)
    assert [300_000.0] == RunReader(
        m.run({load: {"kv_cache_tokens": [300_000.0]}}, [case])
    ).observe(case).values


def test_value_without_logarithm_is_invalid():
    """A throughput of zero is no value to be judged, and says so."""
    seen = RunReader(
        m.run({m.MOE_LOAD: {"output_throughput": [0.0]}}, [m.THROUGHPUT])
    ).observe(m.THROUGHPUT)
    assert ([], ["launch 0: the value 0.0 is not a positive number"]) == (
        seen.values,
        seen.invalid,
    )


@pytest.mark.parametrize(
    ("tensor_parallel_size", "device", "expected"),
    [
        (2, "cuda", "h200x2"),
        (1, "cuda", "h200x1"),
        (2, "cpu", "cpu-some-cpu-avx2-x2"),
    ],
)
def test_label_follows_the_server(tensor_parallel_size, device, expected):
    """The folder is that of the GPUs the server uses, not of those the host has."""
    server = msgspec.structs.replace(
        m.MOE, tensor_parallel_size=tensor_parallel_size, device=device
    )
    case = Case(
        experiment="E1",
        metric="output_throughput",
        numerator=Load(server=server, workload=m.CLOSED),
    )
    assert expected == hardware_label(m.hardware(count=8), case)


def test_injected_slowdowns_are_seen():
    """A slowdown in any server of the case is found, one in another server is not."""
    results = m.run(
        {m.MOE_LOAD: {"output_throughput": [1.0]}},
        [m.THROUGHPUT],
        injected={"token_delay_ms": 5.0},
    )
    reader = RunReader(results)
    assert {"token_delay_ms": 5.0} == reader.injected(m.RATIO)
    assert {} == reader.injected(
        msgspec.structs.replace(m.THROUGHPUT, numerator=m.DENSE_LOAD)
    )


def test_rows_that_noise_may_fail_are_counted():
    """Judged ones that vary from launch to launch: neither bytes nor reported values."""
    weights = Case(
        experiment="E1",
        metric="weights_bytes_per_rank",
        numerator=Load(server=m.MOE),
    )
    reported = msgspec.structs.replace(m.ITL, gate="report")
    cases = [m.THROUGHPUT, m.TTFT, weights, reported]
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0]}}, cases)

    assert 2 == RunReader(results).observe(m.THROUGHPUT).judged_rows


@pytest.mark.parametrize(("gap_ms", "ratio"), [(0.0, 0.0), (None, None)])
def test_a_gap_of_nothing_is_no_gap_that_is_unknown(gap_ms, ratio):
    """Tokens that came in one chunk have a median gap of zero, which has no logarithm."""
    values = {"tpot_median_ms": [10.0]}
    if gap_ms is not None:
        values["itl_median_ms"] = [gap_ms]
    case = msgspec.structs.replace(m.THROUGHPUT, metric="tpot_median_ms")

    observation = RunReader(m.run({m.MOE_LOAD: values}, [case])).observe(case)

    (decoding,) = observation.decoding
    assert ratio == decoding.itl_over_tpot


def test_the_pieces_of_a_load_are_the_mean_of_its_repetitions():
    """Of those that tell it; a client of an older run does not."""
    told = [{"short_gap_share": 0.2}, {"short_gap_share": 0.4}, {}]
    rows = []
    for index, client_values in enumerate(told):
        rows.append(m.repetition(index, 1.0, client_values=client_values))
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0]}}, [m.THROUGHPUT])
    measurement = m.measurement(0, *rows, server=m.MOE)
    results = msgspec.structs.replace(results, measurements=(measurement,))

    (decoding,) = RunReader(results).observe(m.THROUGHPUT).decoding

    assert 0.3 == pytest.approx(decoding.short_gap_share)
    assert decoding.tokens_per_chunk is None
