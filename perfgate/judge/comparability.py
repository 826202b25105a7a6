"""Comparability of the sides of a ratio: their settings, and what decides beside the question.

What each engine was given and what it chose by itself. Of two engines backends are what
is compared; a cache, graphs, a context or a number format on one side alone are not. Of
two layouts of one model other kernels are named.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfgate.cases import Case, Load
from perfgate.engines.chosen import NOT_SEEN
from perfgate.engines.registry import ENGINES
from perfgate.judge import wording
from perfgate.judge.identity import chosen, layout_and_precision
from perfgate.results.schema import RunResults

# Setting -> what a difference means.
_MUST_BE_EQUAL = {
    "prefix_cache": "one side skips prompts that it has cached",
    "graphs": "one side launches kernels without graphs",
    "dtype": "one side moves and computes more bits",
    "max_model_len": "one side reserves memory for longer requests",
    "weights": "one side has made-up weights, whose routing is not real",
    "stated_routing": "the tokens of the sides are told to choose other experts",
    "ranks": "one side has more devices",
    "data_parallel_size": "one side has other copies of the attention",
    "data_parallel_attention": "the copies of one side share their experts",
    "quantization": "one side moves and computes fewer bits of the weights",
    "kv_cache_dtype": "one side moves fewer bits of the KV cache",
    "expert_parallel": "one side splits experts over ranks, the other each expert",
    "chunked_prefill_tokens": (
        "with more prompt tokens waiting than the smaller chunk, prefills take turns "
        "differently"
    ),
}
# What the engine chooses by itself and by the layout: kernels of one side may be tuned,
# and those of the other not.
_KERNELS = ("attention_backend", "moe_backend", "moe_config", "graphs")
_KV_CACHE = "kv_cache_tokens"
_UNKNOWN = "(unknown)"


def compares_engines(case: Case) -> bool:
    """Whether the case is one engine over another."""
    return len({load.server.engine for load in case.loads}) > 1


def settings_of(results: RunResults, load: Load) -> dict[str, str]:
    """What the server of a load was given and what it chose, by name.

    Where its launches chose differently: "A or B".
    """
    server = load.server
    settings = {
        "dtype": server.dtype,
        "max_model_len": str(server.max_model_len),
        "weights": server.load_format,
        "ranks": str(server.ranks),
        "expert_parallel": str(server.expert_parallel).lower(),
    }
    settings |= layout_and_precision(server)
    if server.stated_routing:
        settings["stated_routing"] = server.stated_routing
    choices = {}
    for name, choice in chosen(results, load).items():
        if choice != NOT_SEEN:
            choices[name] = choice
    for launch in results.launches:
        if launch.server == server.key and _KV_CACHE in launch.values:
            choices[_KV_CACHE] = f"{launch.values[_KV_CACHE]:.0f}"
            break
    return dict(sorted(choices.items())) | settings


def unequal(
    numerator: Mapping[str, str], denominator: Mapping[str, str]
) -> list[tuple[str, str, str, str]]:
    """Differences that decide more than the engines do.

    Returns:
        (setting, its value in the numerator, in the denominator, what that means).
    """
    rows = []
    for name, meaning in _MUST_BE_EQUAL.items():
        first = numerator.get(name, _UNKNOWN)
        second = denominator.get(name, _UNKNOWN)
        if first != second:
            rows.append((name, first, second, meaning))
    return rows


def engine_notes(
    results: RunResults, case: Case, everything: bool = True
) -> list[str]:
    """Sentences about a ratio of two engines: settings of both, and what is not equal.

    None for any other case.

    Args:
        everything: False leaves the settings out that are equal.
    """
    if case.denominator is None or not compares_engines(case):
        return []
    lines = []
    for load in case.loads:
        if not everything:
            break
        settings = settings_of(results, load).items()
        text = ", ".join(f"{name} {value}" for name, value in settings)
        line = wording.ENGINE_SETTINGS.format(
            server=load.server.key, settings=text
        )
        lines.append(line)
    sides = (settings_of(results, load) for load in case.loads)
    for name, numerator, denominator, meaning in unequal(*sides):
        line = wording.UNEQUAL.format(
            name=name,
            numerator=numerator,
            denominator=denominator,
            meaning=meaning,
        )
        lines.append(line)
    for load in case.loads:
        note = ENGINES[load.server.engine].cpu_note
        if note and load.server.device == "cpu":
            lines.append(wording.UNEQUAL_CPU.format(note=note))
    return lines


def kernel_notes(results: RunResults, case: Case) -> list[str]:
    """Sentences about a ratio of two layouts of one model: other kernels on either side.

    None for any other case.
    """
    if case.denominator is None or compares_engines(case):
        return []
    if len({load.server.model for load in case.loads}) > 1:
        return []
    numerator, denominator = (chosen(results, load) for load in case.loads)
    lines = []
    for name in _KERNELS:
        first = numerator.get(name, NOT_SEEN)
        second = denominator.get(name, NOT_SEEN)
        if first != second:
            lines.append(
                wording.OTHER_KERNELS.format(
                    name=name, numerator=first, denominator=second
                )
            )
    return lines
