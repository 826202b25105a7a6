"""Next step: the one command that goes on from a diagnosis.

Where the engine chose otherwise, an argument puts its choice back: if the loss is gone
then, the choice was the cause. Else the server is launched in turn with a good build.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from perfgate.judge.causes.finding import Finding
from perfgate.judge.causes.symptoms import Choice, ServerSymptoms
from perfgate.results.schema import RunResults

# Engine -> choice -> arguments that fix it.
_ARGUMENTS = {
    "vllm": {
        "moe_backend": "--moe-backend {lower}",
        "attention_backend": "--attention-backend {value}",
        "chunked_prefill_tokens": "--max-num-batched-tokens {value}",
        "max_num_seqs": "--max-num-seqs {value}",
        "kv_cache_dtype": "--kv-cache-dtype {value}",
    },
    "sglang": {
        "moe_backend": "--moe-runner-backend {lower}",
        "attention_backend": "--attention-backend {value}",
        "chunked_prefill_tokens": "--chunked-prefill-size {value}",
        "max_num_seqs": "--max-running-requests {value}",
        "sampling_backend": "--sampling-backend {value}",
        "kv_cache_dtype": "--kv-cache-dtype {value}",
    },
}
_LEFT_OUT = ("--run-dir", "--junit")
_FLAGS_LEFT_OUT = ("--resume",)


def command(
    results: RunResults, found: Sequence[tuple[ServerSymptoms, Finding]]
) -> str:
    """The command to go on with; "" of a run that nobody can repeat by a command."""
    server, finding = found[0]
    asked = again(results.command)
    if not asked:
        return ""
    if server.injected:
        return ""
    if finding.by_choice:
        for choice in server.changed:
            argument = put_back(server.engine, choice)
            if argument:
                value = shlex.quote(f"{server.model}={argument}")
                return f"{asked} --inject-arg {value}"
    if results.is_paired:
        return f"{asked} --launches 6"
    return f"{asked} --against-engine {server.engine}=PYTHON_OF_A_GOOD_BUILD"


def put_back(engine: str, choice: Choice) -> str:
    """The argument with which an engine chooses as before; "" where there is none."""
    template = _ARGUMENTS.get(engine, {}).get(choice.name, "")
    if not choice.before.replace("_", "").replace("-", "").isalnum():
        return ""
    return template.format(value=choice.before, lower=choice.before.lower())


def again(words: Sequence[str]) -> str:
    """The command of a run, without what names the run itself."""
    kept = []
    skip = False
    for word in words:
        if skip:
            skip = False
            continue
        if word in _FLAGS_LEFT_OUT:
            continue
        if word.startswith(_LEFT_OUT):
            skip = "=" not in word
            continue
        kept.append(word)
    return shlex.join(kept)
