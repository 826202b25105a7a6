"""Devices of the kernel: which vendor's GPUs are here, whether or not its library answers."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path("/")
_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"  # of PCI: graphics cards and accelerators


def has_nvidia(root: Path = ROOT) -> bool:
    """Whether NVIDIA's kernel module, or a device of it, is here."""
    if (root / "proc" / "driver" / "nvidia" / "version").exists():
        return True
    names = (path.name for path in (root / "dev").glob("nvidia*"))
    return any(re.fullmatch(r"nvidia(\d+|ctl)", name) for name in names)


def has_nvidia_card(root: Path = ROOT) -> bool:
    """Whether a graphics card of NVIDIA is on the bus."""
    for vendor in (root / "sys" / "bus" / "pci" / "devices").glob("*/vendor"):
        try:
            is_nvidia = vendor.read_text().strip() == _NVIDIA
            pci_class = (vendor.parent / "class").read_text()
        except OSError:
            continue
        if is_nvidia and pci_class.startswith(_DISPLAY_CLASS):
            return True
    return False


def has_amd(root: Path = ROOT) -> bool:
    """Whether the GPUs are AMD's: its compute driver is here, and none of NVIDIA."""
    return (root / "dev" / "kfd").exists() and not has_nvidia(root)
