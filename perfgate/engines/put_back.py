"""Put back: the argument with which an engine takes again what it chose before.

It is written behind the server's other arguments, of which the last one counts.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence

from perfgate.engines.base import LaunchPlan
from perfgate.engines.variables import installed_modules
from perfgate.errors import Failure, describe_error

HELP_TIMEOUT_S = 300.0
# What vLLM logs of a backend of the experts -> what --moe-backend calls it: one name for all
# number formats and for batched experts. Others are chosen by other means, if at all.
VLLM_MOE_BACKENDS: Mapping[str, str] = {
    "TRITON": "triton",
    "BATCHED_TRITON": "triton",
    "TRITON_MXFP8": "triton",
    "TRITON_UNFUSED": "triton_unfused",
    "DEEPGEMM": "deep_gemm",
    "BATCHED_DEEPGEMM": "deep_gemm",
    "DEEPGEMM_MXFP4": "deep_gemm",
    "VLLM_CUTLASS": "cutlass",
    "BATCHED_VLLM_CUTLASS": "cutlass",
    "FLASHINFER_TRTLLM": "flashinfer_trtllm",
    "FLASHINFER_TRTLLM_MXFP4_BF16": "flashinfer_trtllm",
    "FLASHINFER_CUTLASS": "flashinfer_cutlass",
    "FLASHINFER_CUTLASS_MXFP4_BF16": "flashinfer_cutlass",
    "FLASHINFER_CUTEDSL": "flashinfer_cutedsl",
    "FLASHINFER_CUTEDSL_BATCHED": "flashinfer_cutedsl",
    "FLASHINFER_B12X": "flashinfer_b12x",
    "B12X": "b12x",
    "MARLIN": "marlin",
    "HUMMING": "humming",
    "AITER": "aiter",
    "ROCM_AITER": "aiter",
    "AITER_MXFP4_BF16": "aiter",
    "AITER_MXFP8": "aiter",
    "AITER_TRITON_MXFP4_BF16": "aiter_triton_mxfp4_bf16",
    "HPC": "hpc",
    "RDNA3": "rdna3",
    "EMULATION": "emulation",
}
# A type of torch, as SGLang logs that of the KV cache -> what --kv-cache-dtype calls it.
SGLANG_CACHE_DTYPES: Mapping[str, str] = {
    "bfloat16": "bfloat16",
    "float8_e4m3fn": "fp8_e4m3",
    "float8_e4m3fnuz": "fp8_e4m3",
    "float8_e5m2": "fp8_e5m2",
    "float8_e5m2fnuz": "fp8_e5m2",
}


def _each(option: str, names: Mapping[str, str]) -> dict[str, str]:
    """The argument for each value, by the option's name for it."""
    return {value: f"{option} {name}" for value, name in names.items()}


# Engine -> choice -> argument: a template, or one for each value.
ARGUMENTS: Mapping[str, Mapping[str, str | Mapping[str, str]]] = {
    "vllm": {
        "moe_backend": _each("--moe-backend", VLLM_MOE_BACKENDS),
        "attention_backend": "--attention-backend {value}",
        "chunked_prefill_tokens": "--max-num-batched-tokens {value}",
        "max_num_seqs": "--max-num-seqs {value}",
        "kv_cache_dtype": "--kv-cache-dtype {value}",
        "kv_block_size": "--block-size {value}",
        "graphs": {"on": "--no-enforce-eager", "off": "--enforce-eager"},
        "async_scheduling": {
            "on": "--async-scheduling",
            "off": "--no-async-scheduling",
        },
        "custom_all_reduce": {
            "on": "--no-disable-custom-all-reduce",
            "off": "--disable-custom-all-reduce",
        },
    },
    # It has no arguments that switch graphs or its own all-reduce on again.
    "sglang": {
        "moe_backend": "--moe-runner-backend {lower}",
        "attention_backend": "--attention-backend {value}",
        "chunked_prefill_tokens": "--chunked-prefill-size {value}",
        "max_num_seqs": "--max-running-requests {value}",
        "sampling_backend": "--sampling-backend {value}",
        "kv_cache_dtype": _each("--kv-cache-dtype", SGLANG_CACHE_DTYPES),
        "kv_block_size": "--page-size {value}",
        "graphs": {"off": "--disable-cuda-graph"},
        "async_scheduling": {"off": "--disable-overlap-schedule"},
        "custom_all_reduce": {"off": "--disable-custom-all-reduce"},
    },
}
_VALUE = re.compile(r"\w[\w-]*")
# No values of an argument that takes one.
_NO_VALUES = frozenset({"off", "none"})
# Takes a command and its variables, and returns what it prints.
Run = Callable[[Sequence[str], Mapping[str, str]], str]


class HelpUnread(Failure):
    """The engine's command did not list its options."""


def argument(engine: str, choice: str, before: str) -> str:
    """The argument that makes an engine choose as before; "" where there is none."""
    template = ARGUMENTS.get(engine, {}).get(choice, "")
    if not isinstance(template, str):
        return template.get(before, "")
    if before in _NO_VALUES or not _VALUE.fullmatch(before):
        return ""
    return template.format(value=before, lower=before.lower())


def is_accepted(
    written: str,
    plan: LaunchPlan,
    help_arguments: Sequence[str],
    run: Run | None = None,
) -> bool:
    """Whether the engine of a plan lists an argument among its options.

    Args:
        written: the argument with its value, "--moe-backend triton".
        run: runs the command; None runs it here.

    Raises:
        HelpUnread: its command lists no options.
    """
    option = written.partition(" ")[0]
    return option in help_words(plan, help_arguments, run)


def help_words(
    plan: LaunchPlan, help_arguments: Sequence[str], run: Run | None = None
) -> set[str]:
    """The words of what an engine's command says of its options, and hidden spellings.

    Raises:
        HelpUnread: it lists none.
    """
    command = itertools.takewhile(
        lambda word: not word.startswith("--"), plan.argv
    )
    words = [*command, *help_arguments]
    variables = installed_modules(plan.argv) | os.environ | dict(plan.env)
    text = (run or _run)(words, variables)
    listed = {word.strip(",[]()") for word in text.split()}
    return listed | _hidden(listed)


def _hidden(listed: set[str]) -> set[str]:
    """Spellings that vLLM 0.33 takes and does not list.

    Its help pairs `--enable-x` with `--disable-x`, where 0.32 wrote `--no-enable-x`.
    """
    hidden = set()
    for word in listed:
        for prefix, inverse in (("enable", "disable"), ("disable", "enable")):
            name = word.removeprefix(f"--{prefix}-")
            if name != word and f"--{inverse}-{name}" in listed:
                hidden.add(f"--no-{prefix}-{name}")
    return hidden


def _run(command: Sequence[str], variables: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(
            command,
            env=dict(variables),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=HELP_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise HelpUnread(
            tried=f"asking {command[0]} for its options",
            seen=describe_error(error),
            remedy="run that command by hand with the variables of the server's log",
        ) from error
    return done.stdout
