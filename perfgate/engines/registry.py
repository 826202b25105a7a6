"""Engine registry: the engines that the suite can launch, by name.

One module an engine (`vllm`, `sglang`), the values that they share (`base`), and the
environments that they run in (`environment`, with the lock files in ``locks/``).
``inside/`` is loaded by the engines, never by the suite.
"""

from __future__ import annotations

from dataclasses import replace

from perfgate import formatting
from perfgate.engines import (
    sglang,
    sglang_profiler,
    sglang_routing,
    vllm,
    vllm_profiler,
    vllm_routing,
)
from perfgate.engines.base import Engine
from perfgate.errors import Failure

_SGLANG = replace(
    sglang.ENGINE,
    routed_experts=sglang_routing.routed_experts,
    profiler=sglang_profiler.PROFILER,
)
_VLLM = replace(
    vllm.ENGINE,
    routed_experts=vllm_routing.routed_experts,
    profiler=vllm_profiler.PROFILER,
)
ENGINES: dict[str, Engine] = {
    engine.name: engine for engine in (_SGLANG, _VLLM)
}


class UnknownEngine(Failure):
    """An engine that the suite cannot launch."""


def lookup(name: str) -> Engine:
    """The engine of that name.

    Raises:
        UnknownEngine: there is none.
    """
    if name not in ENGINES:
        suggestion = formatting.suggestion(name, ENGINES)
        raise UnknownEngine(
            tried=f"looking up the engine {name!r}",
            seen="no engine has this name",
            remedy=(
                f"{suggestion}use one of {', '.join(ENGINES)}; docs/how-to.md says how "
                "to add one"
            ),
        )
    return ENGINES[name]


def register(engine: Engine) -> None:
    """Register an engine; it replaces one of the same name."""
    ENGINES[engine.name] = engine
