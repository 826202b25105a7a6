"""Tables of `perfgate estimate`: many models, and rows that only some have."""

import json

import pytest
from click.testing import CliRunner

from perfgate.cli import estimate
from perfgate.cli.main import main
from perfgate.models.catalogue import CATALOGUE
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


@pytest.mark.parametrize("name", ["a[/b]", "a[red]b", "a:on:b"])
def test_a_folder_has_any_name(tmp_path, name):
    """Its brackets and colons are no colour and no picture."""
    folder = tmp_path / name
    folder.mkdir(parents=True)
    config = CATALOGUE["llama-3.1-8b"].config
    (folder / "config.json").write_text(json.dumps(config))

    alone = run(str(folder), "--tp", "1")
    refused = run(str(folder), str(folder / "none"), "--tp", "1")

    assert 0 == alone.exit_code
    assert folder.name in alone.output
    assert f"{name}/none is not estimated" in refused.output


def test_a_log_has_no_width():
    """Without a terminal no number is cut or broken."""
    words = ["estimate", "mixtral-8x7b", "gpt-oss-20b"]
    shown = CliRunner().invoke(main, words, env={"COLUMNS": "40"})

    assert "1,351,998" in shown.output
    assert "gpt-oss-20b" in shown.output


@pytest.mark.parametrize("models", [["mixtral-8x7b"], ["mixtral-8x7b"] * 2])
def test_a_narrow_terminal_cuts_nothing(models, monkeypatch):
    """A number is broken where it has no room."""
    monkeypatch.setattr(estimate, "LOG_WIDTH", 0)
    words = ["estimate", *models]
    shown = CliRunner().invoke(main, words, env={"COLUMNS": "60"})

    assert "\N{HORIZONTAL ELLIPSIS}" not in shown.output
