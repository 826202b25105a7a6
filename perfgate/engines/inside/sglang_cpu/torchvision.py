"""Stand-in for torchvision: names that SGLang and Transformers import while they load.

A server that answers text on the CPU uses no image, but it imports what would. The real
torchvision must be built for the installed torch: PyPI's, built for CUDA, fails with a
CPU build by "operator torchvision::nms does not exist". This folder is on the
PYTHONPATH of SGLang's CPU servers alone. A call of one of these names raises an error
that names the stand-in.
"""

import enum
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__version__ = "0"  # older than all: who asks for a newer one takes another way
__path__: list[str] = []  # a package, whose modules are all made here
MODULES = (
    "io",
    "transforms",
    "transforms.functional",
    "transforms.v2",
    "transforms.v2.functional",
)


class InterpolationMode(enum.Enum):
    """Ways to resize, named and mapped as soon as image processors are defined."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


class Missing:
    """A name that can be imported, annotated with and derived from, but not called."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        raise RuntimeError(
            f"torchvision is not installed: {type(self).__name__} is a stand-in for "
            "text models on the CPU (perfgate/engines/inside/sglang_cpu)"
        )


class StandIn(ModuleType):
    """A module that has every public name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(
                f"module {self.__name__!r} has no attribute {name!r}"
            )
        if name == "InterpolationMode":
            attribute: type = InterpolationMode
        else:
            attribute = type(name, (Missing,), {})
        setattr(self, name, attribute)
        return attribute


def enter_modules() -> None:
    """Enter every module, each as an attribute of the one that holds it."""
    for path in MODULES:
        name = f"{__name__}.{path}"
        module = StandIn(name)
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        sys.modules[name] = module
        holder, _, last = name.rpartition(".")
        setattr(sys.modules[holder], last, module)


enter_modules()
