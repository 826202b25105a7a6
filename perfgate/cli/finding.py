"""Finding: one thing that the doctor examined, with the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "python",
    "machine",
    "gpu",
    "container",
    "server",
    "memory",
    "disk",
    "engine",
    "model",
    "baselines",
    "platform",
]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Finding:
    """One thing that was examined.

    Attributes:
        subject: what was examined, as shown: "engine vllm-cpu".
        device: of an engine or a platform.
        remedy: what to do; None if all is well.
        blocks: whether runs that need it are impossible. What is only untested, or has
            a remedy that can wait, does not block.

    """

    kind: Kind
    subject: str
    seen: str
    remedy: str | None = None
    blocks: bool = False
    device: Device | None = None
