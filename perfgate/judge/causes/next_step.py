"""Next step: the one command that goes on from a diagnosis, and what could be put back.

Where the engine chose otherwise, an argument puts its choice back: if the loss is gone
then, the choice was the cause. Else the server is launched in turn with a good build.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from perfgate.engines import put_back
from perfgate.judge.baseline_store import Store
from perfgate.judge.causes import words
from perfgate.judge.causes.choice_rules import BY_CHOICE
from perfgate.judge.causes.finding import Finding
from perfgate.judge.causes.symptoms import ServerSymptoms, symptoms_of
from perfgate.judge.observation import RunReader
from perfgate.results.diagnosis import Cause, Diagnosis
from perfgate.results.schema import RunResults

_LEFT_OUT = ("--run-dir", "--junit")
_LAUNCHES = "--launches"
_PAIRS = "--pairs"
_FLAGS_LEFT_OUT = ("--resume",)


@dataclass(frozen=True)
class PutBack:
    """A choice of the engine that an argument can put back.

    Attributes:
        server: key of the server.
        choice: in words, "moe_backend TRITON -> FLASHINFER_CUTLASS".
    """

    server: str
    choice: str
    argument: str


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
        back = back_of(server, finding.cause)
        if back is not None:
            value = shlex.quote(f"{server.model}={back.argument}")
            return f"{asked} --inject-arg {value}"
    if results.is_paired:
        return f"{again(results.command, _LAUNCHES)} {_LAUNCHES} 6"
    if _had_pairs(results, server.key):
        asked = again(results.command, _LAUNCHES, _PAIRS)
        return f"{asked} {_PAIRS} all {_LAUNCHES} 6"
    return f"{asked} --against-engine {server.engine}=PYTHON_OF_A_GOOD_BUILD"


def _had_pairs(results: RunResults, key: str) -> bool:
    """Whether a server was launched in turn with its base build after a screen."""
    bases = set()
    for case in results.cases:
        if case.numerator.server.key == key:
            bases.add(case.numerator.server.base.key)
    return any(launch.server in bases for launch in results.launches)


def of_diagnosis(
    results: RunResults, diagnosis: Diagnosis, store: Store
) -> PutBack | None:
    """What can be put back of the choice that a diagnosis names; None where nothing can."""
    if not diagnosis.by_choice:
        return None
    servers = symptoms_of(RunReader(results), results.verdicts, store)
    for server in servers:
        if server.key in diagnosis.servers:
            back = back_of(server, diagnosis.cause)
            if back is not None:
                return back
    return None


def back_of(server: ServerSymptoms, cause: Cause) -> PutBack | None:
    """The first changed choice that stands for the cause and can be put back."""
    for choice in server.changed:
        if BY_CHOICE.get(choice.name) != cause:
            continue
        argument = put_back.argument(server.engine, choice.name, choice.before)
        if argument:
            return PutBack(server.key, words.choice(choice), argument)
    return None


def again(arguments: Sequence[str], *without: str) -> str:
    """The command of a run, without what names the run itself.

    Args:
        without: further options to leave out, each with its value.
    """
    kept = []
    skip = False
    for word in arguments:
        if skip:
            skip = False
            continue
        if word in _FLAGS_LEFT_OUT:
            continue
        if word.startswith((*_LEFT_OUT, *without)):
            skip = "=" not in word
            continue
        kept.append(word)
    return shlex.join(kept)
