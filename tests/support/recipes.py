"""The recipes of docs/ci, run in a checkout with the fake engine.

What a CI service does is done here: expressions are filled in, the lines of a job are
run by a shell one after another. What needs a network or a cluster is a stub that notes
how it was called: pip, buildkite-agent. `pytest` is the suite with the fake engine.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support import fake_suite
from tests.support.projects import ROOT
from tests.support.small_project import QUESTIONS, Project

FOLDER = ROOT / "docs" / "ci"
EXPRESSION = re.compile(r"\$\{\{ *(.*?) *\}\}")
# Places of a runner, which a test has not.
SHARED = "/var/lib/perfgate"

# An environment's Python: it installs nothing, and notes what it would have.
_PYTHON = """#!/bin/sh
if [ "$1 $2" = "-m pip" ]; then echo "$@" >> {notes}/pip; exit 0; fi
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin"; cp {stubs}/* "$3/bin/"; exit 0; fi
exec {python} "$@"
"""
_PERFGATE = """#!/bin/sh
exec {python} -m perfgate "$@"
"""
# The recipes name a real engine; the project has the fake one.
_PYTEST = """#!{python}
import os, sys
words = []
for word in sys.argv[1:]:
    if word in ("--pyargs", "perfgate.study"):
        continue
    words.append("fake" if word == "vllm" else word.replace("vllm=", "fake="))
options = {options}
os.execv({python!r}, [{python!r}, "-m", "pytest", "-p", "no:cacheprovider", *options, *words])
"""
_NOTES_INPUT = """#!/bin/sh
echo "$@" > {notes}/{name}
cat > {notes}/{name}-input
"""


@dataclass(frozen=True)
class Step:
    """Lines for a shell.

    Attributes:
        always: whether it runs after a failed one, too.
    """

    script: str
    env: Mapping[str, str] = field(default_factory=dict)
    always: bool = False


class Checkout:
    """A small project in a repository of two commits, as a job of CI finds it."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.shared = folder / "shared"
        self.folder = folder / "checkout"
        bin_folder = folder / "bin"
        stubs = folder / "stubs"
        for path in (self.notes, self.shared, self.folder, bin_folder, stubs):
            path.mkdir()
        # Their hollow weights would be gigabytes in a repository.
        self._models = fake_suite.options(folder / "models")
        Project(self.folder, self._models)
        questions = QUESTIONS.replace("test_each", "test_single_stream")
        test = self.folder / "tests" / "perf" / "test_small.py"
        test.write_text(questions)
        self._write_stubs(bin_folder, stubs)
        self._path = f"{bin_folder}:{os.environ['PATH']}"
        self.git("init", "--quiet", "--initial-branch=main")
        self.base = self._commit("base")
        self.head = self._commit("head")

    def _write_stubs(self, bin_folder: Path, stubs: Path) -> None:
        # The recipes say which report and which engine; its Python is the tests' own.
        options = self._models
        for name in ("--engine", "--perf-report"):
            place = options.index(name)
            options = options[:place] + options[place + 2 :]
        values = {
            "notes": self.notes,
            "stubs": stubs,
            "python": sys.executable,
            "options": options,
        }
        programs = {
            bin_folder / "python3": _PYTHON,
            bin_folder / "buildkite-agent": _NOTES_INPUT,
            stubs / "python": _PYTHON,
            stubs / "perfgate": _PERFGATE,
            stubs / "pytest": _PYTEST,
        }
        for path, text in programs.items():
            path.write_text(text.format(name=path.name, **values))
            path.chmod(0o755)

    def git(self, *arguments: str) -> str:
        """Run git in the checkout; returns what it prints."""
        name = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(
            ["git", *name, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def _commit(self, name: str) -> str:
        (self.folder / "version").write_text(name)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", name)
        return self.git("rev-parse", "HEAD")

    def copy(self, name: str, place: str) -> None:
        """Put a file of docs/ci where a recipe wants it."""
        target = self.folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((FOLDER / name).read_bytes())
        target.chmod(0o755)

    def note(self, name: str) -> str:
        """What a stub noted; "" if it was not called."""
        path = self.notes / name
        return path.read_text() if path.exists() else ""

    def run(
        self, steps: Sequence[Step], **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a job's steps; returns the first that failed, else the last one."""
        failed = None
        done = None
        for step in steps:
            if failed is not None and not step.always:
                continue
            done = self._run(step, variables)
            if done.returncode and failed is None:
                failed = done
        assert done is not None
        return failed or done

    def _run(
        self, step: Step, variables: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PERFGATE_", "GITHUB_", "CI"))
        }
        env |= {
            "PATH": self._path,
            "PYTHONPATH": str(ROOT),
            "FAKE_GPUS": "2",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PERFGATE_LEASES_DIR": str(self.shared / "leases"),
        }
        for name, value in {**step.env, **variables}.items():
            env[name] = value.replace(SHARED, str(self.shared))
        # As GitHub and GitLab run it.
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step.script],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )


def document(name: str) -> Any:
    """A recipe in YAML."""
    return yaml.safe_load((FOLDER / name).read_text())


def of_github(
    name: str, job: str, expressions: Mapping[str, str]
) -> Iterator[Step]:
    """The steps of a workflow's job that run something.

    Args:
        expressions: what `${{ ... }}` stands for; each that is used must be there.
    """

    def filled(value: object) -> str:
        return EXPRESSION.sub(lambda found: expressions[found[1]], str(value))

    jobs = document(name)["jobs"]
    common = jobs[job].get("env", {})
    for step in jobs[job]["steps"]:
        if "run" not in step:
            continue
        env = {}
        for key, value in {**common, **step.get("env", {})}.items():
            env[key] = filled(value)
        yield Step(filled(step["run"]), env, always="if" in step)


def of_gitlab(name: str, *jobs: str) -> Iterator[Step]:
    """The lines of a job, with those of the jobs that it extends before it."""
    content = document(name)
    merged: dict[str, Any] = {"variables": {}}
    for job in jobs:
        variables = merged["variables"] | content[job].get("variables", {})
        merged |= content[job] | {"variables": variables}
    env = merged["variables"]
    lines = [*merged.get("before_script", []), *merged["script"]]
    yield Step("\n".join(lines), env)
    if "after_script" in merged:
        yield Step("\n".join(merged["after_script"]), env, always=True)


def of_buildkite(name: str) -> Step:
    """The only step of a pipeline, as its agent runs it: `$$` is `$`."""
    (step,) = document(name)["steps"]
    script = "\n".join(step["commands"]).replace("$$", "$")
    return Step(script, step["env"])


def of_kubernetes(name: str, runs: Path, pod: str) -> Step:
    """The command of the only container of a Job; its volume is a folder."""
    documents = yaml.safe_load_all((FOLDER / name).read_text())
    (job,) = [row for row in documents if row["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    words = [*container["command"], *container["args"]]
    script = shlex.join(words).replace("$(POD_NAME)", pod)
    env = {}
    for variable in container["env"]:
        if "value" in variable:
            env[variable["name"]] = variable["value"].replace(
                "/runs", str(runs)
            )
    return Step(script.replace("/runs", str(runs)), env)
