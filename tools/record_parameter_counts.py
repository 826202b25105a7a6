"""Counts the parameters of models again, with an engine's transformers.

    python -m tools.record_parameter_counts

Each model of tests/data/model_configs.json is built on the meta device, so that no
weights are needed. The counts in the file are replaced.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perfgate.engines import environment

TESTS = Path(__file__).resolve().parent.parent / "tests"
FILE = TESTS / "data" / "model_configs.json"
SCRIPT = TESTS / "support" / "count_parameters.py"


def counts(configs: dict[str, Any], python: Path) -> dict[str, int]:
    """Parameters of each model, by an engine's Python.

    Args:
        configs: name -> decoded config.json.
        python: of the engine.

    """
    run = subprocess.run(
        [python, SCRIPT],
        input=json.dumps(configs),
        capture_output=True,
        text=True,
        check=True,
    )
    counted: dict[str, int] = json.loads(run.stdout)
    return counted


def written(content: dict[str, Any]) -> str:
    """The file: a line for each part of a model."""
    models = []
    for name, row in content["models"].items():
        parts = [
            f"{json.dumps(key)}: {json.dumps(value)}"
            for key, value in row.items()
        ]
        inside = ",\n   ".join(parts)
        models.append(f"  {json.dumps(name)}: {{{inside}}}")
    rows = ",\n".join(models)
    source = json.dumps(content["source"])
    return f'{{\n "source": {source},\n "models": {{\n{rows}\n }}\n}}\n'


def main(arguments: Sequence[str] | None = None) -> None:
    """Replace the counts in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="vllm")
    options = parser.parse_args(arguments)
    content = json.loads(FILE.read_text(encoding="utf-8"))
    python = environment.find_python(options.engine, "cpu", {}).path
    configs = {name: row["config"] for name, row in content["models"].items()}
    for name, parameters in counts(configs, python).items():
        content["models"][name]["parameters"] = parameters
    FILE.write_text(written(content), encoding="utf-8")


if __name__ == "__main__":
    main()
