"""Feed-forward: tensors of dense blocks, routed experts, shared experts and routers."""

from __future__ import annotations

from typing import NamedTuple

from perfgate.models.shapes.tensors import Group, Tensor, matrix, vector


def dense(
    hidden: int,
    width: int,
    *,
    name: str = "mlp",
    group: Group = "dense",
    gated: bool = True,
    bias: bool = False,
) -> tuple[Tensor, ...]:
    """A feed-forward: gate, up and down matrices, or up and down alone.

    Args:
        hidden: width of the model.
        width: of the block; 0 for none.
        name: of the module in its layer.
        group: "dense", or "shared" for a shared expert.
        gated: whether there is a gate.
        bias: whether the projections have one.

    """
    if width == 0:
        return ()
    widening = ["up_proj"]
    if gated:
        widening.insert(0, "gate_proj")
    tensors = []
    for projection in widening:
        tensor = matrix(
            f"{name}.{projection}", group, width, hidden, split="outputs"
        )
        tensors.append(tensor)
        if bias:
            tensors.append(
                Tensor(f"{name}.{projection}", group, (width,), split="outputs")
            )
    tensors.append(
        matrix(f"{name}.down_proj", group, hidden, width, split="inputs")
    )
    if bias:
        # Added after the ranks' sum, so that each rank holds it whole.
        tensors.append(vector(f"{name}.down_proj", group, hidden))
    return tuple(tensors)


class Routed(NamedTuple):
    """Routed experts of a layer.

    Attributes:
        hidden: width of what enters an expert.
        width: of an expert.
        number: of experts.
        router_inputs: width of what the router sees; 0 for `hidden`.
        gated: whether an expert has a gate: three matrices, else two.
        bias: whether experts have biases.
        router_bias: whether the router's outputs have one.
        zero_experts: experts without weights that the router may choose.
        score_bias: whether a bias for balance is a parameter of its own.

    """

    hidden: int
    width: int
    number: int
    name: str = "mlp"
    router: str = "gate"
    router_inputs: int = 0
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    zero_experts: int = 0
    score_bias: bool = False


def routed(shape: Routed) -> tuple[Tensor, ...]:
    """Experts and their router."""
    name = f"{shape.name}.experts"
    tensors = []
    for tensor in dense(
        shape.hidden,
        shape.width,
        name=name,
        group="experts",
        gated=shape.gated,
        bias=shape.bias,
    ):
        copies = Tensor(
            tensor.name,
            tensor.group,
            tensor.shape,
            count=shape.number,
            split=tensor.split,
        )
        tensors.append(copies)
    outputs = shape.number + shape.zero_experts
    router = f"{shape.name}.{shape.router}"
    tensors.append(
        matrix(router, "router", outputs, shape.router_inputs or shape.hidden)
    )
    if shape.router_bias:
        tensors.append(vector(router, "router", outputs))
    if shape.score_bias:
        tensors.append(vector(f"{router}.score_bias", "router", outputs))
    return tuple(tensors)
