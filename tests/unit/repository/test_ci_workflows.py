"""Workflows in docs/ci: they can be used as they are."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.support import outside

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "docs" / "ci"
BIN = Path(sys.executable).parent
SITE = sysconfig.get_paths()["purelib"]
# Of `perfgate comment`, which the recipes call beside pytest.
OPTIONS_OF_COMMENT = ("--post", "--link", "--number", "--context")
# Of `perfgate fleet run`, likewise.
OPTIONS_OF_FLEET = ("--address", "--run-dir", "--launches", "--gate")
CHECKS = {
    "github-actions.yml": [
        BIN / "check-jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
    ],
    "gitlab-ci.yml": [
        BIN / "check-jsonschema",
        "--builtin-schema",
        "vendor.gitlab-ci",
        "--data-transform",
        "gitlab-ci",
    ],
    "slurm.sh": [BIN / "shellcheck"],
    "compare-builds.sh": [BIN / "shellcheck"],
    "engine-pull-request.yml": [
        BIN / "check-jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
    ],
    "engine-merge-request.yml": [
        BIN / "check-jsonschema",
        "--builtin-schema",
        "vendor.gitlab-ci",
        "--data-transform",
        "gitlab-ci",
    ],
    "buildkite.yml": [
        BIN / "check-jsonschema",
        "--builtin-schema",
        "vendor.buildkite",
    ],
    "ray-job.yaml": [
        BIN / "check-jsonschema",
        "--schemafile",
        ROOT / "tests" / "data" / "ray_job.schema.json",
    ],
    "slurm-fleet.sh": [BIN / "shellcheck"],
    "kubernetes.yaml": [BIN / "kubernetes-validate", "--strict"],
    "Dockerfile": [BIN / "hadolint"],
}


def test_every_workflow_is_checked():
    """No workflow is shipped without its check."""
    shipped = {path.name for path in FOLDER.iterdir() if path.suffix != ".md"}

    assert set(CHECKS) == shipped


@pytest.mark.parametrize("name", CHECKS)
def test_workflow_is_valid(name):
    """Its linter or schema has nothing to say."""
    done = subprocess.run(
        [*CHECKS[name], FOLDER / name],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr


# That of the image is run below.
@pytest.mark.parametrize("name", sorted(CHECKS.keys() - {"Dockerfile"}))
def test_options_exist(name, pytestconfig):
    """Each pytest option that a workflow names is one of the suite's."""
    text = (FOLDER / name).read_text()
    known = {
        option
        for action in pytestconfig._parser._anonymous.options
        for option in action.names()
    }
    known |= {
        option
        for group in pytestconfig._parser._groups
        for action in group.options
        for option in action.names()
    }
    known |= {*OPTIONS_OF_COMMENT, *OPTIONS_OF_FLEET}
    for command in re.findall(
        r"^.*(?:pytest|perfgate) .*$", text, re.MULTILINE
    ):
        named = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", command))
        assert set() == named - known, command


def test_a_pod_is_interrupted_before_it_ends():
    """SIGTERM does not reach pytest there: it is the first process of its container."""
    documents = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    (job,) = [row for row in documents if row["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    command = container["lifecycle"]["preStop"]["exec"]["command"]

    assert ["sh", "-c", "kill -INT 1"] == command


def test_pods_of_the_ray_job_are_valid(tmp_path):
    """Each template is a pod of Kubernetes, on hosts of two kinds."""
    job = yaml.safe_load((FOLDER / "ray-job.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for number, group in enumerate(groups):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "x"},
            "spec": group["template"]["spec"],
        }
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(pod))
        done = subprocess.run(
            [BIN / "kubernetes-validate", "--strict", path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stdout + done.stderr
    names = [group["groupName"] for group in cluster["workerGroupSpecs"]]
    assert ["h200", "h100"] == names


def test_the_image_starts_the_suite(tmp_path, wheel_folder):
    """Its lines make an environment that has perfgate, where its default arguments are known."""
    place = tmp_path / "opt" / "perfgate"
    lines = dockerfile(str(place))
    done = shell(
        lines["RUN"],
        PIP_NO_INDEX="1",
        PIP_NO_DEPS="1",
        PIP_FIND_LINKS=str(wheel_folder),
    )
    assert 0 == done.returncode, done.stderr

    # The wheel's own requirements are those of the environment of these tests.
    (packages,) = place.glob("lib/python3*/site-packages")
    (packages / "others.pth").write_text(f"{SITE}\n")
    program, *arguments = json.loads(lines["ENTRYPOINT"])
    assert str(place / "bin" / "pytest") == program
    default = json.loads(lines["CMD"])
    python = place / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pytest", *arguments, *default, "--plan"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "performance gate: plan" in done.stdout, done.stdout + done.stderr


def dockerfile(place):
    """Instruction -> its text, with another folder for /opt/perfgate, and this Python."""
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        lines[name] = rest.replace("/opt/perfgate", place).replace(
            "${PYTHON}", sys.executable
        )
    return lines


def shell(script, **variables):
    """Run a line as the builder of an image does."""
    return subprocess.run(
        ["sh", "-c", script],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_hashed_requirements_are_installed_alone(name):
    """Where one package has a hash, pip refuses each that is named without one."""
    text = (FOLDER / name).read_text().replace("\\\n", " ")
    for words in re.findall(r"pip install (.*-r requirements\.txt.*)", text):
        assert ["-r", "requirements.txt"] == words.split()[-2:], words
        assert "==" not in words


@pytest.fixture
def wheel_folder(tmp_path):
    """A folder with the wheel of this project."""
    pytest.importorskip("pip")
    return outside.build_wheel(tmp_path / "wheel").parent


# A python3 whose environments lack perfgate until pip has installed the project.
SLOW_PYTHON = """#!/bin/sh
case "$*" in
"-m venv"*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/ray";;
*"-r requirements.txt"*) echo "$@" >> pip; cp "$0" .venv/bin/pytest; /bin/sleep 0.5;;
*"-e ."*) cp "$0" .venv/bin/perfgate;;
esac
test ! -e .venv/bin/pytest || test -e .venv/bin/perfgate || test "$2" = pip
"""


def slurm_jobs(folder, name, count=1):
    """Start that many jobs of a script at once; returns how they end."""
    program = folder / "bin" / "python3"
    program.parent.mkdir()
    program.write_text(SLOW_PYTHON)
    program.chmod(0o755)
    for stub in ("srun", "sleep"):
        (program.parent / stub).symlink_to("/bin/true")
    path = f"{program.parent}:{os.environ['PATH']}"
    variables = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "PATH": path}
    jobs = [
        subprocess.Popen(
            ["bash", FOLDER / name], cwd=folder, env=os.environ | variables
        )
        for _ in range(count)
    ]
    return [job.wait(60) for job in jobs]


@pytest.mark.parametrize("name", ["slurm.sh", "slurm-fleet.sh"])
def test_slurm_jobs_that_begin_at_once_install_once(tmp_path, name):
    """As the tasks of an array do, in one folder; none starts what is half there."""
    assert [0, 0, 0] == slurm_jobs(tmp_path, name, 3)

    assert 1 == len((tmp_path / "pip").read_text().splitlines())


@pytest.mark.parametrize("name", ["slurm.sh", "slurm-fleet.sh"])
def test_a_slurm_job_installs_again_what_was_cut_short(tmp_path, name):
    """The job before had pytest and ray, and had not come to perfgate."""
    for program in ("python", "pytest", "ray"):
        path = tmp_path / ".venv" / "bin" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\nexit 4\n")
        path.chmod(0o755)

    assert [0] == slurm_jobs(tmp_path, name)


class Engine:
    """A repository with two commits, and stubs of the suite, which note their arguments."""

    def __init__(self, folder):
        self.folder = folder
        self.builds = folder / "builds"
        self.source = folder / "engine"
        self.source.mkdir()
        self._git("init", "--quiet")
        self.base = self._commit("1.0")
        self.head = self._commit("1.1")
        suite = folder / "suite" / "bin"
        suite.mkdir(parents=True)
        stub = suite / "pytest"
        stub.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/arguments\n'
        )
        stub.chmod(0o755)
        (suite / "perfgate").symlink_to(stub)

    def _git(self, *arguments):
        command = [
            "git",
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            *arguments,
        ]
        done = subprocess.run(
            command, cwd=self.source, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def _commit(self, version):
        (self.source / "version").write_text(version)
        self._git("add", "version")
        self._git("commit", "--quiet", "-m", version)
        return self._git("rev-parse", "HEAD")

    def tag(self, name, commit):
        """Name a commit as a release."""
        self._git("tag", name, commit)

    def compare(
        self, *arguments, install='cp version "$PYTHON.version"', **variables
    ):
        """Run the script; returns what it ended with."""
        return subprocess.run(
            ["bash", FOLDER / "compare-builds.sh", *arguments],
            cwd=self.source,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ
            | {
                "PERFGATE_BUILDS": str(self.builds),
                "PERFGATE_SUITE": str(self.folder / "suite"),
                "PERFGATE_INSTALL": install,
                "PERFGATE_MARK": "h200",
            }
            | variables,
        )

    @property
    def arguments(self):
        """Those of the suite."""
        return (self.folder / "arguments").read_text().splitlines()


def test_two_commits_are_built_and_compared(tmp_path):
    """Each in an environment of its own; the candidate is the head."""
    engine = Engine(tmp_path)
    done = engine.compare("vllm", engine.base, "HEAD", "-k", "single")

    assert 0 == done.returncode, done.stderr
    values = engine.arguments
    candidate = values[values.index("--engine-python") + 1]
    base = values[values.index("--against-engine") + 1]
    versions = []
    for python in (base, candidate):
        path = Path(python.removeprefix("vllm="))
        assert path.is_file()
        versions.append(Path(f"{path}.version").read_text())
    assert ["1.0", "1.1"] == versions
    assert ["-m", "h200", "-k", "single"] == [*values[2:4], *values[-2:]]


def test_a_commit_is_built_once_and_a_broken_build_again(tmp_path):
    """Minutes are spent only on what is new."""
    engine = Engine(tmp_path)
    broken = engine.compare("vllm", engine.base, "HEAD", install="exit 7")
    first = engine.compare("vllm", engine.base, "HEAD")
    second = engine.compare("vllm", engine.base, "HEAD")

    assert 7 == broken.returncode
    assert 2 == first.stderr.count("building vllm")
    assert 0 == second.stderr.count("building vllm")


def test_a_build_knows_its_version_by_git(tmp_path):
    """As engines do by setuptools-scm, from tags; from a folder below, too."""
    engine = Engine(tmp_path)
    engine.tag("v1.0", engine.base)
    (engine.source / "docs").mkdir()
    engine.source /= "docs"
    done = engine.compare(
        "vllm",
        engine.base,
        "HEAD",
        install='git describe --tags > "$PYTHON.version"',
    )

    assert 0 == done.returncode, done.stderr
    versions = [
        path.read_text().strip()
        for path in engine.builds.glob("vllm-*/environment/bin/*.version")
    ]
    assert ["v1.0", f"v1.0-1-g{engine.head[:7]}"] == sorted(versions)


def test_jobs_that_begin_at_once_build_in_turn(tmp_path):
    """Two requests with one merge base; neither removes what the other one builds."""
    engine = Engine(tmp_path)
    slow = 'sleep 0.5 && cp version "$PYTHON.version"'
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(
                engine.compare, "vllm", engine.base, "HEAD", install=slow
            )
            for _ in range(2)
        ]
    done = [job.result() for job in jobs]

    assert [0, 0] == [job.returncode for job in done], done
    assert 2 == sum(job.stderr.count("building vllm") for job in done)


def test_a_suite_that_was_cut_short_is_made_again(tmp_path):
    """The job before had pytest, and had not come to perfgate."""
    engine = Engine(tmp_path)
    program = engine.builds / "suite" / "bin" / "pytest"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexit 4\n")
    program.chmod(0o755)
    # Without a network nothing can be installed: it is tried.
    done = engine.compare(
        "vllm",
        engine.base,
        "HEAD",
        PERFGATE_SUITE="",
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS="",
    )

    assert "perfgate" in done.stderr
    assert not program.exists()


def test_an_unknown_commit_is_an_error(tmp_path):
    """Nothing is built, and nothing is launched."""
    engine = Engine(tmp_path)
    done = engine.compare("vllm", "no-such-commit", "HEAD")

    assert 0 != done.returncode
    assert not engine.builds.exists()
