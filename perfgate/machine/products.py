"""GPU products: the slug of a product's name, which names its baselines ("h100x2").

A product that differs in memory or bandwidth has a slug of its own: "h100" is the SXM
module with 80 GB, "h100-nvl" and "h100-pcie" are not compared with it. What every module
of a product has in common (its usual memory, its socket) is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_WORD = re.compile(r"[a-z0-9]+")
# Words of product names that many products share.
_VENDOR_WORDS = {
    "nvidia",
    "tesla",
    "graphics",
    "device",
    "generation",
    "edition",
    "amd",
    "instinct",
}
# A word that names a product by itself, such as h200, l40s, gb200, a10g or mi300x.
_PRODUCT_WORD = re.compile(r"[a-z]{1,3}\d{1,4}[a-z]?")
# The socket of a server's module; cards for a slot (PCIe, NVL) have a slug of their own.
_SOCKET = re.compile(r"sxm\d?|oam")
# The words of a product's usual form, which its slug leaves out.
_USUAL: Mapping[str, frozenset[str]] = {
    "a100": frozenset({"80gb"}),
    "a800": frozenset({"80gb"}),
    "b300": frozenset({"ac"}),
    # The processor's memory; the GPU of both has 96 GB.
    "gh200": frozenset({"120gb", "480gb"}),
    "h100": frozenset({"80gb", "hbm3"}),
    "h800": frozenset({"80gb", "hbm3"}),
    "v100": frozenset({"16gb"}),
}
# Words of products that have no product word, for markers that name one.
_FAMILY_WORDS = ("rtx", "gtx", "geforce", "quadro", "titan", "radeon", "thor")


def gpu_kind(name: str) -> str:
    """A slug for a product name, as NVML or amdsmi gives it.

    "NVIDIA H100 80GB HBM3" is "h100", and "NVIDIA H100 NVL" is "h100-nvl". "NVIDIA RTX
    6000 Ada Generation" has no word that names a product by itself: "rtx-6000-ada".
    """
    name_words: list[str] = _WORD.findall(name.lower())
    for position, word in enumerate(name_words):
        if _PRODUCT_WORD.fullmatch(word):
            return _slug(word, name_words[position + 1 :])
    product_words = [word for word in name_words if word not in _VENDOR_WORDS]
    return "-".join(product_words) or "gpu"


def _slug(product: str, others: list[str]) -> str:
    """The product's word, and those of the others that tell its unusual forms apart."""
    usual = _USUAL.get(product, frozenset())
    parts = [product]
    for word in others:
        if _SOCKET.fullmatch(word) or word in usual or word in _VENDOR_WORDS:
            continue
        parts.append(word)
    return "-".join(parts)


def is_of(kind: str, product: str) -> bool:
    """Whether a kind is of a product: "h100-nvl" is of "h100" and of "h100-nvl"."""
    return kind == product or kind.startswith(f"{product}-")


def is_gpu_name(text: str) -> bool:
    """Whether a text looks like the name of a GPU: "b200", "l40s", "rtx4090"."""
    word = text.lower()
    return bool(_PRODUCT_WORD.fullmatch(word)) or word.startswith(_FAMILY_WORDS)
