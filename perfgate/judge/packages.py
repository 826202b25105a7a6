"""Packages: the distributions of an engine's environment as fields of a context.

Those that can change a speed are fields of their own; all others are one field with
their number and a hash, which says that something else differs. Baselines of before
have none of these fields: what they were recorded with is unknown, and no difference.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

SIDES = ("numerator.", "denominator.")  # prefixes of a ratio's fields
PREFIX = "package "
OTHERS = f"{PREFIX}(all others)"
DIGITS = 8  # of the hash of the others
# Compilers, kernels, communication, and what stands between the socket and the GPU.
_RELEVANT = re.compile(
    r"torch|triton|nvidia-|cuda-|cupy|flash|sgl|vllm|deep[-_]?(gemm|ep)|cutlass|kernels?"
    r"|xformers|apache-tvm|quack|tilelang|aiter|amd|rocm|nixl|mooncake|transformers"
    r"|tokenizers|compressed-tensors|xgrammar|uvloop|uvicorn|fastapi|pyzmq|msgspec|numpy"
    r"|intel-openmp|mkl"
)


def fields(
    packages: Mapping[str, str], known: Iterable[str] = ()
) -> dict[str, str]:
    """The fields of one environment; none where it was not read.

    Args:
        packages: distribution -> version.
        known: distributions that are fields of the context already.
    """
    if not packages:
        return {}
    known = set(known)
    relevant = {}
    others = []
    for name, version in sorted(packages.items()):
        if name in known:
            continue
        if _RELEVANT.match(name):
            relevant[f"{PREFIX}{name}"] = version
        else:
            others.append(f"{name} {version}")
    digest = hashlib.sha256("\n".join(others).encode()).hexdigest()
    relevant[OTHERS] = f"{len(others)}, {digest[:DIGITS]}"
    return relevant


def is_package(field: str) -> bool:
    """Whether a field of a context is of a package, of a ratio's side as well."""
    return any(field.startswith(f"{side}{PREFIX}") for side in ("", *SIDES))


def comparable(
    current: Mapping[str, str], reference: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Both contexts without the packages of a side that one of them does not know."""
    new, old = dict(current), dict(reference)
    for side in ("", *SIDES):
        start = f"{side}{PREFIX}"
        if _knows(current, start) and _knows(reference, start):
            continue
        for context in (new, old):
            for name in [name for name in context if name.startswith(start)]:
                del context[name]
    return new, old


def are_unknown(
    current: Mapping[str, str], reference: Mapping[str, str]
) -> bool:
    """Whether the run knows its packages, and the baseline does not."""
    return any(map(is_package, current)) and not any(map(is_package, reference))


def _knows(context: Mapping[str, str], start: str) -> bool:
    return any(name.startswith(start) for name in context)
