"""Cost of telemetry: a ratio of pairs, with its uncertainty."""

import math

import pytest
from click.testing import CliRunner

from benchmarks.telemetry_cost import effect, main
from tests.support.fake_launch import FakeEngine


def test_effect_is_the_mean_of_the_pairs_ratios():
    """Two pairs of 1 % and 3 %: 2 %, with a wide interval (t with one degree of freedom)."""
    found = effect("output_throughput", [(101.0, 100.0), (206.0, 200.0)])

    assert math.sqrt(1.01 * 1.03) == pytest.approx(found.ratio)
    # t(0.975; 1) = 12.706; half the difference of the logs is the standard error
    half = 12.706 * math.log(1.03 / 1.01) / 2
    assert found.ratio * math.exp(half) == pytest.approx(found.high, rel=1e-4)
    assert found.ratio * math.exp(-half) == pytest.approx(found.low, rel=1e-4)
    assert 2 == found.pairs


def test_one_pair_has_no_uncertainty():
    """And so says nothing."""
    with pytest.raises(ValueError, match="1 pairs"):
        effect("itl_median_ms", [(1.0, 1.0)])


def test_a_running_server_is_measured_with_and_without():
    """In pairs, against any server; here the fake engine and a fake NVML."""
    options = [
        "--rounds",
        "3",
        "--prompts",
        "8",
        "--concurrency",
        "4",
        "--lengths",
        "8,60",
        "--device",
        "cpu",
    ]
    with FakeEngine(ttft_s=0.002, itl_s=0.004) as engine:
        done = CliRunner().invoke(
            main,
            [
                "--url",
                engine.url,
                "--model",
                "llama-small",
                "--nvml",
                "tests.support.fake_nvml:FakeNvml",
                *options,
            ],
        )

    assert "round 3 of 3" in done.output, done.output
    # A busy machine may leave too few pairs that count; then it says so.
    assert (
        0 == done.exit_code and "itl_median_ms" in done.output
    ) or "use more rounds" in done.output
