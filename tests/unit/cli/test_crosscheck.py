"""`perfgate crosscheck`: its table, and failing where clients disagree."""

import json

import pytest
from click.testing import CliRunner

from perfgate.cli.crosscheck import CLIENT_NAMES, crosscheck
from perfgate.load.other_clients import CLIENTS, ClientFailed
from tests.support.fake_launch import FakeEngine
from tests.support.other_client import FIGURES, other_client

VOCABULARY = {f"w{i}": i for i in range(9)}


def write_tokenizer(folder):
    """A tokenizer of one id a word."""
    (folder / "tokenizer.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "model": {
                    "type": "WordLevel",
                    "vocab": VOCABULARY,
                    "unk_token": "w0",
                },
            }
        )
    )


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ("--num-prompts 0", "--num-prompts"),
        ("--max-concurrency 0", "--max-concurrency"),
        ("--lengths 0 5", "--lengths"),
        ("--lengths 5 1", "--lengths"),
        ("--lengths 5 5 --shared-prefix 6", "--shared-prefix 6 is longer"),
    ],
)
def test_numbers_that_cannot_be_are_refused(tmp_path, words, seen):
    """Each is named, and nothing is sent."""
    write_tokenizer(tmp_path)
    arguments = ["--url", "http://127.0.0.1:9", "--model", "m"]
    arguments += ["--tokenizer", str(tmp_path), "--client-python", "sh"]
    result = CliRunner().invoke(crosscheck, [*arguments, *words.split()])

    assert 2 == result.exit_code
    assert seen in result.output


def test_the_command_prints_the_table_and_fails_on_disagreement(tmp_path):
    """Figures that nobody could agree with: the table names them and the exit code is 1."""
    write_tokenizer(tmp_path)
    absurd = FIGURES | dict.fromkeys(
        [n for n in FIGURES if n.endswith("_ms")], 1e9
    )
    with FakeEngine(ttft_s=0.01, itl_s=0.005) as engine:
        arguments = [
            "--url",
            engine.url,
            "--client-python",
            other_client(tmp_path, absurd),
            "--tokenizer",
            str(tmp_path),
        ]
        arguments += [
            "--num-prompts",
            "4",
            "--max-concurrency",
            "2",
            "--lengths",
            "4",
            "12",
            "--shared-prefix",
            "2",
            "--rounds",
            "4",  # two say little on a busy machine
        ]
        result = CliRunner().invoke(crosscheck, arguments)

    assert 1 == result.exit_code
    assert "DIFFER" in result.output


def test_a_client_that_is_not_there_is_named(tmp_path):
    """Before anything is sent."""
    arguments = [
        "--url",
        "http://127.0.0.1:9",
        "--client-python",
        "nowhere/python",
        "--tokenizer",
        str(tmp_path),
    ]

    with pytest.raises(ClientFailed, match="nowhere/python"):
        CliRunner().invoke(crosscheck, arguments, catch_exceptions=False)


def test_every_client_can_be_named():
    """The command's choices, written out so that `--help` loads no client, are all clients."""
    assert sorted(CLIENTS) == sorted(CLIENT_NAMES)
