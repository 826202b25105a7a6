"""The draws of a GPU, run by Triton's interpreter: the same rows as on the CPU."""

import json
import subprocess

import pytest

from perfgate.engines import environment, vllm

pytestmark = pytest.mark.engine
# In an engine's environment: Triton and torch are nowhere else.
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from perfgate_draw_kernel import launch, on_device
from perfgate_stated_routing import ROWS, Drawer

drawer = Drawer([0.4, 0.4, 0.2, 0.6, 0.4])
table, position = on_device(drawer._rows, "cpu")
found = []
for tokens in (1, 3, 0, 700, ROWS + 2, 16):
    pairs = []
    for draw in (lambda *to: launch(table, position, *to), drawer.fill):
        ids = torch.full((tokens, 2), 99, dtype=torch.int32)
        weights = torch.full((tokens, 2), 99.0)
        draw(ids, weights)
        pairs.append((ids, weights))
    same = [torch.equal(*parts) for parts in zip(*pairs)]
    found.append([tokens, *same, int(position) == drawer.drawn])
print(json.dumps(found))
"""


def test_the_kernel_draws_what_the_cpu_draws():
    """For any number of tokens, across the end of the table, and counted alike."""
    python = environment.find_python("sglang", "cpu", {}).path
    answer = subprocess.run(
        [python, "-c", SCRIPT, vllm.INSIDE],
        env={"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    rows = json.loads(answer.stdout.splitlines()[-1])
    assert 6 == len(rows)
    assert [[True] * 3] * 6 == [row[1:] for row in rows]
