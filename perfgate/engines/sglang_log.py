"""Log of an SGLang server: memory, and what the engine chose (attention, MoE, graphs, ...).

Forms of 0.5.16 and 0.5.23. tests/unit/real/test_engine_formats.py takes the format
strings out of an installed SGLang, so that a new form is noticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from perfgate.engines import chosen
from perfgate.engines.base import LaunchFacts, ServerConfig


def _argument(name: str) -> str:
    """Pattern of an argument in the line that lists them all; None does not match."""
    return rf"server_args=.*\b{name}'?[:=] ?'?(?!None\b)([\w.-]+)"


# The first line with a fact counts. Sizes are SGLang's GB of 2**30 bytes.
_FACTS = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("kv_cache_tokens", r"KV Cache is allocated\..*#tokens: (\d+)"),
        ("k_gb", r"KV Cache is allocated\..*K size: ([\d.]+) GB"),
        ("v_gb", r"KV Cache is allocated\..*V size: ([\d.]+) GB"),
        # Latent attention keeps one vector for both.
        ("kv_gb", r"KV Cache is allocated\..*KV size: ([\d.]+) GB"),
        # Two caches, of layers with a window and of those without; the longest context
        # that is kept follows from the latter.
        ("both_gb", r"SWAKVPool mem usage: ([\d.]+) GB"),
        ("full_tokens", r"SWAKVPool mem usage: .*full size: ([1-9]\d*)"),
        ("model_loading_gb", r"Load weight end\..*mem usage=(-?[\d.]+) GB"),
        # Chosen by itself, or by an argument.
        (
            "attention_backend",
            r"Attention backend not specified\. Use (\w+)"
            rf"|{_argument('attention_backend')}",
        ),
        ("moe_backend", _argument("moe_runner_backend")),
        (
            "moe_config",
            r"[Uu]s(?:e|ing) MoE kernel config from (?:\S*/sglang/srt/\S*/)?(\S+?)\.?"
            r"(?: Performance|$)"
            r"|[Uu]sing (default) MoE kernel config",
        ),
        ("sampling_backend", _argument("sampling_backend")),
        ("quantization", _argument("quantization")),
        ("kv_cache_dtype", r"KV Cache is allocated\. dtype: torch\.(\w+)"),
        ("kv_block_size", _argument("page_size")),
        ("max_num_seqs", r"max_total_num_tokens=.*max_running_requests=(\d+)"),
        (
            "no_custom_all_reduce",
            r"(Setup Custom allreduce failed)"
            r"|server_args=.*\bdisable_custom_all_reduce'?[:=] ?(True)",
        ),
        ("no_overlap", _argument("disable_overlap_schedule")),
        ("server_args", "(server_args=)"),
        (
            "chunked_prefill_tokens",
            r"max_total_num_tokens=.*chunked_prefill_size=(-?\d+|None)",
        ),
        (
            "radix_cache_off",
            r"server_args=.*\bdisable_radix_cache'?[:=] ?(True)",
        ),
    )
)
_CAPTURED = re.compile(
    r"Capture (.+?) \w+ graph end\..*mem usage=(-?[\d.]+) GB"
)
_CAPTURED_SHORT = re.compile(
    r"Capture (?:cuda )?graph end\..*mem usage=(-?[\d.]+) GB"
)
_CAPTURE_SIZES = re.compile(r"Capture .*(?:bs|num_tokens)=\[([\d, ]+)\]")
_CHOICES = (
    "attention_backend",
    "moe_backend",
    "moe_config",
    "sampling_backend",
    "quantization",
    "kv_cache_dtype",
    "kv_block_size",
    "max_num_seqs",
)


def read_log(config: ServerConfig, lines: Iterator[str]) -> LaunchFacts:
    """Memory and choices from the log of a ready server."""
    facts: dict[str, str] = {}
    graphs: dict[str, float] = {}
    sizes: set[int] = set()
    for line in lines:
        _read_facts(line, facts)
        _read_graphs(line, graphs, sizes)
    choices = {name: facts[name] for name in _CHOICES if name in facts}
    choices["graphs"] = "on" if graphs else "off"
    if graphs:
        choices["graphs_captured"] = ", ".join(sorted(graphs))
    if sizes:
        choices["capture_sizes"] = chosen.sizes(sizes)
    if "server_args" in facts:
        choices.setdefault("quantization", "None")
        is_off = "no_custom_all_reduce" in facts
        choices["custom_all_reduce"] = "off" if is_off else "on"
    if "no_overlap" in facts:
        is_off = facts["no_overlap"] == "True"
        choices["async_scheduling"] = "off" if is_off else "on"
    settings = {
        "chunked_prefill_tokens": facts.get("chunked_prefill_tokens", "off"),
        "prefix_cache": "off" if "radix_cache_off" in facts else "on",
    }
    values = _sizes(config, facts)
    if graphs:
        values["graphs_bytes"] = sum(graphs.values()) * 2**30
    return LaunchFacts(
        values=values, effective=chosen.complete(choices), settings=settings
    )


def _read_facts(line: str, facts: dict[str, str]) -> None:
    """The text of each of `_FACTS` that is logged."""
    for name, pattern in _FACTS:
        match = pattern.search(line)
        if match and name not in facts:
            facts[name] = next(group for group in match.groups() if group)


def _read_graphs(line: str, graphs: dict[str, float], sizes: set[int]) -> None:
    """GB of each captured kind, "target decode"; the ranks capture alike."""
    match = _CAPTURED.search(line)
    if match:
        graphs.setdefault(match[1], float(match[2]))
    elif short := _CAPTURED_SHORT.search(line):
        graphs.setdefault("decode", float(short[1]))
    listed = _CAPTURE_SIZES.search(line)
    if listed:
        sizes.update(int(number) for number in re.findall(r"\d+", listed[1]))


def _cache_parts(facts: Mapping[str, str]) -> tuple[str, ...]:
    """The facts that add up to the KV cache."""
    for name in ("both_gb", "kv_gb"):
        if name in facts:
            return (name,)
    return "k_gb", "v_gb"


def _sizes(config: ServerConfig, facts: Mapping[str, str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for name in ("full_tokens", "kv_cache_tokens"):
        if name in facts:
            values.setdefault("kv_cache_tokens", float(facts[name]))
    parts: list[tuple[str, tuple[str, ...]]]
    parts = [("kv_cache_bytes", _cache_parts(facts))]
    if config.device == "cuda":
        # On the CPU it is the loss of the whole machine, other processes included.
        parts.append(("model_loading_bytes", ("model_loading_gb",)))
    for name, names in parts:
        if all(part in facts for part in names):
            values[name] = sum(float(facts[part]) for part in names) * 2**30
    return values
