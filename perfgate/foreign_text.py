"""Foreign text: what servers, logs and files say, harmless to print and without secrets.

A terminal obeys control characters, a CI service obeys commands at the beginning of a
line, and XML with a control character is none. Such text is cleaned where it enters;
what is written for a machine to read is escaped once more by its writer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

MASK = "***"
# Of one line that a message quotes.
LINE_CHARACTERS = 300
# In front of each further line: neither a command nor a field of a message begins so.
CONTINUED = "| "

# Control characters but tab and newline, marks that reorder or end a line, surrogates,
# and code points that are no characters.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff]"
)
# Azure DevOps and older GitHub runners read these anywhere in a line.
_COMMAND = re.compile(r"##(?=(?:vso)?\[)")
# Lines of a list that the suite itself writes are indented by eight spaces.
_LINE_END = re.compile(
    r"\n(?![ \t]*\| )(?! {8}(?!do:|seen:|log:|tried:)[^\s:])"
)

# TOKEN at the end: SGLANG_PER_TOKEN_GROUP_QUANT_8BIT_V2 is a setting.
_SECRET_NAME = (
    r"(?:[A-Z0-9]+_)*(?:(?:SECRET|PASSWORD|PASSWD|APIKEY|CREDENTIALS"
    r"|(?:API|ACCESS|SECRET|PRIVATE|AUTH)_KEY)(?:_[A-Z0-9]+)*|TOKEN)"
)
# Some keys are public, so their values are not looked for elsewhere.
_SECRET_VARIABLE = rf"(?:{_SECRET_NAME}|(?:[A-Z0-9]+_)+KEY)"
# What no secret is, whatever its name says.
_PLAIN_SETTING = re.compile(r"(?i)\d{0,4}|true|false|none|auto")
# vLLM takes an option with underscores, too.
_SECRET_OPTION = r"--(?:[a-z]+[-_])*(?:api[-_]key|token|password|secret)"
_NAMED_SECRET = re.compile(f"^{_SECRET_NAME}$", re.IGNORECASE)
_NAMED_VARIABLE = re.compile(f"^{_SECRET_VARIABLE}$", re.IGNORECASE)
SHORTEST_SECRET = 8
# What a secret looks like -> what is shown in its place.
_SHAPES = (
    # The user of a URL, with or without a password.
    (re.compile(r"(?<=://)[^/\s?#'\"<>]+@"), f"{MASK}@"),
    # The same with a password that should have been quoted; a port is none.
    (
        re.compile(r"(?<=://)[^/\s?#'\"<>:@]+:(?!\d+[/?#])[^\s'\"<>@]+@"),
        f"{MASK}@",
    ),
    # Keys and tokens of hubs, clouds and model providers.
    (re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}"), MASK),
    (re.compile(r"\b(?:sk|rk|pk|nvapi|glpat|gsk)-[A-Za-z0-9_-]{8,}"), MASK),
    (re.compile(r"\b(?:gh[oprsu]|gsk|npm)_[A-Za-z0-9]{16,}"), MASK),
    (re.compile(r"\bgithub_pat_\w{16,}"), MASK),
    (re.compile(r"\bxox[a-z]-[A-Za-z0-9-]{8,}"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
    (re.compile(r"\bAIza[A-Za-z0-9_-]{30,}"), MASK),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"), MASK),
    # Of an Authorization header: a word of a sentence has no digit and no sign.
    (
        re.compile(r"(?i)\b(bearer|basic) (?=\S*[\d=._+/-])[\w.~+/=-]{6,}"),
        rf"\1 {MASK}",
    ),
    # Parameters of a URL, options of a command, variables of an environment.
    (
        re.compile(
            r"(?i)([?&;](?:[a-z]+[_-])?(?:key|token|sig|signature|password|secret)=)"
            r"[^&;\s'\"#]+"
        ),
        rf"\1{MASK}",
    ),
    (
        re.compile(
            rf"({_SECRET_OPTION}(?:=|\s+))"
            r"(?:'[^']*'|\"[^\"]*\"|\S+)"
        ),
        rf"\1{MASK}",
    ),
    (
        re.compile(rf"\b({_SECRET_VARIABLE}=)(?:'[^']*'|\"[^\"]*\"|\S+)"),
        rf"\1{MASK}",
    ),
)


def clean(text: str) -> str:
    """The text as it can be printed, without secrets; lines stay lines."""
    return printable(without_secrets(text))


def encodable(text: str, encoding: str | None) -> str:
    """The text with what an encoding lacks escaped: a CI log may be ASCII alone."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def one_line(text: str, most: int = LINE_CHARACTERS) -> str:
    """The beginning of the text on one line, cleaned."""
    # Cut first, with room for the spaces that go: a body may have gigabytes.
    joined = " ".join(clean(text[: 8 * most]).split())
    if len(joined) <= most and len(text) <= 8 * most:
        return joined
    return f"{joined[:most].rstrip()} ..."


def continued(text: str) -> str:
    """The text, cleaned, with a sign in front of each further line."""
    return _LINE_END.sub(f"\n{CONTINUED}", clean(text))


def quoted(text: str) -> str:
    """The text, cleaned, with a sign in front of each line."""
    lines = [f"    {CONTINUED}{line}" for line in clean(text).split("\n")]
    return "\n".join(lines)


def printable(text: str) -> str:
    r"""The text with control characters written out: "\x1b"."""
    text = text.replace("\r\n", "\n")
    return _COMMAND.sub("# #", _UNPRINTABLE.sub(_written_out, text))


def _written_out(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}"


def without_secrets(
    text: str, environment: Mapping[str, str] = os.environ
) -> str:
    """The text with *** for what looks like a secret, or is one of the environment.

    Args:
        environment: variables; the values of those that are named like a secret.
    """
    for name, value in environment.items():
        is_short = len(value) < SHORTEST_SECRET
        if not is_short and _NAMED_SECRET.match(name):
            text = text.replace(value, MASK)
    for shape, shown in _SHAPES:
        text = shape.sub(shown, text)
    return text


def shown_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    """A command's arguments without secrets, also such that an option before names.

    vLLM's --api-key takes several, so that all up to the next option are secret.
    """
    shown = []
    is_secret = False
    before = ""
    for argument in arguments:
        is_named = re.fullmatch(_SECRET_OPTION, before) is not None
        is_secret = is_named or (is_secret and not argument.startswith("-"))
        if is_secret:
            shown.append(MASK)
        else:
            shown.append(without_secrets(argument))
        before = argument
    return tuple(shown)


def secret_value(name: str, value: str) -> str:
    """The value of a variable; *** where its name or the value is that of a secret."""
    if _PLAIN_SETTING.fullmatch(value):
        return value
    if _NAMED_VARIABLE.match(name):
        return MASK
    return without_secrets(value)
