"""The TTFT of a long prompt: the device's own work, judged far closer than that of a short one."""

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.judge.noise_table import names_of
from perfgate.judge.policy import (
    GPU_PREFILL,
    GPU_RATE,
    GPU_TTFT,
    policy_for,
    policy_of,
)
from perfgate.load.workload import Synthetic, Workload
from tests.support import builders as m

LONG = Workload(
    name="prefill",
    prompts=Synthetic(input_len_tokens=4096, output_len_tokens=64),
    num_prompts=24,
    max_concurrency=1,
)


def case(workload, metric="ttft_median_ms"):
    """Of one server."""
    load = Load(server=m.MOE, workload=workload)
    return Case(experiment="E17", metric=metric, numerator=load)


def lengths(input_tokens, output_tokens):
    """The same load of other lengths."""
    prompts = Synthetic(
        input_len_tokens=input_tokens, output_len_tokens=output_tokens
    )
    return msgspec.structs.replace(LONG, prompts=prompts)


def test_a_loss_of_five_percent_may_not_pass():
    """Twice as close as that of a short prompt; other metrics are as anywhere."""
    assert "prefill" == LONG.arrivals
    assert GPU_PREFILL is policy_of(case(LONG), "h200x2")
    assert (0.05, 0.10) == (GPU_PREFILL.fail_over, GPU_TTFT.fail_over)
    assert GPU_RATE is policy_of(case(LONG, "itl_median_ms"), "h200x2")


@pytest.mark.parametrize(
    "workload",
    [
        lengths(128, 64),
        lengths(511, 8),
        lengths(1024, 256),
        msgspec.structs.replace(LONG, max_concurrency=8),
        msgspec.structs.replace(LONG, request_rate=1.0),
    ],
)
def test_other_loads_are_none(workload):
    """Short prompts, long answers, and requests that wait for each other."""
    assert "prefill" != workload.arrivals
    assert GPU_TTFT is policy_of(case(workload), "h200x2")


def test_a_cpu_has_its_own_limits():
    """Shared cores are no yardstick, however long the prompt."""
    label = "cpu-amd-epyc-avx2-x2"

    assert policy_for(label, "ttft_median_ms", False) is policy_of(
        case(LONG), label
    )


def test_its_noise_is_not_that_of_short_prompts():
    """Which is the server's Python; its ITL is of one family with the others."""
    names = names_of("one-gpu", "ttft_median_ms", "prefill", False)

    assert [
        "one-gpu/ttft_median_ms/prefill",
        "gpu/ttft_median_ms/prefill",
    ] == names
    itl = names_of("one-gpu", "itl_median_ms", "prefill", False)
    assert "gpu/itl" in itl
