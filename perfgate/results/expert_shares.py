"""Expert shares: how popular each expert was, from a recorded run or a file of numbers."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from perfgate.errors import NOT_JSON
from perfgate.models.architecture import Architecture
from perfgate.models.routing import Routing, RoutingUnreadable
from perfgate.results import schema

LayerShares = tuple[tuple[float, ...], ...]
_REMEDY = (
    "name the run of a server whose routing was measured (`routing`), or a JSON file "
    "with a list of numbers for each sparse layer"
)


def recorded_shares(path: Path, architecture: Architecture) -> LayerShares:
    """The experts' shares of all choices, for each sparse layer.

    Args:
        path: a run directory or its results.json, whose launches of any model with as
            many layers and experts count together; or a JSON file with a list of
            counts or shares for each layer, or with one such list for all layers.
        architecture: the model's shape.

    Raises:
        RoutingUnreadable: there is no routing, or it is of another shape.
        RunDataError: the run cannot be read.

    """
    if not architecture.is_moe:
        raise _unreadable(path, "the model has no experts")
    is_run = path.is_dir() or path.name.startswith(schema.RESULTS_FILE)
    if not is_run:
        return _from_file(path, architecture)
    counts: list[list[float]] = []
    for measurement in schema.load(path).measurements:
        routing = measurement.routing
        if routing is not None and _fits(routing, architecture):
            counts = _added(counts, routing)
    if not counts:
        shape = (
            f"{architecture.num_sparse_layers} layers with "
            f"{architecture.num_local_experts} experts"
        )
        raise _unreadable(path, f"no routing of {shape} was recorded")
    return _normalised(path, counts)


def _fits(routing: Routing, architecture: Architecture) -> bool:
    """Whether it has the model's layers and experts."""
    for request in routing.requests:
        if len(request.counts) != architecture.num_sparse_layers:
            return False
        if len(request.counts[0]) != architecture.num_local_experts:
            return False
    return bool(routing.requests)


def _added(counts: list[list[float]], routing: Routing) -> list[list[float]]:
    """The counts by layer and expert, with those of all requests."""
    for request in routing.requests:
        if not counts:
            counts = [[0.0] * len(layer) for layer in request.counts]
        for total, layer in zip(counts, request.counts, strict=True):
            for expert, count in enumerate(layer):
                total[expert] += count
    return counts


def _from_file(path: Path, architecture: Architecture) -> LayerShares:
    """The shares in a JSON file, which may have one list for all layers."""
    try:
        content = msgspec.json.decode(path.read_bytes())
        rows = msgspec.convert(content, list[list[float]])
    except (OSError, *NOT_JSON) as error:
        raise _unreadable(path, str(error)) from error
    shape = {len(row) for row in rows}
    if shape != {architecture.num_local_experts}:
        raise _unreadable(
            path,
            f"lists of {sorted(shape)} numbers, for "
            f"{architecture.num_local_experts} experts",
        )
    if len(rows) not in (1, architecture.num_sparse_layers):
        raise _unreadable(
            path,
            f"{len(rows)} lists, for {architecture.num_sparse_layers} sparse layers",
        )
    return _normalised(path, rows)


def _normalised(path: Path, counts: list[list[float]]) -> LayerShares:
    """Each layer's counts as shares of its choices."""
    layers = []
    for number, layer in enumerate(counts):
        total = sum(layer)
        if total <= 0 or min(layer) < 0:
            raise _unreadable(path, f"layer {number} has no choices")
        if math.isinf(total):
            raise _unreadable(path, f"layer {number} has too large numbers")
        layers.append(tuple(count / total for count in layer))
    return tuple(layers)


def _unreadable(path: Path, seen: str) -> RoutingUnreadable:
    return RoutingUnreadable(
        tried=f"reading the experts' shares in {path}",
        seen=seen,
        remedy=_REMEDY,
    )
