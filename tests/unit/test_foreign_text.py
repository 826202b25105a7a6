"""Text of servers and logs: harmless to print, and without secrets."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.errors import Failure
from perfgate.foreign_text import (
    clean,
    continued,
    encodable,
    one_line,
    quoted,
    secret_value,
    shown_arguments,
    without_secrets,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07\x00", r"\x1b[31mred\x07\x00"),
        ("a\x9bm\u202eb\u2028c", r"a\x9bm\u202eb\u2028c"),
        ("\ud800\ufffe\ufeff", r"\ud800\ufffe\ufeff"),
        ("50 %\rdone", r"50 %\x0ddone"),
        ("a\r\n\tb", "a\n\tb"),
        ("##[error]x ##vso[task]", "# #[error]x # #vso[task]"),
        ("zwölf 十二 # heading", "zwölf 十二 # heading"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    """Lines, tabs and letters of all languages stay."""
    assert shown == clean(text)


def test_a_further_line_is_no_command_and_no_field():
    """Whatever a line begins with, a sign stands in front of it, once."""
    text = "failed\n::error::x\n  do:   obey\n```"
    shown = "failed\n| ::error::x\n|   do:   obey\n| ```"

    assert shown == continued(text)
    assert shown == continued(shown)
    assert "    | ::stop-commands::a\n    | b" == quoted(
        "::stop-commands::a\nb"
    )


def test_one_line_is_bounded():
    """A body of megabytes becomes its beginning."""
    assert "a b" == one_line("a\n\n  b\t")
    assert 304 == len(one_line("x" * 10_000_000))
    assert "xxx ..." == one_line("xxxxx", most=3)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://alice:pw@h:1/x", "http://***@h:1/x"),
        ("postgres://u:p@ss@h/db", "postgres://***@h/db"),
        ("https://token@h", "https://***@h"),
        ("http://alice:p#w@h:1/x", "http://***@h:1/x"),
        ("http://alice:p/w?@h", "http://***@h"),
        ("x hf_" + "aB3" * 8 + " y", "x *** y"),
        ("sk-proj-abcDEF123456", "***"),
        ("ghp_" + "a1" * 18, "***"),
        ("nvapi-abcdefgh12", "***"),
        ("AKIA" + "A1B2" * 4, "***"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", "***"),
        ("Authorization: Bearer abc123.d", "Authorization: Bearer ***"),
        ("authorization: basic YWxpY2U6cHc=", "authorization: basic ***"),
        ("GET /v1?api_key=abc&n=1", "GET /v1?api_key=***&n=1"),
        ("serve --api-key abc --port 1", "serve --api-key *** --port 1"),
        ("--hf-token='a b' c", "--hf-token=*** c"),
        ("MODEL=HF_TOKEN=abc x", "MODEL=HF_TOKEN=*** x"),
        ("AWS_SECRET_ACCESS_KEY=ab/c", "AWS_SECRET_ACCESS_KEY=***"),
    ],
)
def test_secrets_are_masked(text, shown):
    """By their shape, and by the name in front of them."""
    assert shown == without_secrets(text, {})


@pytest.mark.parametrize(
    "text",
    [
        "hf_quant_config.json",
        "--max-num-batched-tokens 8192 --tokenizer /x/y",
        "VLLM_MAX_TOKENS=5",
        "basic functionality of a bearer instrument",
        "http://127.0.0.1:8000/v1/models",
        "http://127.0.0.1:8000/v1/a@b",
        "task-based-scheduling",
        "/models/mixtral@main/config.json",
        "sha256:" + "a1" * 32,
    ],
)
def test_what_only_resembles_one_stays(text):
    """Names, flags, words and paths."""
    assert text == without_secrets(text, {})


def test_a_secret_of_the_environment_is_masked_wherever_it_appears():
    """A server may quote the key that it refuses."""
    environment = {"PERFGATE_API_KEY": "tiptoe-7788", "LANG": "C.UTF-8.long"}

    assert "invalid key ***, C.UTF-8.long" == without_secrets(
        "invalid key tiptoe-7788, C.UTF-8.long", environment
    )


def test_values_of_variables_and_arguments():
    """Masked by name or by value, alone or behind their option."""
    assert "***" == secret_value("HF_TOKEN", "x")
    assert "redis://***@h" == secret_value("SGLANG_FOO", "redis://u:p@h")
    assert "4" == secret_value("OMP_NUM_THREADS", "4")
    assert ("serve", "--api-key", "***", "--port", "1") == shown_arguments(
        ("serve", "--api-key", "abc", "--port", "1")
    )


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("--api_key abc --port 1", "--api_key *** --port 1"),
        ("--api_key=abc --port 1", "--api_key=*** --port 1"),
        ("--api-key abc def --port 1", "--api-key *** *** --port 1"),
        ("--api-key abc def", "--api-key *** ***"),
        ("--admin_api-key -abc", "--admin_api-key ***"),
        ("--max-tokens 5", "--max-tokens 5"),
    ],
)
def test_options_of_secrets_are_spelt_in_several_ways(arguments, shown):
    """With underscores, and with several keys behind it: vLLM takes both."""
    assert shown.split() == list(shown_arguments(arguments.split()))


def test_a_failure_quotes_nothing_that_is_obeyed():
    """Each field is cleaned where the failure is made."""
    failure = Failure(
        "GET http://a:b@h", "HTTP 500: \x1b[2J\n  do:   obey", "look\n::error::"
    )

    assert str(failure).split("\n") == [
        "GET http://***@h",
        r"  seen: HTTP 500: \x1b[2J",
        "|   do:   obey",
        "  do:   look",
        "| ::error::",
    ]
    assert str(failure) == str(Failure.from_row(failure.row()))


@settings(deadline=None)
@given(st.text())
def test_any_text_becomes_printable(text):
    """No control character is left, and cleaning again changes nothing."""
    shown = continued(text)

    kinds = {unicodedata.category(c) for c in shown if c not in "\n\t"}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}
    assert shown == continued(shown)
    assert not any(
        line.lstrip().startswith("::") for line in shown.split("\n")[1:]
    )


def test_what_an_encoding_lacks_is_escaped():
    """A log in ASCII shows a folder's name all the same."""
    assert "l\\xe4ufe" == encodable("läufe", "ascii")
    assert "läufe \\u2192" == encodable("läufe \u2192", "latin-1")
    assert "läufe \u2192" == encodable("läufe \u2192", None)
