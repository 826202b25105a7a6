"""`perfgate estimate`: what fits, what is wrong, and why."""

import json

from click.testing import CliRunner

from perfgate.cli.main import main
from perfgate.models.catalogue import CATALOGUE

MIXTRAL, LLAMA, LLAMA_70B = (
    CATALOGUE[name].architecture
    for name in ("mixtral-8x7b", "llama-3.1-8b", "llama-3.1-70b")
)


def run(*words):
    """The command's output; COLUMNS is wide so that nothing is cut."""
    return CliRunner().invoke(
        main, ["estimate", *words], env={"COLUMNS": "200"}
    )


def test_command_shows_what_is_wrong():
    """The tables hold both models, and what was published wrongly is called so."""
    shown = run("mixtral-8x7b", "--gpu", "h200", "--tp", "2", "--ep").output

    for text in (
        "46.70 B",
        "12.88 B",
        "93.41 GB",
        "131,072 B",
        "3.21 GB",
        "512 KiB",
        "1.70",
        "6.20",
    ):
        assert text in shown
    assert 3 == shown.count("WRONG")


def test_command_reads_a_config(tmp_path):
    """A folder or its config.json; without another model there is no ratio and no claim."""
    (tmp_path / "config.json").write_text(
        json.dumps(CATALOGUE["llama-3.1-8b"].config)
    )

    for where in (tmp_path, tmp_path / "config.json"):
        answer = json.loads(
            run(str(where), "--tp", "1", "--versus", "none", "--json").output
        )
        assert (LLAMA.parameters, tmp_path.name) == (
            answer["model"]["parameters"],
            answer["model"]["name"],
        )
        assert (None, []) == (answer["reference"], answer["claims"])


def test_what_does_not_fit_is_said():
    """And why."""
    assert (
        "llama-3.1-70b does not fit: 141.1 GB"
        in run("llama-3.1-70b", "--tp", "1").output
    )


def test_bad_input_is_a_message():
    """No traceback: the file and the remedy."""
    result = run("./nowhere")

    assert 1 == result.exit_code
    assert "nowhere/config.json" in result.output
