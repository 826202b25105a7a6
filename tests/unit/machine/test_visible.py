"""The variables that hide GPUs, read as the runtimes read them."""

import pytest

from perfgate.machine.visible import ROCM, Device, hidden_by_container, visible

TWO = (Device(0, "GPU-first"), Device(1, "GPU-second"))
FOUR = tuple(Device(n, f"GPU-{n}") for n in range(4))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("1,0", [1, 0]),
        (" 1 , 0", [1, 0]),
        ("GPU-second", [1]),
        ("GPU-f", [0]),
        ("GPU-", []),  # two of them
        ("1,7,0", [1]),  # what names no GPU ends the list
        ("0,0", [0]),
        ("-1", []),
        ("", []),
        ("GPU-nosuch", []),
        ("MIG-GPU-first/1/0", []),
    ],
)
def test_cuda_takes_indices_and_uuids(setting, expected):
    """As CUDA reads the variable; schedulers of containers name UUIDs."""
    seen = visible(TWO, {"CUDA_VISIBLE_DEVICES": setting})

    assert expected == [device.index for device in seen.devices]
    assert seen.is_named
    assert bool(seen.note) is not bool(expected)


def test_without_a_variable_all_are_visible():
    """And none was named."""
    seen = visible(TWO, {})

    assert (TWO, False, "") == (seen.devices, seen.is_named, seen.note)


def test_a_gpu_that_does_not_answer_has_no_uuid_to_match():
    """An empty entry does not name it."""
    lost = (Device(0, ""), Device(1, "GPU-b"))

    assert () == visible(lost, {"CUDA_VISIBLE_DEVICES": ""}).devices
    assert (lost[0],) == visible(lost, {"CUDA_VISIBLE_DEVICES": "0"}).devices


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"ROCR_VISIBLE_DEVICES": "2,3"}, [2, 3]),
        # HIP numbers what ROCR lets through.
        ({"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "1"}, [3]),
        ({"HIP_VISIBLE_DEVICES": "1"}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "0"}, [0]),
        ({"HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "0"}, [1]),
    ],
)
def test_rocm_has_two_filters(environ, expected):
    """The outer one renumbers for the inner one."""
    seen = visible(FOUR, environ, ROCM)

    assert expected == [device.index for device in seen.devices]


def test_a_container_without_devices_says_so():
    """The runtime's variable is the reason, where it is none or void."""
    assert "NVIDIA_VISIBLE_DEVICES=none" in hidden_by_container(
        {"NVIDIA_VISIBLE_DEVICES": "none"}
    )
    assert "" == hidden_by_container({"NVIDIA_VISIBLE_DEVICES": "all"})
    assert "" == hidden_by_container({})
