"""Secret variables: they reach the engine, and stand nowhere else."""

from __future__ import annotations

import msgspec
import pytest

from perfgate.engines import secret_values
from perfgate.engines.base import ServerConfig
from perfgate.engines.secret_values import SecretTwice, hidden, hidden_arguments

SECRETS = {
    "HF_TOKEN": "tiptoe-7788",
    "DB_PASSWORD": "abc",
    "MY_KEY": "opensesame",
    "SGLANG_FOO": "postgres://u:tiptoe-7788@h",
    "VLLM_MY": "sk-proj-abcDEF123456",
}
PLAIN = {
    "SGLANG_PER_TOKEN_GROUP_QUANT_8BIT_V2": "1",
    "VLLM_MAX_TOKENS": "8192",
    "NCCL_DEBUG": "WARN",
    "SORT_KEY": "4",
}


@pytest.fixture(autouse=True)
def _no_values(monkeypatch):
    monkeypatch.setattr(secret_values, "_VALUES", {})


def server(variables=None, arguments=()):
    """A server with these variables and arguments, as a study makes it."""
    return ServerConfig(
        engine="vllm",
        model="m",
        extra_env=hidden(variables or {}),
        extra_args=hidden_arguments(arguments),
    )


def test_the_engine_gets_what_no_file_has():
    """Of each kind; what was written and read again is the same server."""
    config = server(SECRETS | PLAIN)
    written = msgspec.json.encode(config)

    assert SECRETS | PLAIN == config.variables()
    for value in ("tiptoe", "abc", "opensesame"):
        assert value.encode() not in written
    again = msgspec.json.decode(written, type=ServerConfig)
    assert (config, SECRETS | PLAIN) == (again, again.variables())


@pytest.mark.parametrize(("name", "value"), PLAIN.items(), ids=PLAIN)
def test_a_setting_is_shown(name, value):
    """Its name resembles that of a secret, and it makes another server."""
    assert ((name, value),) == hidden({name: value})


def test_another_token_is_the_same_server(monkeypatch):
    """A baseline outlives the token with which it was recorded."""
    before = server({"HF_TOKEN": "tiptoe-7788"})
    monkeypatch.setattr(secret_values, "_VALUES", {})

    assert before == server({"HF_TOKEN": "another-9900"})


def test_two_values_of_a_secret_are_refused():
    """They would be one server in every file."""
    hidden({"HF_TOKEN": "tiptoe-7788"})

    with pytest.raises(SecretTwice, match="export its variable") as refused:
        hidden({"HF_TOKEN": "another-9900"})
    assert "9900" not in str(refused.value)


def test_arguments_are_kept_from_files_too():
    """With the value in the same word, or in the next one."""
    arguments = ("--hf-token", "tiptoe", "--api-key=abcdefgh", "--seed", "1")
    config = server(arguments=arguments)

    assert (
        "--hf-token",
        "***",
        "--api-key=***",
        "--seed",
        "1",
    ) == config.extra_args
    assert arguments == config.arguments()


def test_several_keys_of_one_option_are_kept_apart():
    """Each is hidden, and the engine has them in their order."""
    arguments = (
        "--api_key",
        "first-11",
        "second-22",
        "third-33",
        "--seed",
        "1",
    )
    config = server(arguments=arguments)

    assert ("--api_key", *["***"] * 3, "--seed", "1") == config.extra_args
    assert arguments == config.arguments()
