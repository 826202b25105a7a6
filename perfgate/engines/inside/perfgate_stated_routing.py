"""Stated routing inside an engine: experts of tokens by stated chances, not by a router.

Loaded by an engine in its own environment, never by the suite. Every token of every
layer takes the next row of one table of draws, the same on all ranks, in both engines
and in every launch. A row has as many different experts as a token chooses, and each
expert is in as many rows as its chance says. The weights of a token's experts are
equal.
"""

import os
from typing import Any

import numpy as np

# Set by the suite: a chance for each expert of a layer; they add up to the experts that
# a token chooses. perfgate/engines/variables.py has the same name.
VARIABLE = "PERFGATE_STATED_ROUTING"
# A prime, so that no number of tokens and layers returns to the same rows soon.
ROWS = 32749
SEED = 0
# Chances are counted in these parts: sums of integers are exact.
PARTS = 2**30
OPERATOR = "perfgate::draw_experts"


def is_stated() -> bool:
    """Whether the suite states the routing of this server."""
    return bool(os.environ.get(VARIABLE))


def read_chances(text: str) -> list[float]:
    """The chances in the suite's variable."""
    return [float(part) for part in text.split(",")]


def table(expert_chances: list[float]) -> Any:
    """Rows of different experts, shape (ROWS, choices), int32; the first is any of them.

    Systematic sampling: in each row the experts are put in a random order, end to end,
    each as long as its chance. A point in every whole unit picks those it falls on. An
    expert is picked with just its chance, and never twice.
    """
    # The sequence of this generator is frozen, whatever the version of numpy.
    generator = np.random.RandomState(SEED)
    lengths = _lengths(expert_chances)
    choices = int(lengths.sum()) // PARTS
    order = generator.random_sample((ROWS, len(lengths))).argsort(axis=1)
    point = (generator.random_sample((ROWS, 1)) * PARTS).astype(np.int64)
    ends = lengths[order].cumsum(axis=1) + point
    starts = ends - lengths[order]
    is_picked = ends // PARTS > starts // PARTS
    return order[is_picked].reshape(ROWS, choices).astype(np.int32)


def _lengths(expert_chances: list[float]) -> Any:
    """Chances in parts; what rounding left over goes to the experts in the middle."""
    chances = np.array(expert_chances)
    lengths = np.rint(chances * PARTS).astype(np.int64)
    rest = round(chances.sum()) * PARTS - int(lengths.sum())
    between = int(np.abs(chances - 0.5).argmin())
    lengths[between] += rest
    return lengths


class Drawer:
    """Gives the next rows of the table to the tokens of each layer.

    Attributes:
        experts: of a layer.
        choices: experts that a token chooses.
    """

    def __init__(self, expert_chances: list[float]) -> None:
        self.experts = len(expert_chances)
        self._rows = table(expert_chances)
        self.choices = self._rows.shape[1]
        self._drawn = 0
        # On a GPU: table and position, which a captured graph moves on by itself.
        self._on_gpu: Any = None

    @property
    def drawn(self) -> int:
        """Rows drawn since the start: tokens times layers."""
        if self._on_gpu is None:
            return self._drawn
        return int(self._on_gpu[1].item())

    def fill(self, ids: Any, weights: Any) -> None:
        """Write the experts of each token, and their weights, into two tensors.

        Both have a row for each token and a column for each choice.
        """
        tokens = ids.shape[0]
        if ids.is_cuda:
            from perfgate_draw_kernel import launch, on_device

            if self._on_gpu is None:
                self._on_gpu = on_device(self._rows, ids.device)
            launch(*self._on_gpu, ids, weights)
            return
        rows = (self._drawn + np.arange(tokens)) % ROWS
        ids.numpy()[:] = self._rows[rows]
        weights.numpy()[:] = 1 / self.choices
        self._drawn += tokens

    def draw(
        self, tokens: int, experts: int, ids_dtype: Any, device: Any
    ) -> Any:
        """Weights and experts of the tokens of a layer, both new tensors.

        Args:
            experts: that the layer's router has.
        """
        import torch  # in the engine's environment alone

        if experts != self.experts:
            raise ValueError(
                f"a router has {experts} experts, and chances are stated for "
                f"{self.experts}"
            )
        shape = (tokens, self.choices)
        ids = torch.empty(shape, dtype=ids_dtype, device=device)
        weights = torch.empty(shape, dtype=torch.float32, device=device)
        torch.ops.perfgate.draw_experts(ids, weights)
        return weights, ids


_drawers: list[Drawer] = []


def drawer() -> Drawer:
    """The one of this process, made at the first call."""
    if not _drawers:
        import torch

        made = Drawer(read_chances(os.environ[VARIABLE]))
        # An operator of its own: compilers of whole models do not look into it.
        torch.library.custom_op(
            OPERATOR,
            made.fill,
            mutates_args=("ids", "weights"),
            schema="(Tensor(a!) ids, Tensor(b!) weights) -> ()",
        )
        _drawers.append(made)
    return _drawers[0]


class Strategy:
    """A strategy of vLLM's routing simulator, which routes in place of each router."""

    def route_tokens(
        self,
        hidden_states: Any,
        router_logits: Any,
        top_k: int,
        indices_type: Any = None,
    ) -> Any:
        """Weights and experts of these tokens."""
        import torch

        return drawer().draw(
            hidden_states.shape[0],
            router_logits.shape[-1],
            indices_type or torch.int32,
            hidden_states.device,
        )


def register_with_vllm(name: str = "perfgate") -> None:
    """Add the strategy; VLLM_MOE_ROUTING_SIMULATION_STRATEGY selects it by this name."""
    from vllm.model_executor.layers.fused_moe.router.routing_simulator_router import (
        RoutingSimulator,
    )

    drawer()
    RoutingSimulator.register_strategy(name, Strategy())


def state_experts(*args: Any, **arguments: Any) -> Any:
    """Replace what an SGLang router chose, before the engine notes and uses it.

    Columns beyond a token's choices belong to shared experts, and stay.
    """
    import torch

    chosen, by_router = arguments["topk_ids"], arguments["topk_weights"]
    own = drawer()
    weights, ids = own.draw(
        chosen.shape[0],
        arguments["router_logits"].shape[1],
        chosen.dtype,
        chosen.device,
    )
    weights = weights.to(by_router.dtype)
    if chosen.shape[1] > own.choices:
        ids = torch.cat([ids, chosen[:, own.choices :]], dim=1)
        weights = torch.cat([weights, by_router[:, own.choices :]], dim=1)
    arguments.update(topk_ids=ids, topk_weights=weights)
    return args, arguments
