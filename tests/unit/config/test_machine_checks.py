"""Machine checks: an assertion that does not hold, and more workers than devices."""

from pathlib import Path

import msgspec
import pytest

from perfgate.config.config import Config
from perfgate.config.machine_checks import refuse_impossible
from perfgate.config.option_values import BadOption
from perfgate.errors import FailureRow
from perfgate.judge.baseline_store import Store
from perfgate.machine.nvml import NvmlError
from tests.support.builders import hardware
from tests.support.studies import SHIPPED


def config(**fields):
    """A configuration that selects the H200."""
    fields = {"platforms": ("h200",), "engines": ("vllm",)} | fields
    return Config(run_dir=Path("run"), store=Store(Path("baselines")), **fields)


def never():
    """A machine that must not be asked."""
    raise AssertionError("detected")


def test_the_machine_is_detected_only_where_an_option_depends_on_it():
    """NVML takes its time, and most sessions need no answer here."""
    refuse_impossible(config(platforms=("cpu",)), SHIPPED, never)
    refuse_impossible(config(plan=True), SHIPPED, never)
    refuse_impossible(config(platforms=(), worker_count=2), SHIPPED, never)


def test_a_driver_that_fails_is_not_a_machine_without_gpus():
    """A session on GPUs ends before it begins; one on the CPU needs no driver."""
    fault = FailureRow(tried="asking", seen="mismatch", remedy="restart")
    broken = msgspec.structs.replace(hardware("cpu"), gpu_fault=fault)

    with pytest.raises(NvmlError, match="restart"):
        refuse_impossible(config(), SHIPPED, lambda: broken)
    refuse_impossible(config(platforms=("cpu",)), SHIPPED, lambda: broken)


def test_an_asserted_kind_must_be_there():
    """--hardware names the kind, or the session ends before it measures."""
    refuse_impossible(
        config(hardware_kind="h200"), SHIPPED, lambda: hardware(count=1)
    )

    with pytest.raises(
        BadOption, match="this machine is of kind h200: 1x NVIDIA H200"
    ):
        refuse_impossible(
            config(hardware_kind="b200"), SHIPPED, lambda: hardware(count=1)
        )


@pytest.mark.parametrize(
    ("workers", "ranks", "gpu_count", "remedy"),
    [
        (2, 1, 2, None),
        (4, 2, 8, None),
        (3, 1, 2, "use -n 2 at most"),
        (5, 2, 8, "use -n 4 at most"),
        (2, 2, 2, "leave -n out"),
        (2, None, 2, "leave -n out"),  # the study serves on two
    ],
)
def test_each_worker_needs_gpus_of_its_own(workers, ranks, gpu_count, remedy):
    """A server's ranks times the workers must fit the GPUs."""
    asked = config(worker_count=workers, tensor_parallel_size=ranks)

    if remedy is None:
        refuse_impossible(asked, SHIPPED, lambda: hardware(count=gpu_count))
        return
    with pytest.raises(BadOption, match=remedy):
        refuse_impossible(asked, SHIPPED, lambda: hardware(count=gpu_count))


def test_workers_are_refused_on_the_cpu():
    """Servers that share cores slow each other down."""
    with pytest.raises(BadOption, match="-m cpu"):
        refuse_impossible(
            config(platforms=("cpu",), worker_count=2), SHIPPED, never
        )
