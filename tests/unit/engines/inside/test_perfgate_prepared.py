"""Prepared servers, inside the engine: what is imported, and what runs after the word."""

from __future__ import annotations

import os
import subprocess
import sys

from perfgate.engines.inside import perfgate_prepared as inside
from perfgate.engines.vllm import INSIDE
from perfgate.servers import prepared

# A server's module that starts a process as engines do, which imports it by name.
SPAWNS = """
import multiprocessing
import sys
import wave

def child():
    print("child of", __name__, flush=True)

if __name__ == "__main__":
    print("main", sys.argv[1:], sys.stdin.read() == "", flush=True)
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()
"""
PATIENCE_S = 20.0


def test_the_server_runs_as_by_its_own_name(tmp_path):
    """Its arguments, its stdin, and the processes that it starts."""
    package = tmp_path / "some_engine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "server.py").write_text(SPAWNS)
    command = [sys.executable, "-m", "perfgate_prepared", "no_such,calendar"]

    done = subprocess.run(
        [*command, "some_engine.server", "--port", "1"],
        env=os.environ | {"PYTHONPATH": f"{INSIDE}{os.pathsep}{tmp_path}"},
        input="go\n",
        capture_output=True,
        text=True,
        check=True,
    )

    log = tmp_path / "log"
    log.write_text(done.stdout)
    assert 0 < prepared.imports_s(log) < PATIENCE_S
    _, *rest = done.stdout.splitlines()
    assert ["main ['--port', '1'] True", "child of __mp_main__"] == rest
    assert "" == done.stderr


def test_without_a_word_it_ends(tmp_path):
    """The supervisor is gone: nothing is served."""
    done = subprocess.run(
        [sys.executable, "-m", "perfgate_prepared", "", "http.server", "0"],
        env=os.environ | {"PYTHONPATH": str(INSIDE)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )

    assert 1 == len(done.stdout.splitlines())


def test_imports_at_the_top_are_found(tmp_path, monkeypatch):
    """With relative ones; those of functions belong to other ways to serve."""
    package = tmp_path / "an_engine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "server.py").write_text(
        "import os.path, json\nfrom .args import one\nfrom a.b import c\n"
        "def later():\n    import never\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    found = inside.imported_by("an_engine.server")

    assert ["os.path", "json", ".args", "a.b"] == found
    assert [] == inside.imported_by("sys")
