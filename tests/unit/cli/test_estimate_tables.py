"""Tables of `perfgate estimate`: many models, and rows that only some have."""

import json

import pytest
from click.testing import CliRunner

from perfgate.cli.main import main
from tests.support.model_configs import MODELS


def run(*words):
    """The command's output; COLUMNS is wide so that nothing is cut."""
    return CliRunner().invoke(
        main, ["estimate", *words], env={"COLUMNS": "200"}
    )


@pytest.fixture
def folders(tmp_path):
    """Published configurations, a folder each."""

    def write(*names):
        paths = []
        for name in names:
            folder = tmp_path / name
            folder.mkdir()
            row = MODELS[name]
            (folder / "config.json").write_text(json.dumps(row["config"]))
            for file, content in row.get("beside", {}).items():
                (folder / file).write_text(json.dumps(content))
            paths.append(str(folder))
        return paths

    return write


def test_many_models_are_a_table(folders):
    """A row each; one that cannot be divided says why, and the command fails."""
    names = ("gpt-oss-20b", "nemotron-3-super-nvfp4", "glm-4.7-flash")

    result = run(*folders(*names), "--tp", "8")

    assert 1 == result.exit_code
    for text in (
        "13.76 GB",
        "mxfp4",
        "nvfp4",
        "170.23 MB",
        "glm-4.7-flash is not estimated: num_attention_heads is 20",
    ):
        assert text in result.output
    assert 0 == run(*folders("gpt-oss-120b"), "mixtral-8x7b").exit_code


def test_parts_of_the_cache_are_shown(folders):
    """What grows, what is bounded, what is fixed, the index, and the draft."""
    (linear,) = folders("qwen3.5-35b-a3b")
    (indexed,) = folders("deepseek-v3.2")

    shown = run(linear, "--tp", "1", "--context", "8000").output
    other = run(indexed, "--tp", "8", "--versus", "none").output

    assert "fixed for each sequence" in shown
    assert "64.39 MB" in shown
    assert "30 linear, 40 sparse, 10 full" in shown
    assert "0.84 B, 1.69 GB" in shown
    assert "8,052 B" in other
    assert "fixed for each sequence" not in other
