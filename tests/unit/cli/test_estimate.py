"""`perfgate estimate`: what fits, what is wrong, and why."""

import json

import pytest
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


def test_a_model_is_compared_with_that_of_its_pair():
    """Without an option; one without a pair with that of the first."""
    for model, reference in (
        ("qwen3-30b-a3b", "qwen3-8b"),
        ("mixtral-8x7b", "llama-3.1-8b"),
        ("llama-3.1-70b", "llama-3.1-8b"),
    ):
        answer = json.loads(run(model, "--json").output)
        assert reference == answer["reference"]["name"]


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


def test_the_home_of_an_unknown_user_is_a_message():
    """The path is told as it was written."""
    for words in (
        ["~nobody-here/config.json"],
        ["mixtral-8x7b", "--routing", "~nobody-here/run"],
    ):
        result = run(*words)

        assert 1 == result.exit_code
        assert "~nobody-here" in result.output


def test_another_precision_can_be_asked_for():
    """Of the weights, as an engine makes it while loading, and of the KV cache."""
    words = ("--tp", "1", "--versus", "none")
    shown = run(
        "llama-3.1-8b", *words, "--quantization", "fp8", "--kv-dtype", "fp8"
    ).output

    assert "fp8 made while loading" in shown
    assert "9.08 GB" in shown
    assert "65,536 B" in shown


def test_data_parallel_groups():
    """Eight GPUs in four groups."""
    shown = run("mixtral-8x7b", "--tp", "2", "--dp", "4", "--ep").output

    assert "8x h200, 4 data parallel groups of 2" in shown


def test_recorded_popularity_takes_the_place_of_the_bound(tmp_path):
    """With all tokens on two of eight experts, a step reads two."""
    path = tmp_path / "shares.json"
    path.write_text(json.dumps([[1, 1, 0, 0, 0, 0, 0, 0]]))

    result = run("mixtral-8x7b", "--tp", "1", "--routing", str(path), "--json")
    steps = json.loads(result.output)["model"]["steps"]

    assert {2.0} == {step["experts_touched"] for step in steps}
    assert (
        f"the routing of {path}"
        in run("mixtral-8x7b", "--tp", "1", "--routing", str(path)).output
    )


def test_a_file_without_routing_is_a_message(tmp_path):
    """With what it has and what would do."""
    path = tmp_path / "shares.json"
    path.write_text("[[1, 2]]")

    result = run("mixtral-8x7b", "--routing", str(path))

    assert 1 == result.exit_code
    assert "lists of [2] numbers, for 8 experts" in result.output


@pytest.mark.parametrize("more", [[], ["--routing"]])
def test_a_path_that_leads_nowhere_is_a_message(tmp_path, more):
    """A user without a home folder, a link to itself."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    known = ["mixtral-8x7b"] if more else []

    for path in ("~nobody-here/x", str(loop)):
        result = run(*known, *more, path)
        assert 1 == result.exit_code
        assert "  do:   " in result.output
