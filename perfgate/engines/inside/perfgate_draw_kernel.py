"""Draws on a GPU: one small kernel for a layer, which captured graphs repeat.

Loaded inside an engine, for servers with a stated routing alone. One program serves all
tokens, so that it can move the position on when all of them have theirs.
"""

from typing import Any

import triton
import triton.language as tl
from perfgate_stated_routing import ROWS as TABLE_ROWS

ROWS = tl.constexpr(TABLE_ROWS)
BLOCK = tl.constexpr(1024)


# Triton is not installed where mypy runs. Without specialisation of `tokens` a step of
# another size compiles nothing.
@triton.jit(do_not_specialize=["tokens"])  # type: ignore[untyped-decorator]
def _draw(  # type: ignore[no-untyped-def]
    table, position, ids, weights, tokens, CHOICES: tl.constexpr
):
    first = tl.load(position)
    for start in range(0, tokens * CHOICES, BLOCK):
        place = start + tl.arange(0, BLOCK)
        is_inside = place < tokens * CHOICES
        row = (first + place // CHOICES) % ROWS
        expert = tl.load(
            table + row * CHOICES + place % CHOICES, mask=is_inside, other=0
        )
        tl.store(ids + place, expert, mask=is_inside)
        tl.store(weights + place, 1.0 / CHOICES, mask=is_inside)
    # Every thread has read the position before one of them moves it.
    tl.debug_barrier()
    tl.store(position, first + tokens)


def on_device(rows: Any, device: Any) -> Any:
    """The table, and a position at its first row, as tensors on the device."""
    import torch

    position = torch.zeros(1, dtype=torch.int64, device=device)
    return torch.from_numpy(rows).to(device), position


def launch(table: Any, position: Any, ids: Any, weights: Any) -> None:
    """Write the next rows into contiguous tensors, and move the position behind them."""
    _draw[(1,)](
        table, position, ids, weights, ids.shape[0], CHOICES=table.shape[1]
    )
