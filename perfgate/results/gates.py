"""Gates: how strictly a run is judged: advisory, required or strict."""

from __future__ import annotations

from typing import Literal, get_args

Gate = Literal["advisory", "required", "strict"]
GATES: tuple[Gate, ...] = get_args(Gate)
