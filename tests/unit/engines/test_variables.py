"""Variables of a server: its search path, and the GPUs that it sees."""

from pathlib import Path

from perfgate.engines.variables import (
    kernel_cache,
    search_path,
    start_method,
    visible_gpus,
)


def test_own_folder_is_first(monkeypatch):
    """Before the inherited search path."""
    monkeypatch.setenv("PYTHONPATH", "/inherited")

    assert "/own:/inherited" == search_path(Path("/own"))


def test_cuda_counts_as_nvml_does():
    """Its own order is the fastest first."""
    expected = {
        "CUDA_VISIBLE_DEVICES": "2,5",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }

    assert expected == visible_gpus(["2", "5"], is_amd=False)


def test_hip_has_both_variables():
    """Refused by vLLM where they differ."""
    expected = {"CUDA_VISIBLE_DEVICES": "2,5", "HIP_VISIBLE_DEVICES": "2,5"}

    assert expected == visible_gpus(["2", "5"], is_amd=True, environ={})


def test_an_inherited_filter_of_rocr_is_widened():
    """Else HIP would number what it lets through, and 5 would name nothing."""
    variables = visible_gpus(
        ["2", "5"], is_amd=True, environ={"ROCR_VISIBLE_DEVICES": "2,5"}
    )

    assert "2,5" == variables["HIP_VISIBLE_DEVICES"]
    assert "0,1,2,3,4,5" == variables["ROCR_VISIBLE_DEVICES"]


def test_how_processes_start_is_the_users_choice():
    """What is inherited counts, and on AMD's GPUs vLLM decides."""
    inherited = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}

    assert {} == start_method(is_amd=False, environ=inherited)
    assert {} == start_method(is_amd=True, environ={})
    assert {"VLLM_WORKER_MULTIPROC_METHOD": "fork"} == start_method(
        is_amd=False, environ={}
    )


def test_compiled_kernels_are_kept_for_later_servers():
    """In the user's cache, unless the variable is set; nowhere without a home folder."""
    name = "TRITON_CACHE_DIR"
    home = {"HOME": "/home/ci"}

    assert {name: "/home/ci/.cache/perfgate/triton"} == kernel_cache(home)
    assert {name: "/caches/perfgate/triton"} == kernel_cache(
        home | {"XDG_CACHE_HOME": "/caches"}
    )
    assert {} == kernel_cache(home | {name: "/kernels"})
    assert {} == kernel_cache({})
