"""Outside the checkout: the wheel, a project of somebody's own, and a repository that is none.

The wheel is built once and installed into a virtual environment. Nothing of the
checkout can be imported there.
"""

from __future__ import annotations

import importlib.metadata
import re
import zipfile

import pytest

from perfgate.results.schema import load
from tests.support import outside, studies
from tests.support.checkpoints import hollow
from tests.support.outside import content, write
from tests.support.projects import ROOT

GPU_CASES = {
    f"fake-{model}-tp1/quick/itl_median_ms"
    for model in ("llama-3.1-8b", "mixtral-8x7b")
}
PROJECT = """
# About twenty lines: where things lie, and what is asked of them.
tests = ["perf"]
shipped_baselines = false
"""
QUESTION = """
import pytest
from perfgate.cases import Load
from perfgate.load.workload import Synthetic, Workload

QUICK = Workload(
    name="quick",
    prompts=Synthetic(input_len_tokens=8, output_len_tokens=10),
    num_prompts=8,
    max_concurrency=4,
    repetitions=1,
)

def quick(study):
    for server in study.models:
        yield study.value("own", "itl_median_ms", server, QUICK)

def ratio(study):
    if not study.gpu_count:
        of, over = (Load(server=server, workload=QUICK) for server in study.models)
        yield study.ratio("own", "itl_median_ms", of, over)

@pytest.mark.perf(cases=quick)
def test_quick(check, case):
    check(case)

@pytest.mark.perf(cases=ratio)
def test_ratio(check, case):
    check(case)
"""
RATIO = "fake-mixtral-small-tp2--over--fake-llama-small-tp2/quick/itl_median_ms"
CONFTEST = """
def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line("conftest was read")
"""
HEADER = """
def pytest_report_header():
    return "header of conftest.py"
"""
FOREIGN = """
import pytest

@pytest.mark.gpu
def test_gpu(): pass

@pytest.mark.cpu
def test_cpu(): pass

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.perf
@pytest.mark.parametrize("case", [1, 2])
def test_perf(case): pass

@pytest.fixture
def check(): return 3

def test_check(check): assert check == 3
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory, installed):
    """What selects the fake engine, and models whose weights are hollow."""
    folder = tmp_path_factory.mktemp("models")
    words = ["--engine", "fake", "--engine-python", f"fake={installed.python}"]
    for name in (
        "llama-small",
        "mixtral-small",
        "llama-3.1-8b",
        "mixtral-8x7b",
    ):
        shell = hollow(studies.SHIPPED.models[name], folder / name)
        words += ["--model-dir", f"{name}={shell}"]
    return words


def shipped_tests(done) -> str:
    """How many tests were collected, in pytest's words: "125/128"."""
    found = re.search(r"^(\d+)/\d+ tests collected", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout[-2000:]
    return found[1]


def test_the_wheel_is_whole(wheel):
    """It holds the study, its tests and figures, locks, plugins and templates, in one package."""
    names = set(zipfile.ZipFile(wheel).namelist())

    expected = {
        "perfgate/study/builtin/study.toml",
        "perfgate/study/builtin/families.toml",
        "perfgate/study/builtin/servers.py",
    }
    expected |= {
        f"perfgate/study/builtin/configs/{path.name}"
        for path in (ROOT / "fixtures/configs").glob("*.json")
    }
    expected |= {
        f"perfgate/study/tests/{path.name}"
        for path in (ROOT / "tests/perf").glob("*.py")
    }
    for path in (ROOT / "baselines").rglob("*.json"):
        expected.add(
            f"perfgate/study/baselines/{path.relative_to(ROOT / 'baselines')}"
        )
    for path in (ROOT / "perfgate").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            expected.add(str(path.relative_to(ROOT)))
    assert set() == expected - names
    tops = {name.partition("/")[0] for name in names}
    assert {"perfgate"} == {
        name for name in tops if not name.endswith(".dist-info")
    }


@pytest.mark.parametrize("order", ["before", "after"])
def test_it_works_with_the_package_fixtures(tmp_path, wheel, order):
    """Whichever is installed first, both work, and no file belongs to both."""
    made = outside.bare_environment(tmp_path / "env", tmp_path / "fakes")
    steps = [
        lambda: made.install("fixtures"),
        lambda: made.install("--no-deps", wheel),
    ]
    if order == "after":
        steps.reverse()
    for step in steps:
        done = step()
        if (
            "No matching distribution" in done.stderr
            or "Connection" in done.stderr
        ):
            pytest.skip(
                f"PyPI cannot be reached: {done.stderr.splitlines()[-1]}"
            )
        assert 0 == done.returncode, done.stderr

    works = "import fixtures, perfgate.plugin; fixtures.TempDir"
    assert 0 == made.run(tmp_path, "-c", works).returncode
    checked = made.run(tmp_path, "-m", "pip", "check")
    assert 0 == checked.returncode, checked.stdout
    assert set() == files_of("perfgate", made) & files_of("fixtures", made)


def files_of(name: str, made: outside.Environment) -> set[str]:
    """The files that a distribution has put into an environment."""
    (found,) = importlib.metadata.distributions(
        name=name, path=[str(made.packages)]
    )
    return {str(file) for file in found.files}


def test_the_checkout_is_not_there(installed, tmp_path):
    """What these tests run is the wheel."""
    code = "import perfgate; print(perfgate.__file__); import tests"

    done = installed.run(tmp_path, "-c", code)

    assert (
        str(installed.packages / "perfgate" / "__init__.py")
        == done.stdout.splitlines()[0]
    )
    assert "No module named 'tests'" in done.stdout


def test_a_project_in_an_empty_folder(installed, options, tmp_path):
    """From the plan to the history all works, and nothing is written outside the project."""
    write(
        tmp_path, {"perfgate.toml": PROJECT, "conftest.py": installed.conftest}
    )
    write(tmp_path, {"perf/test_own.py": QUESTION})
    before = content(installed.packages / "perfgate")

    plan = installed.pytest(tmp_path, "-m", "cpu", "--plan", *options)
    looked = installed.pytest(
        tmp_path, "-m", "cpu", "--collect-only", "-q", *options
    )
    assert (0, 0) == (plan.returncode, looked.returncode), (
        plan.stdout + looked.stdout
    )
    assert "fake-llama-small-tp2" in plan.stdout
    assert f"test_ratio[cpu-{RATIO}]" in looked.stdout
    assert not (tmp_path / "runs").exists()

    for number in range(2):
        asked = (
            "-m",
            "cpu",
            "--baseline-record",
            "--perf-report",
            "no",
            "--run-dir",
        )
        first = installed.pytest(
            tmp_path, *asked, f"runs/first-{number}", *options
        )
        assert 0 == first.returncode, first.stdout
    accepted = installed.perfgate(
        tmp_path, "accept", "runs/first-0", "runs/first-1"
    )
    assert 0 == accepted.returncode, accepted.stdout
    again = installed.pytest(
        tmp_path, "-m", "cpu", "--run-dir", "runs/again", *options
    )

    assert 0 == again.returncode, again.stdout
    outcomes = {
        row.case: row.outcome for row in load(tmp_path / "runs/again").verdicts
    }
    assert "PASSED" == outcomes[RATIO]
    judged = installed.perfgate(tmp_path, "judge", "runs/again")
    history = installed.perfgate(tmp_path, "history", RATIO)
    assert (0, 0) == (judged.returncode, history.returncode), (
        judged.stdout + history.stdout
    )
    assert 3 == len(re.findall(r"\b20\d{6}-\d{6}-\d+", history.stdout)), (
        history.stdout
    )
    made = content(tmp_path)
    assert {
        "runs/history.sqlite3",
        "runs/again/results.json",
        "runs/again/report.html",
    } <= made
    assert any(name.startswith("baselines/cpu-") for name in made)
    assert before == content(installed.packages / "perfgate")


def test_commands_know_the_project(installed, tmp_path):
    """Their own version, and where engines of this project would lie, also from a sub-folder."""
    write(
        tmp_path,
        {
            "perfgate.toml": PROJECT,
            "perf/test_own.py": QUESTION,
            "sub/a.txt": "",
        },
    )

    version = installed.run(tmp_path, "-m", "perfgate", "--version")
    doctor = installed.perfgate(tmp_path / "sub", "doctor")

    assert "perfgate, version " in version.stdout
    assert str(tmp_path / ".engines") in doctor.stdout


@pytest.fixture
def elsewhere(tmp_path_factory):
    """An empty folder: pytest also reads the conftest.py of folders below that are called test*."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.mark.parametrize("place", ["", "sub"])
@pytest.mark.parametrize(
    "kind", ["empty file", "pyproject", "environment inside"]
)
def test_the_shipped_tests_are_found(
    installed, wheel, tmp_path, elsewhere, kind, place
):
    """All of them, and the project's conftest.py is read, wherever pytest is started."""
    made = installed
    files = {"perfgate.toml": "", "sub/a.txt": "", "conftest.py": CONFTEST}
    if kind == "pyproject":
        del files["perfgate.toml"]
        files["pyproject.toml"] = "[tool.perfgate]\nshipped_baselines = false\n"
    if kind == "environment inside":
        made = outside.environment(
            tmp_path / ".venv", wheel, tmp_path.parent / "fakes"
        )
    # A test file that is called as a shipped one is somebody's own.
    files["tests/test_engines.py"] = "def test_own(): pass\n"
    write(tmp_path, files)
    look = ("-m", "cpu", "--collect-only", "-q")
    everywhere = installed.pytest(
        elsewhere, "--pyargs", "perfgate.study", *look
    )

    looked = made.pytest(tmp_path / place, *look)
    own = made.pytest(tmp_path, "-q")

    assert 0 == looked.returncode, looked.stdout
    assert shipped_tests(everywhere) == shipped_tests(looked)
    assert 100 < int(shipped_tests(looked))
    assert "conftest was read" in looked.stdout
    assert "1 passed" in own.stdout, own.stdout


@pytest.mark.parametrize("way", ["space", "equals sign", "variable", "file"])
@pytest.mark.parametrize(
    "option", ["--study", "--baselines", "--run-dir", "--history", "--units"]
)
def test_an_option_with_a_path_elsewhere_keeps_the_project(
    installed, tmp_path, elsewhere, option, way
):
    """However it is given: pytest.ini, conftest.py and the paths of tests are its own."""
    ini = "[pytest]\ntestpaths = perf\nmarkers = own: of this project\n"
    files = {"perfgate.toml": PROJECT, "pytest.ini": ini}
    files["conftest.py"] = HEADER
    write(tmp_path, files | {"perf/test_own.py": QUESTION})
    value = elsewhere
    if option in ("--study", "--history", "--units"):
        value = elsewhere / "file"
        value.write_text('like = "shipped"\n')
    words, variables = [option, str(value)], {}
    if way == "equals sign":
        words = [f"{option}={value}"]
    elif way == "variable":
        variables["PYTEST_ADDOPTS"] = f"{option} {value}"
        words = []
    elif way == "file":
        (elsewhere / "words").write_text(f"{option}\n{value}\n")
        words = [f"@{elsewhere / 'words'}"]

    done = installed.pytest(
        tmp_path, *words, "-m", "cpu and not own", "--collect-only", **variables
    )

    assert 0 == done.returncode, done.stdout
    for line in ("header of conftest.py", f"rootdir: {tmp_path}"):
        assert line in done.stdout.splitlines(), done.stdout
    assert "configfile: pytest.ini" in done.stdout
    assert "test_quick" in done.stdout


def test_the_shipped_tests_need_no_project(installed, tmp_path):
    """--pyargs perfgate.study, or --study shipped, plans them in any folder, and writes nothing."""
    for words in (("--pyargs", "perfgate.study"), ("--study", "shipped")):
        done = installed.pytest(tmp_path, *words, "-m", "h200", "--plan")

        assert 0 == done.returncode, done.stdout
        assert "vllm-mixtral-8x7b-tp2" in done.stdout
    assert set() == content(tmp_path)


def test_workers_find_the_same_tests(installed, options, tmp_path):
    """With -n 2 on two GPUs, started from a sub-folder: one run, each server launched once."""
    files = {
        "perfgate.toml": PROJECT,
        "conftest.py": installed.conftest,
        "sub/a.txt": "",
    }
    write(tmp_path, files | {"perf/test_own.py": QUESTION})

    asked = ("-m", "h200", "--tp", "1", "-n", "2", "--perf-report", "no")
    done = installed.pytest(tmp_path / "sub", *asked, *options, FAKE_GPUS="2")

    assert 0 == done.returncode, done.stdout
    (run,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    results = load(run)
    assert GPU_CASES == {row.case for row in results.verdicts}
    assert [0, 0] == [launch.index for launch in results.launches]
    assert not (tmp_path / "sub" / "runs").exists()


LOOKS = (
    ("-q",),
    ("-q", "-m", "foo"),
    ("-q", "-k", " or ".join(["test_gpu or test_cpu"] * 20)),
    ("-q", "-m", "gpu"),
    ("-q", "-m", "not slow", "--strict-markers"),
    ("-q", "-n", "2"),
    ("--markers",),
    ("--fixtures",),
    ("--help",),
)


def said(done) -> list[str]:
    """What pytest said, line by line, less the plugins' names and the time."""
    text = re.sub(r"(?m)^plugins: .*\n", "", done.stdout)
    text = re.sub(
        r"\d{8}_\d{6}", "NOW", text
    )  # in the help of pytest-benchmark
    return re.sub(r"\d+\.\d+s", "SECONDS", text).splitlines()


def test_somebody_elses_repository_is_left_alone(installed, tmp_path):
    """Without a project file pytest says what it says without the plugin, whatever it is asked."""
    write(
        tmp_path,
        {"tests/test_engines.py": FOREIGN, "tests/test_memory.py": FOREIGN},
    )

    for words in LOOKS:
        plugged = installed.pytest(tmp_path, *words)
        plain = installed.pytest(tmp_path, "-p", "no:perfgate.plugin", *words)

        assert (plain.returncode, said(plain)) == (
            plugged.returncode,
            said(plugged),
        ), words
    registered = "[pytest]\nmarkers =\n    gpu\n    cpu\n    slow\n    perf\n"
    write(tmp_path, {"pytest.ini": registered})
    strict = installed.pytest(tmp_path, "--strict-markers", "-q")
    assert "12 passed" in strict.stdout
    own = {
        "pytest.ini",
        "tests",
        "tests/test_engines.py",
        "tests/test_memory.py",
    }
    assert own == content(tmp_path)


def test_names_of_options_are_free_elsewhere(installed, tmp_path):
    """A conftest.py may call its own options as perfgate calls its: nothing clashes."""
    conftest = """
def pytest_addoption(parser):
    parser.addoption("--engine")
    parser.addoption("--plan", action="store_true")
"""
    test = "def test_a(request): assert request.config.option.plan\n"
    write(tmp_path, {"conftest.py": conftest, "test_a.py": test})

    done = installed.pytest(tmp_path, "-q", "--plan", "--engine", "x")

    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.parametrize(
    "words", [("--plan",), ("--gate=required", "-m", "cpu"), ("--tp", "1")]
)
def test_an_option_without_a_project_says_what_is_missing(
    installed, tmp_path, words
):
    """Not only that pytest does not know it."""
    done = installed.pytest(tmp_path, *words)

    assert pytest.ExitCode.USAGE_ERROR == done.returncode
    assert "make one (touch perfgate.toml)" in done.stdout
