"""Put back: the argument for each choice of each engine, and whether the engine has it."""

import subprocess

import pytest

from perfgate.engines import put_back
from perfgate.engines.chosen import CHOICES
from perfgate.engines.put_back import HelpUnread
from tests.support.plans import fake_plan


@pytest.mark.parametrize(
    ("engine", "choice", "before", "written"),
    [
        ("vllm", "moe_backend", "TRITON", "--moe-backend triton"),
        ("vllm", "moe_backend", "DEEPGEMM", "--moe-backend deep_gemm"),
        ("vllm", "moe_backend", "VLLM_CUTLASS", "--moe-backend cutlass"),
        ("vllm", "moe_backend", "ROCM_AITER", "--moe-backend aiter"),
        ("vllm", "moe_backend", "CPU", ""),
        (
            "vllm",
            "attention_backend",
            "FLASH_ATTN",
            "--attention-backend FLASH_ATTN",
        ),
        (
            "vllm",
            "chunked_prefill_tokens",
            "8192",
            "--max-num-batched-tokens 8192",
        ),
        ("vllm", "graphs", "on", "--no-enforce-eager"),
        ("vllm", "custom_all_reduce", "on", "--no-disable-custom-all-reduce"),
        ("vllm", "attention_backend", "A or B", ""),
        ("vllm", "attention_backend", "not seen", ""),
        ("vllm", "moe_config", "E=8.json", ""),
        ("vllm", "chunked_prefill_tokens", "off", ""),
        ("sglang", "moe_backend", "triton", "--moe-runner-backend triton"),
        (
            "sglang",
            "kv_cache_dtype",
            "float8_e4m3fn",
            "--kv-cache-dtype fp8_e4m3",
        ),
        ("sglang", "kv_cache_dtype", "float16", ""),
        ("sglang", "chunked_prefill_tokens", "none", ""),
        ("sglang", "kv_block_size", "none", ""),
        ("sglang", "graphs", "on", ""),
        ("sglang", "graphs", "off", "--disable-cuda-graph"),
        ("another", "graphs", "on", ""),
    ],
)
def test_argument_of_a_choice(engine, choice, before, written):
    """None where no argument fixes it, or where it was not one choice."""
    assert written == put_back.argument(engine, choice, before)


def test_choices_are_those_that_engines_report():
    """Or settings: a name that nothing reports would never be put back."""
    known = {*CHOICES, "chunked_prefill_tokens"}

    for arguments in put_back.ARGUMENTS.values():
        assert set() == arguments.keys() - known


def test_the_engine_must_list_the_argument():
    """By its help, asked with the command and variables of the server."""
    asked = []

    def run(command, variables):
        asked.append(command)
        return "options:\n  --moe-backend {auto,triton},\n  [--enforce-eager]"

    plan = fake_plan(port=1)
    for written, expected in (
        ("--moe-backend triton", True),
        ("--enforce-eager", True),
        ("--moe", False),
    ):
        assert expected == put_back.is_accepted(
            written, plan, ["--help=all"], run
        )
    assert "--help=all" == asked[0][-1]
    assert not any(word.startswith("--") for word in asked[0][:-1])


def test_a_command_that_fails_is_told(monkeypatch):
    """It lists nothing."""

    def broken(*_, **__):
        raise subprocess.CalledProcessError(1, "engine")

    monkeypatch.setattr(put_back.subprocess, "run", broken)

    with pytest.raises(HelpUnread, match="options"):
        put_back.is_accepted("--a", fake_plan(port=1), ["--help"])


def test_hidden_spellings_are_accepted():
    """Help of vLLM 0.33 pairs enable with disable, and takes the older spelling too."""

    def run(command, variables):
        return (
            "  --enable-prefix-caching, --disable-prefix-caching\n"
            "  --disable-custom-all-reduce, --enable-custom-all-reduce\n"
            "  --enable-lora"
        )

    words = put_back.help_words(fake_plan(port=1), ("--help=all",), run)

    assert {
        "--no-enable-prefix-caching",
        "--no-disable-custom-all-reduce",
    } <= words
    assert "--no-enable-lora" not in words
