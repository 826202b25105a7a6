"""A small study file: two models, one pair, two workloads, one platform."""

from __future__ import annotations

import json
from pathlib import Path

from perfgate.study import StudyFile, read_study
from tests.support.studies import SHIPPED

_SMALL = """
engines = ["vllm"]
[models.sparse.config]
{sparse}
[models.dense.config]
{dense}
[pairs.both]
sparse = "sparse"
dense = "dense"
[servers.cpu]
device = "cpu"
max_model_len = 256
dtype = "float32"
[workloads.short.closed]
input_len_tokens = 8
output_len_tokens = 8
num_prompts = 4
max_concurrency = 2
[workloads.short.alone]
input_len_tokens = 8
output_len_tokens = 8
num_prompts = 1
max_concurrency = 1
[platforms.cpu]
about = "any machine"
server = "cpu"
pair = "both"
workloads = "short"
[platforms.cpu.roles]
closed = "closed"
single_stream = "alone"
routing = "alone"
batches = ["alone", "closed"]
sweep = ["alone"]
"""


def config_table(name: str) -> str:
    """The config.json of a shipped model, as TOML."""
    lines = []
    for key, value in SHIPPED.models[name].config.items():
        lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines)


SMALL = _SMALL.format(
    sparse=config_table("mixtral-small"), dense=config_table("llama-small")
)


def read_small(
    folder: Path, *changes: tuple[str, str], more: str = "", text: str = SMALL
) -> StudyFile:
    """The study in a file of its own, changed.

    Args:
        folder: of the file.
        changes: pieces of text, old and new.
        more: appended.
        text: of the file.
    """
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    # A name of its own, because a study is read once.
    path = folder / f"{len(list(folder.iterdir()))}-study.toml"
    path.write_text(text + more)
    return read_study(path)
