"""How far is a comparison of two engines fair?

What each engine was told and what it chose by itself, side by side, and which of the
differences decide more than the engines do. Backends are what is compared; a cache,
graphs, a context or a number format on one side alone are not.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfgate.cases import Case, Load
from perfgate.engines.registry import ENGINES
from perfgate.results.schema import RunResults

# Setting -> what a difference means.
_MUST_BE_EQUAL = {
    "prefix_cache": "one side need not compute prompts that it has seen",
    "graphs": "one side launches its kernels one by one",
    "dtype": "one side moves and computes more bits",
    "max_model_len": "one side must be ready for longer requests",
    "weights": "one side has made-up weights, whose routing is not real",
    "ranks": "one side has more devices",
    "expert_parallel": "one side splits experts over ranks, the other each expert",
    "chunked_prefill_tokens": (
        "with more prompt tokens waiting than the smaller chunk, prefills take turns "
        "differently"
    ),
}


def compares_engines(case: Case) -> bool:
    """Whether the case is one engine over another."""
    return len({load.server.engine for load in case.loads}) > 1


def settings_of(results: RunResults, load: Load) -> dict[str, str]:
    """What the server of a load was told and what it chose, by name."""
    server = load.server
    told = {
        "dtype": server.dtype,
        "max_model_len": str(server.max_model_len),
        "weights": server.load_format,
        "ranks": str(server.tensor_parallel_size),
        "expert_parallel": str(server.expert_parallel).lower(),
    }
    launch = next((row for row in results.launches if row.server == server.key), None)
    if launch is None:
        return told
    room = {
        name: f"{launch.values[name]:.0f}"
        for name in ("kv_cache_tokens",)
        if name in launch.values
    }
    return dict(sorted((launch.effective | launch.settings | room).items())) | told


def unfair(of: Mapping[str, str], over: Mapping[str, str]) -> list[str]:
    """Differences that decide more than the engines do, each with what it means."""
    return [
        f"{name} is {of.get(name, '(not told)')} against {over.get(name, '(not told)')}: {meaning}"
        for name, meaning in _MUST_BE_EQUAL.items()
        if of.get(name) != over.get(name)
    ]


def beside(results: RunResults, case: Case) -> list[str]:
    """Lines to stand beside a ratio of two engines; none beside any other case."""
    if case.over is None or not compares_engines(case):
        return []
    of, over = settings_of(results, case.of), settings_of(results, case.over)
    lines = [
        f"{load.server.key}: {', '.join(f'{name} {value}' for name, value in settings.items())}"
        for load, settings in ((case.of, of), (case.over, over))
    ]
    notes = [
        ENGINES[load.server.engine].cpu_note
        for load in case.loads
        if load.server.device == "cpu"
    ]
    return [
        *lines,
        *(f"unfair: {text}" for text in [*unfair(of, over), *filter(None, notes)]),
    ]
