"""Log of a vLLM server: memory, and what the engine chose (attention, MoE, graphs, ...).

Forms of 0.26 and 0.32. tests/unit/real/test_engine_formats.py takes the format strings
out of an installed vLLM, so that a new form is noticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from perfgate.engines import chosen
from perfgate.engines.base import LaunchFacts, ServerConfig

_VALUES = (
    ("kv_cache_tokens", re.compile(r"KV cache size: ([\d,]+) tokens"), 1),
    (
        "kv_cache_bytes",
        re.compile(r"Available KV cache memory: ([\d.]+) GiB"),
        2**30,
    ),
    (
        "graphs_bytes",
        re.compile(r"Graph capturing finished in .*took (-?[\d.]+) GiB"),
        2**30,
    ),
    (
        "model_loading_bytes",
        re.compile(r"Model loading took ([\d.]+) GiB"),
        2**30,
    ),
)
# Between the name of a backend and "MoE backend".
_SCHEMES = (
    "(?:Unquantized|Fp8|NvFp4|Mxfp4|MxFp8|WNA16|W4A8 Int8|W4A8|Int8|Humming)"
)
# Of each choice the first line counts, and of several patterns the first one.
_CHOICES = (
    (
        "attention_backend",
        re.compile(
            r"Using (\S+) attention backend"
            r"|Using (\S+) backend(?:\.?$| \(selected via --attention-backend\)"
            r"| out of potential backends)"
        ),
    ),
    (
        "moe_backend",
        re.compile(
            rf"Using '?([^']+?)'? {_SCHEMES} MoE (?:LoRA )?backend"
            r"|Using '?([^']+?)'? M[oO]E backend"
        ),
    ),
    # A file of the package is named without its folder, which differs from machine to
    # machine.
    (
        "moe_config",
        re.compile(
            r"Using configuration from (?:\S*/vllm/model_executor/\S*/)?(\S+) for MoE "
            r"layer"
            r"|Using (default) MoE config"
        ),
    ),
    (
        "all_reduce",
        re.compile(r"Using \[([^\]]+)\] all-reduce backends .* for group 'tp"),
    ),
    (
        "sampling_backend",
        re.compile(r"Using (FlashInfer) for top-p & top-k sampling"),
    ),
    ("quantization", re.compile(r" config: .*\bquantization=(\w+)")),
    ("kv_cache_dtype", re.compile(r" config: .*\bkv_cache_dtype=([\w.]+)")),
)
# What follows from the module that logs, or from what it says.
_MODEL_RUNNERS = (
    ("V1", re.compile(r"\[(?:cpu_|gpu_)model_runner\.py:\d+\]")),
    ("V2", re.compile(r"\[model_runner\.py:\d+\]|Using V2 Model Runner")),
    ("V1", re.compile(r"using the V1 model runner")),
)
# Name, pattern, and what it says of a choice that is on.
_SWITCHES = (
    (
        "custom_all_reduce",
        re.compile(r" config: .*\bdisable_custom_all_reduce=(\w+)"),
        "False",
    ),
    (
        "async_scheduling",
        re.compile(r"Asynchronous scheduling is (enabled|disabled)"),
        "enabled",
    ),
)
_CAPTURE_SIZES = re.compile(
    r" config: .*'cudagraph_capture_sizes': \[([\d, ]*)\]"
)
# A progress bar: "Capturing CUDA graphs (decode, FULL):   0%|          | 0/35".
_CAPTURING = re.compile(
    r"Capturing CUDA graphs \((?:[\w -]+, )?(\w+)\):\s+\d+%\|[^|]*\| \d+/(\d+)"
)
_CHUNK = re.compile(
    r"Chunked prefill is enabled with max_num_batched_tokens=(\d+)"
)
# A launch that captures no graphs has no such line: seen with --enforce-eager on an H200.
_CAPTURED = re.compile(r"Graph capturing finished")
_NO_CACHE = re.compile(r"non-default args: .*'enable_prefix_caching': False")
_COMPILE_CACHE = (
    (
        "hit",
        re.compile(
            r"Directly load (?:AOT compilation|the compiled graph|the \d+-th graph)"
        ),
    ),
    ("off", re.compile(r"torch\.compile cache is disabled|disabling torch")),
    (
        "cold",
        re.compile(
            r"Cache the graph of|Compiling a graph|saved AOT compiled function"
        ),
    ),
)


def read_log(_config: ServerConfig, lines: Iterator[str]) -> LaunchFacts:
    """Memory and choices from the log of a ready server.

    The first line with a fact counts; for the size of a prefill chunk the last one.
    """
    values: dict[str, float] = {}
    choices = {"graphs": "off"}
    settings = {"chunked_prefill_tokens": "off", "prefix_cache": "on"}
    facts = {"compile_cache": chosen.NOT_SEEN}
    captured: dict[str, str] = {}
    for line in lines:
        _read_values(line, values)
        _read_choices(line, choices)
        _read_switches(line, choices)
        _read_graphs(line, choices, captured)
        _read_settings(line, settings)
        for state, pattern in _COMPILE_CACHE:
            if facts["compile_cache"] == chosen.NOT_SEEN and pattern.search(
                line
            ):
                facts["compile_cache"] = state
    if captured:
        choices["graphs_captured"] = ", ".join(
            f"{mode} {count}" for mode, count in sorted(captured.items())
        )
    return LaunchFacts(
        values=values,
        effective=chosen.complete(choices),
        settings=settings,
        facts=facts,
    )


def _read_values(line: str, values: dict[str, float]) -> None:
    for name, pattern, scale in _VALUES:
        match = pattern.search(line)
        if match and name not in values:
            number = match[1].replace(",", "")
            values[name] = float(number) * scale


def _read_choices(line: str, choices: dict[str, str]) -> None:
    for name, pattern in _CHOICES:
        if name in choices:
            continue
        match = pattern.search(line)
        if match:
            value = next(group for group in match.groups() if group)
            choices[name] = value.replace("'", "").strip('."')
    for runner, pattern in _MODEL_RUNNERS:
        if pattern.search(line):
            choices.setdefault("model_runner", runner)


def _read_switches(line: str, choices: dict[str, str]) -> None:
    for name, pattern, on in _SWITCHES:
        match = pattern.search(line)
        if match:
            state = "off"
            if match[1] == on:
                state = "on"
            choices.setdefault(name, state)


def _read_graphs(
    line: str, choices: dict[str, str], captured: dict[str, str]
) -> None:
    if _CAPTURED.search(line):
        choices["graphs"] = "on"
    capturing = _CAPTURING.search(line)
    if capturing:
        captured[capturing[1]] = capturing[2]
    listed = _CAPTURE_SIZES.search(line)
    if listed and "capture_sizes" not in choices:
        numbers = [int(number) for number in re.findall(r"\d+", listed[1])]
        choices["capture_sizes"] = chosen.sizes(numbers)


def _read_settings(line: str, settings: dict[str, str]) -> None:
    chunk = _CHUNK.search(line)
    if chunk:
        settings["chunked_prefill_tokens"] = chunk[1]
    if _NO_CACHE.search(line):
        settings["prefix_cache"] = "off"
