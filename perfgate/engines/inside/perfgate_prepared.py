"""Prepared server: imports an engine's modules, then waits until it is told to serve.

    python -m perfgate_prepared vllm.v1.engine.core,... SERVER_MODULE ARGUMENTS...

Run by the engine's Python, while the server before it starts. The word to serve is a line
on standard input; the end of the input without one means that it is not needed. Then
SERVER_MODULE runs as `python -m SERVER_MODULE ARGUMENTS...` would, the processes that it
starts included.

Imported are the modules that are named, and what SERVER_MODULE imports at its top. One
that cannot be imported is left to the server, which may not need it.
"""

import ast
import contextlib
import importlib
import importlib.util
import os
import runpy
import sys
import time
from typing import Any

READY = "[perfgate] prepared: imports took {:.2f} s\n"


def imported_by(module: str) -> list[str]:
    """Names of the modules that a module imports at its top; it is not run itself."""
    spec = importlib.util.find_spec(module)
    source = None
    loader: Any = getattr(spec, "loader", None)
    if hasattr(loader, "get_source"):
        source = loader.get_source(module)
    names = []
    for node in ast.parse(source or "").body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append("." * node.level + node.module)
    return names


def import_all(names: list[str], package: str) -> None:
    """Import what can be imported.

    Args:
        package: what relative names are relative to.
    """
    for name in names:
        # Whatever is wrong with it, the server says so itself if it needs it.
        with contextlib.suppress(Exception):
            importlib.import_module(name, package)


def wait() -> None:
    """Wait for the word to serve; ends the process if none comes."""
    line = sys.stdin.readline()
    if not line:
        raise SystemExit(0)
    # As a server that is started at once has it.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)


def main() -> None:
    """Import, wait, and become the server."""
    _, modules, server, *arguments = sys.argv
    began_s = time.monotonic()
    names = [name for name in modules.split(",") if name]
    with contextlib.suppress(Exception):
        names = [*imported_by(server), *names]
    import_all(names, server.rpartition(".")[0])
    sys.stdout.write(READY.format(time.monotonic() - began_s))
    sys.stdout.flush()
    wait()
    sys.argv = [server, *arguments]
    runpy.run_module(server, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
