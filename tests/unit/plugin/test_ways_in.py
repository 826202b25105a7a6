"""Pytest's own ways in: variables, root directories, and options of other plugins.

Plugins that are not installed are simulated by a module with the same option.
"""

from __future__ import annotations

import pytest

from perfgate.results.schema import load
from tests.support.projects import CONFTEST, H200, ROOT, outcomes

pytest_plugins = ["pytester"]

# The option of each plugin, as its own `pytest_addoption` declares it.
SIMULATED = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--reruns", action="store", dest="reruns", type=int)
    parser.addini("reruns", "reruns")
    parser.addoption("--forked", action="store_true", dest="forked")
    parser.addoption("--timeout", type=float)
    parser.addini("timeout", "timeout")

def pytest_configure(config):
    config.addinivalue_line("markers", "timeout(s): the limit of one test")

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    marker = item.get_closest_marker("timeout")
    limit = item.config.option.timeout
    if marker is not None:
        limit = marker.args[0]
    print(f"LIMIT {item.name} {limit}")
    return (yield)
"""


def simulated(pytester):
    """The plugins, and the option that loads them."""
    pytester.makepyfile(simulated=SIMULATED)
    return "-p", "simulated"


def refused(result, *told):
    """Refused at once, with these words."""
    assert pytest.ExitCode.USAGE_ERROR == result.ret, result.stdout.str()
    shown = " ".join(result.stderr.str().split())
    assert "Traceback" not in shown
    for part in told:
        assert part in shown


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--reruns", "2"], ["--reruns with perf tests", "judged once"]),
        (["-o", "reruns=1"], ["--reruns with perf tests", "-p no:rerunf"]),
        (["--forked"], ["--forked with perf tests", "ends with it"]),
    ],
)
def test_what_repeats_or_forks_tests_is_refused(
    project, pytester, options, told
):
    """Before a server is launched; tests without a platform are left alone."""
    loaded = simulated(pytester)

    refused(project("-m", "cpu", *loaded, *options), *told)
    alone = project("tests/test_unit.py", *loaded, *options)
    assert pytest.ExitCode.OK == alone.ret, alone.stdout.str()


def test_workers_of_tx_are_refused(project):
    """As those of -n are on a CPU."""
    result = project("-m", "cpu", "-d", "--tx", "2*popen")

    refused(result, "--tx 2*popen", "write -n N in place of --tx")


def test_a_time_limit_does_not_end_perf_tests(project, pytester):
    """The first test of a server launches it; a line says that the limit is lifted."""
    loaded = simulated(pytester)
    case = "llama-small-tp2 and closed-c16 and output_throughput and not over"
    result = project("-m", "cpu", *loaded, "--timeout=0.5", "-s", "-k", case)

    assert pytest.ExitCode.OK == result.ret, result.stdout.str()
    result.stdout.fnmatch_lines(
        ["perfgate: --timeout=0.5 does not end perf tests*--stall-timeout"]
    )
    limits = [
        line.split()[-1]
        for line in result.outlines
        if line.startswith("LIMIT ")
    ]
    assert limits
    assert {"0"} == set(limits)


def test_a_gate_of_addopts_is_a_gate(project, monkeypatch):
    """Where it would judge nothing it is refused, as on the command line."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "--gate=required")

    refused(project(), "--gate=required", "no platform is selected", "-m cpu")


def test_a_platform_and_its_options_may_come_from_addopts(project, monkeypatch):
    """They are options like those of the command line."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-m cpu --tp 0")

    refused(project(), "--tp 0", "the minimum is 1")


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_a_root_directory_elsewhere_is_refused(
    project, pytester, monkeypatch, tmp_path_factory, way
):
    """The project's baselines would not count, and its runs would lie elsewhere."""
    other = tmp_path_factory.mktemp("other")
    option = f"--rootdir={other}"
    if way == "variable":
        monkeypatch.setenv("PYTEST_ADDOPTS", option)
        result = project("-m", "cpu", "--plan")
    else:
        result = project("-m", "cpu", "--plan", option)

    refused(result, option, str(pytester.path), "leave --rootdir out")
    assert [] == list(other.iterdir())


def test_the_projects_own_root_directory_is_none_of_these(project, pytester):
    """Some tools always write it."""
    result = project("-m", "cpu", "--plan", f"--rootdir={pytester.path}")

    assert pytest.ExitCode.OK == result.ret, result.stderr.str()


def test_a_checkout_that_cannot_be_written_ends_with_a_summary(pytester):
    """Also one whose warnings are errors: pytest's cache is no reason to lose the verdicts."""
    (pytester.path / "pytest.ini").write_text((ROOT / "pytest.ini").read_text())
    (pytester.path / "tests").mkdir()
    (pytester.path / "tests" / "test_one.py").write_text(
        "def test_one(): pass\n"
    )

    result = pytester.runpytest_subprocess("-o", "cache_dir=/proc/nowhere")

    assert 0 == result.ret
    result.stdout.fnmatch_lines(["*could not*cache*", "*1 passed*"])


# Others deselect after all hooks that modify the items, as --lf does in a named file.
LATEST = """
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config, items):
    yield
    config.hook.pytest_deselected(items=items[1:])
    items[:] = items[:1]
"""


def test_what_others_deselect_last_is_not_selected(gpus, pytester):
    """It is not measured, and no reason to call the run cut off."""
    pytester.makepyfile(latest=LATEST)

    result = gpus(*H200, "-p", "latest", "--run-dir", "run")

    run = load(pytester.path / "run")
    assert 1 == len(run.cases) == len(run.verdicts)
    assert ["closed"] == list(run.workloads)
    assert run.is_whole
    assert (
        "3 cases not selected (-k, -m, --lf, or a test id)",
    ) == run.left_out
    assert "ended early" not in result.stdout.str()


def test_an_option_named_timeout_of_ones_own_is_no_time_limit(gpus, pytester):
    """The marker of pytest-timeout is unknown then, and --strict-markers refuses it."""
    text = (
        "def pytest_addoption(parser):\n"
        "    parser.addoption('--timeout', type=float, default=600)\n"
    )
    pytester.makeconftest(CONFTEST + text)

    result = gpus(*H200, "-k", "test_closed")

    assert {"skipped": 2} == outcomes(result), result.stdout.str()
    assert "does not end perf tests" not in result.stdout.str()


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "junit_family=xunit2", "--junitxml=tests.xml"),
        ("-p", "no:junitxml"),
    ],
)
def test_verdicts_are_properties_in_any_family_of_junit(
    gpus, pytester, options
):
    """Also where warnings are errors, and where nobody reads them."""
    ini = (pytester.path / "pytest.ini").read_text()
    ini = ini.replace("junit_family = xunit1\n", "")
    (pytester.path / "pytest.ini").write_text(ini)

    result = gpus(*H200, "-k", "test_closed", *options)

    assert {"skipped": 2} == outcomes(result), result.stdout.str()
    if "--junitxml=tests.xml" in options:
        text = (pytester.path / "tests.xml").read_text()
        assert 2 == text.count('name="outcome" value="NO_BASELINE"')
