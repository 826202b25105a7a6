"""Shapes of the states that vLLM keeps of a sequence; arguments on stdin, values on stdout.

Run by vLLM's Python.
"""

import json
import math
import sys

from vllm.model_executor.layers.mamba.mamba_utils import (
    MambaStateShapeCalculator,
)


def values(name: str, arguments: dict) -> list[int]:
    """Values of each part of a rank's state, in a layer of that kind."""
    calculate = getattr(MambaStateShapeCalculator, f"{name}_state_shape")
    return [math.prod(shape) for shape in calculate(**arguments)]


sys.stdout.write(
    json.dumps([values(*question) for question in json.load(sys.stdin)])
)
