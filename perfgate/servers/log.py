"""Server log: phases of the start-up, its last lines, and the cause of a failed start."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from perfgate.engines.base import LogPhase, Remedy
from perfgate.errors import Failure, describe_error

# Enough for 40 lines, and for a traceback through several processes.
_TAIL_BYTES = 256 * 1024
LINE_LENGTH = 300  # of the line that a message quotes

ADDRESS_IN_USE = r"[Aa]ddress already in use|EADDRINUSE|Errno 98\b"

# Signatures in the logs of vLLM, SGLang, PyTorch, huggingface_hub and uvicorn; an
# engine's own remedies come first.
DEFAULT_REMEDIES = (
    Remedy(
        r"CUDA out of memory|OutOfMemoryError|[Nn]ot enough memory"
        r"|No available memory for the cache blocks|less than desired GPU memory",
        "the model and its KV cache do not fit: end other processes on the GPU, use "
        "more GPUs (--tp), or lower the context length or the engine's memory fraction",
    ),
    Remedy(
        ADDRESS_IN_USE,
        "another process took a port of the server: run again, the suite chooses free "
        "ones itself",
    ),
    Remedy(
        r"Too many open files|Errno 24\b|EMFILE",
        "the server is out of file descriptors: raise the limit (ulimit -n 65536)",
    ),
    Remedy(
        r"can't start new thread|pthread_create failed|Errno 11\b"
        r"|fork: (?:retry: )?Resource temporarily unavailable",
        "the server may not start as many processes and threads: raise the limit "
        "(ulimit -u, or pids.max of the container)",
    ),
    Remedy(
        r"Cannot allocate memory|Errno 12\b|ENOMEM",
        "the server is out of host memory: end other processes, or raise the limit "
        "(ulimit -v, or that of the container)",
    ),
    Remedy(
        r"Insufficient space in /dev/shm|[Ii]ncreas\w+ /dev/shm|/dev/shm/\S+.*No space left"
        r"|No space left on device.*/dev/shm|creating shared memory segment"
        r"|unable to write to file </torch_|Bus error",
        "/dev/shm is too small: start the container with --shm-size=2g or --ipc=host "
        "(docker), or mount an emptyDir of medium Memory there (Kubernetes)",
    ),
    Remedy(
        r"No space left on device|Errno 28|ENOSPC",
        "free space on the disk (or in /dev/shm) that the log names; compiled kernels "
        "and weights need the most",
    ),
    Remedy(
        r"GatedRepoError|gated repo|401 Client Error|Access to model .* is restricted",
        "accept the model's licence on its page, and set HF_TOKEN to a token of that account",
    ),
    Remedy(
        r"does not recognize this architecture|Unsupported architecture"
        r"|[Mm]odel architectures? .*(not supported|failed to be inspected)",
        "this release of the engine does not know the model: use a newer one, or "
        "correct `architectures` in config.json",
    ),
    Remedy(
        r"Cannot find any model weights|no file named .*safetensors"
        r"|LocalEntryNotFoundError|offline mode is enabled|RepositoryNotFoundError"
        r"|is not a local folder|Repo id must be|Can't load the configuration"
        r"|FileNotFoundError.*safetensors",
        "the weights are missing: check the path in the command, or download them first",
    ),
    Remedy(
        r"Illegal instruction|SIGILL",
        "the engine was built for another processor: install the build for this one",
    ),
    Remedy(
        r"unrecognized arguments|invalid choice:",
        "this release of the engine does not know these arguments: compare with its --help",
    ),
    Remedy(
        r"No module named '?(?:vllm|sglang)\b",
        "the engine is not installed in the Python of the command: install it there",
    ),
    Remedy(
        r"CUDA driver version is insufficient|no CUDA-capable device"
        r"|NVIDIA driver on your system is too old|Found no NVIDIA driver",
        "the driver does not support the engine's CUDA version: compare it with "
        "`nvidia-smi`",
    ),
)
# "ValueError: ...", and what vLLM says of a rank that was killed.
_ERROR = re.compile(
    r"\b\w*(?:Error|Exception): \S|\bdied unexpectedly\b|\bkilled by signal\b"
)
# Warnings quote errors that were handled, as do lines of what is switched off for them.
_ECHO = re.compile(r"\b(?:WARNING|INFO|DEBUG)\b|Warning: |\bdisabled: ")
UNKNOWN = "read the log; its first error is usually the cause, the last one a consequence"


class LogLost(Failure):
    """The log of a running server is gone, or cannot be read."""


class LogWatch:
    """Reads a growing log from `offset`, and finds each phase of the start-up once."""

    def __init__(
        self, path: Path, phases: Sequence[LogPhase], offset: int = 0
    ) -> None:
        self._path = path
        self._phases = {
            phase.name: re.compile(phase.pattern) for phase in phases
        }
        self._offset = offset
        self._partial = b""

    def news(self) -> list[tuple[str, str]]:
        """(phase, line) for each phase entered since the last call, in the order of the log."""
        entered = []
        for line in self._lines():
            name = self._phase_of(line)
            if name is not None:
                entered.append((name, line.strip()))
                del self._phases[name]
        return entered

    def _phase_of(self, line: str) -> str | None:
        for name, pattern in self._phases.items():
            if pattern.search(line):
                return name
        return None

    def _lines(self) -> list[str]:
        try:
            with self._path.open("rb") as log:
                log.seek(self._offset)
                data = log.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        # Progress bars end their lines with a carriage return.
        data = (self._partial + data).replace(b"\r", b"\n")
        *lines, self._partial = data.split(b"\n")
        return [line.decode(errors="replace") for line in lines]


def opened(path: Path) -> TextIO:
    """The log of a running server, which says what the engine chose; the caller closes it.

    Raises:
        LogLost: it was deleted meanwhile, for example.
    """
    try:
        return path.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LogLost(
            tried=f"reading the server's log {path}",
            seen=describe_error(error),
            remedy=lost_remedy(path),
        ) from None


def lost_remedy(path: Path) -> str:
    """What to do where a log was deleted."""
    return f"leave {path.parent} alone while a session runs, and run again"


def tail(path: Path, lines: int) -> str:
    """Last lines of a log; "(nothing was logged)" if there are none."""
    logged = _end_of(path).replace("\r", "\n").splitlines()
    return "\n".join(logged[-lines:]) or "(nothing was logged)"


def diagnosis(
    path: Path, known: Sequence[Remedy], from_byte: int = 0
) -> tuple[str, str]:
    """The remedy of the first known signature at the end of the log, and its line.

    The line is empty where none is known: what an engine logs last is mostly a
    consequence.

    Args:
        known: the engine's own remedies, which may be of a warning, too.
        from_byte: where the log begins to matter: a server that was ready died of
            nothing that it logged before.
    """
    whole = _end_of(path, from_byte)
    errors = "\n".join(
        line for line in whole.split("\n") if not _ECHO.search(line)
    )
    for remedy in (*known, *DEFAULT_REMEDIES):
        text = whole if remedy in known else errors
        match = re.search(remedy.pattern, text)
        if match is None:
            continue
        begin = text.rfind("\n", 0, match.start()) + 1
        end = text.find("\n", match.end())
        if end < 0:
            end = len(text)
        line = textwrap.shorten(
            text[begin:end], LINE_LENGTH, placeholder=" ..."
        )
        return remedy.text, line
    return UNKNOWN, ""


def first_error(path: Path, from_byte: int = 0) -> str:
    """The first line with an error; "" if there is none.

    The last lines of a log show the consequence, and may not hold the cause.
    """
    try:
        with path.open("rb") as log:
            log.seek(from_byte)
            for raw in log:
                line = raw.decode(errors="replace")
                if _ERROR.search(line) and not _ECHO.search(line):
                    return textwrap.shorten(
                        line, LINE_LENGTH, placeholder=" ..."
                    )
    except FileNotFoundError:
        return ""
    return ""


def is_port_lost(path: Path) -> bool:
    """Whether the server could not listen, for another process took a port of it."""
    return re.search(ADDRESS_IN_USE, _end_of(path)) is not None


def _end_of(path: Path, from_byte: int = 0) -> str:
    try:
        with path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(from_byte, log.tell() - _TAIL_BYTES))
            return log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
