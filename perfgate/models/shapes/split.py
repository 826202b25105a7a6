"""Split: how the ranks of a server divide a model; refusals of splits that no engine makes."""

from __future__ import annotations

import msgspec

from perfgate.errors import Failure


class CannotSplit(Failure):
    """The number of ranks does not divide the model's heads, widths or experts."""


class Split(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The ranks of a server.

    Attributes:
        tensor_parallel: ranks that divide attention and dense feed-forwards.
        data_parallel: groups of such ranks, each with all of the attention for its own
            requests. Experts are spread over the ranks of all groups.
        expert_parallel: whether a rank holds some experts whole, in place of a share of
            each.
        redundant_experts: copies of experts in each layer beyond the first, spread like
            the others (expert parallel load balancing).

    """

    tensor_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: bool = False
    redundant_experts: int = 0

    @property
    def ranks(self) -> int:
        """All ranks."""
        return self.tensor_parallel * self.data_parallel


def as_split(ranks: int | Split) -> Split:
    """A number of ranks is a tensor parallel size."""
    if isinstance(ranks, Split):
        return ranks
    return Split(tensor_parallel=ranks)
