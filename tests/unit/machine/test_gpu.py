"""Which GPUs of a machine are used, and why others are not."""

import pytest

from perfgate.machine.gpu import Gpu, choose

GIB = 2**30


def gpu(index, name="NVIDIA H200", gib=140, **more):
    """One GPU."""
    fields = {
        "index": index,
        "uuid": f"GPU-{index}",
        "name": name,
        "memory_total_bytes": gib and gib * GIB,
        "mig": False,
        "power_limit_w": None,
    }
    return Gpu(**fields | more)


def indices(selection):
    """Of the GPUs that are used."""
    return [gpu.index for gpu in selection.gpus]


def test_one_product_is_used_whole():
    """Nothing is left out."""
    selection = choose([gpu(0), gpu(1)])

    assert ([0, 1], ()) == (indices(selection), selection.omitted)


def test_the_product_with_the_most_memory_is_used():
    """A display card in the first slot hides no H200."""
    selection = choose([gpu(0, "NVIDIA T400 4GB", 4), gpu(1), gpu(2)])

    assert [1, 2] == indices(selection)
    assert "GPU 0 NVIDIA T400 4GB: another product than NVIDIA H200" == str(
        selection.omitted[0]
    )


def test_the_larger_group_is_used_where_memory_is_unknown():
    """Without figures the number decides."""
    selection = choose(
        [
            gpu(0, "NVIDIA A", None),
            gpu(1, "NVIDIA B", None),
            gpu(2, "NVIDIA B", None),
        ]
    )

    assert [1, 2] == indices(selection)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["h100"], [0]),
        (["h100-nvl"], [1, 2]),
        (["l4", "h100-nvl"], [1, 2]),
        (["b200"], [3]),
        ([], [3]),
    ],
)
def test_the_product_that_was_asked_for_is_used(wanted, expected):
    """The usual form before others; what is not here is not used."""
    gpus = [
        gpu(0, "NVIDIA H100 80GB HBM3", 80),
        gpu(1, "NVIDIA H100 NVL", 94),
        gpu(2, "NVIDIA H100 NVL", 94),
        gpu(3, "NVIDIA B200", 400),
    ]

    assert expected == indices(choose(gpus, wanted))


def test_a_display_is_left_out_unless_it_was_named():
    """Drawing takes memory and time; who names the card in CUDA_VISIBLE_DEVICES wants it."""
    gpus = [gpu(0, display=True), gpu(1)]

    assert [1] == indices(choose(gpus))
    assert "drives a display" == choose(gpus).omitted[0].reason
    assert [0, 1] == indices(choose(gpus, named=True))


def test_a_display_on_the_only_gpu_is_borne():
    """A workstation with one GPU can be measured."""
    assert [0] == indices(choose([gpu(0, display=True)]))


def test_mig_is_left_out_with_a_remedy():
    """A slice has no baselines; the others are used."""
    selection = choose([gpu(0, mig=True), gpu(1)])

    assert [1] == indices(selection)
    assert "in MIG mode" == selection.omitted[0].reason
    assert "nvidia-smi -i 0 -mig 0" in selection.omitted[0].remedy


def test_mig_everywhere_leaves_no_gpu():
    """All are named."""
    selection = choose([gpu(0, mig=True), gpu(1, mig=True)])

    assert ((), 2) == (selection.gpus, len(selection.omitted))
