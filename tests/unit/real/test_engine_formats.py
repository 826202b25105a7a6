"""Contract of the engines' logs: every format string of an installed engine is understood.

The literal strings are taken out of its source files, with a made-up backend in each
gap. A release that words one anew fails here. Nothing is started, so it needs no marker.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfgate.engines import environment, put_back, sglang_log, vllm_log
from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure

CONFIG = ServerConfig(engine="vllm", model="mixtral-8x7b", device="cuda")
# Stands in every gap of a format string: two words, as FlashInfer CUTLASS has.
BACKEND = "Made Up"
# Of vLLM: what tells of a refusal, of one kernel of a step, or comes before the choice.
NOT_A_CHOICE = re.compile(
    r"not support|not available|No .* backend|No MoE|falling back|instead of|requires"
    r"|Unsupported|is not|cannot|selected and may|Overriding|was selected"
)


def source(engine: str, package: str) -> Path:
    """The folder of an installed engine's package; skipped where it is not installed."""
    try:
        python = environment.find_python(engine, "cpu", {}).path
    except Failure as failure:
        pytest.skip(f"{failure.seen}; {failure.remedy}")
    (folder,) = python.parent.parent.glob(
        f"lib/python3*/site-packages/{package}"
    )
    return folder


def texts(file: Path) -> Iterator[str]:
    """Every text of a source file, with `BACKEND` in each gap; parts are joined."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner.update(id(part) for part in node.values)
            yield "".join(_part(part) for part in node.values)
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in inner:
            yield re.sub(r"%[sd]|%\.\df", BACKEND, node.value)


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    return BACKEND


def formats(folder: Path, pattern: str, files: str) -> list[str]:
    """Texts of the files that match a pattern, without refusals."""
    found = []
    for file in sorted(folder.glob(files)):
        for text in texts(file):
            if re.search(pattern, text) and not NOT_A_CHOICE.search(text):
                found.append(" ".join(text.split()))
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def vllm() -> Path:
    """Source of the installed vLLM."""
    return source("vllm", "vllm")


@pytest.fixture(scope="module")
def sglang() -> Path:
    """Source of the installed SGLang."""
    return source("sglang", "sglang")


def read(module, line: str) -> dict[str, str]:
    """What a module reads out of one line."""
    return module.read_log(CONFIG, iter([line])).effective


def test_each_moe_backend_of_vllm_is_read(vllm):
    """All oracles, for every number format, name the backend that was put in."""
    lines = formats(
        vllm,
        r"^Using .*M[oO]E (LoRA )?backend",
        "model_executor/layers/fused_moe/oracle/*.py",
    )
    names = {line: read(vllm_log, line)["moe_backend"] for line in lines}

    assert len(lines) >= 9
    assert {} == {
        line: name
        for line, name in names.items()
        if name not in ("MADE_UP", "TRITON", "TrtLlmBf16LoRA")
    }


def test_each_emulated_backend_of_vllm_is_read(vllm):
    """A kernel that emulates a number format is slow, and is named."""
    lines = formats(
        vllm,
        r"^Using \w+Experts M[oO]E backend",
        "model_executor/layers/fused_moe/experts/*.py",
    )

    assert len(lines) >= 3
    assert [] == [
        line
        for line in lines
        if "Emulation" not in read(vllm_log, line)["moe_backend"]
    ]


@pytest.mark.parametrize(
    ("choice", "pattern", "file", "expected"),
    [
        (
            "attention_backend",
            r"^Using \S+ \S+ (attention )?backend( out of|\.)",
            "platforms/cuda.py",
            "MADEUP",
        ),
        (
            "moe_config",
            r"^Using (configuration from .* MoE|default MoE)",
            "model_executor/layers/fused_moe/fused_moe.py",
            None,
        ),
        (
            "sampling_backend",
            r"^Using FlashInfer for",
            "v1/sample/ops/topk_topp_sampler.py",
            "FlashInfer",
        ),
        (
            "model_runner",
            r"V1 model runner instead|^Using V2 Model",
            "config/vllm.py",
            "V1",
        ),
        ("model_runner", r"^Using V2 Model", "v1/worker/gpu_worker.py", "V2"),
        (
            "graphs",
            r"^Graph capturing finished",
            "v1/worker/gpu*model_runner.py",
            "on",
        ),
        (
            "graphs",
            r"^Graph capturing finished",
            "v1/worker/gpu/model_runner.py",
            "on",
        ),
    ],
)
def test_each_choice_of_vllm_is_read(vllm, choice, pattern, file, expected):
    """Attention, tuned file, sampling, model runner and graphs, in the release's own words."""
    # The name of an attention backend is one word; a path has no spaces.
    lines = [
        line.replace(BACKEND, "MADEUP") for line in formats(vllm, pattern, file)
    ]

    assert lines
    for line in lines:
        seen = read(vllm_log, line)[choice]
        assert seen in ({expected} if expected else {"MADEUP", "default"}), line


def test_all_reduce_of_vllm_is_read(vllm):
    """The line that lists them has a gap for the list."""
    (line,) = formats(
        vllm,
        r"all-reduce backends \(in",
        "distributed/device_communicators/cuda_communicator.py",
    )
    gaps = iter(["['CUSTOM', 'PYNCCL']", "tp:0", "['CUSTOM', 'PYNCCL']"])
    line = re.sub(BACKEND, lambda _: next(gaps), line)

    assert "CUSTOM, PYNCCL" == read(vllm_log, line)["all_reduce"]


@pytest.mark.parametrize(
    ("pattern", "file", "name"),
    [
        (r"KV cache size: ", "v1/core/kv_cache_utils.py", "kv_cache_tokens"),
        (
            r"^Graph capturing finished",
            "v1/worker/gpu_model_runner.py",
            "graphs_bytes",
        ),
        (
            r"^Model loading took",
            "v1/worker/gpu*runner.py",
            "model_loading_bytes",
        ),
        (
            r"^Model loading took",
            "v1/worker/gpu/model_runner.py",
            "model_loading_bytes",
        ),
        (
            r"^Available KV cache memory",
            "v1/worker/gpu_worker.py",
            "kv_cache_bytes",
        ),
    ],
)
def test_each_size_of_vllm_is_read(vllm, pattern, file, name):
    """A number in each gap is read as a number."""
    lines = [
        line.replace(BACKEND, "12") for line in formats(vllm, pattern, file)
    ]

    assert lines
    for line in lines:
        assert name in vllm_log.read_log(CONFIG, iter([line])).values, line


def test_tuned_files_of_sglang_are_read(sglang):
    """A file, a file of another Triton, and the default."""
    lines = formats(
        sglang,
        r"[Uu]s(e|ing) (default )?MoE kernel config",
        "srt/layers/moe/moe_runner/triton_utils/fused_moe_triton_config.py",
    )

    assert len(lines) >= 3
    for line in lines:
        line = line.replace(BACKEND, "/x/E=8.json")
        seen = read(sglang_log, line)["moe_config"]
        assert seen in ("/x/E=8.json", "default"), line


@pytest.mark.parametrize("kind", ["decode", "prefill"])
def test_graphs_of_sglang_are_read(sglang, kind):
    """What was captured, not what was asked for."""
    lines = formats(
        sglang,
        r"^Capture .* end\. ",
        "srt/model_executor/model_runner_components/cuda_graph_setup.py",
    )
    assert lines
    for line in lines:
        if "CUDA graph" not in line:
            line = line.replace(BACKEND, f"target {kind}", 1)
            line = line.replace(BACKEND, "CUDA graph", 1)
        line = line.replace(BACKEND, f"target {kind}", 1)
        line = line.replace(":.2f", "").replace(BACKEND, "1.5")
        facts = sglang_log.read_log(CONFIG, iter([line]))
        assert "on" == facts.effective["graphs"], line
        assert f"target {kind}" in facts.effective["graphs_captured"], line


def test_limits_of_sglang_are_read(sglang):
    """Chunk and largest batch, in the line that the scheduler logs."""
    (line,) = formats(
        sglang, r"^max_total_num_tokens=.*chunked", "srt/managers/scheduler.py"
    )
    facts = sglang_log.read_log(CONFIG, iter([line.replace(BACKEND, "64")]))

    assert "64" == facts.settings["chunked_prefill_tokens"]
    assert "64" == facts.effective["max_num_seqs"]


def test_both_caches_of_sglang_are_read(sglang):
    """The sum of a model whose layers have windows, and the size of those without."""
    (line,) = formats(
        sglang, r"^SWAKVPool .* GB", "srt/mem_cache/swa_memory_pool.py"
    )
    line = line.replace(BACKEND, "mem usage", 1).replace(BACKEND, "64")
    values = sglang_log.read_log(CONFIG, iter([line])).values

    assert {"kv_cache_tokens": 64.0, "kv_cache_bytes": 64.0 * 2**30} == values


def test_each_backend_of_the_experts_can_be_put_back(vllm):
    """`--moe-backend` has other names than the log: each one is among its values."""
    known = set(texts(vllm / "config" / "kernel.py"))

    assert set() == set(put_back.VLLM_MOE_BACKENDS.values()) - known


def test_each_type_of_the_cache_can_be_put_back(sglang):
    """`--kv-cache-dtype` has names of its own for torch's types."""
    known: set[str] = set()
    for file in sglang.glob("srt/arg_groups/fields/*.py"):
        known.update(texts(file))

    assert set() == set(put_back.SGLANG_CACHE_DTYPES.values()) - known
