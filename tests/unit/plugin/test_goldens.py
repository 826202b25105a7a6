"""Golden tests of what users see: ten stored runs judged, reported, accepted; the fake suite.

The stored runs are judged by the baselines of the repository, so that new
baselines of their kinds of hardware change these texts too. No baseline lets a
known loss pass until a day: no verdict here depends on the date.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from perfgate.cli.main import main
from perfgate.results import schema as rundata
from tests.support.goldens import (
    ALWAYS,
    LIVE,
    MEANT,
    ROOT,
    compare,
    normalised,
    rounded,
    stale,
)
from tests.support.page_text import page_text

pytest_plugins = ["pytester"]

Perfgate = Callable[..., str]

RUNS = ROOT / "docs" / "runs"
BASELINES = ROOT / "baselines"
# What each stands for: green; pairs of two builds, delayed and not; two ranks,
# some cases not measured; green, but a value worse to accept; cut off;
# injected, found and not found; two GPUs with few launches recorded, without
# and with an injection.
STORED = (
    "h100x1-20261124a",
    "h100x1-pairs/delay",
    "h100x1-pairs/unchanged",
    "h100x2-20261125a",
    "h200x1-20261124a",
    "h200x1-20261125a",
    "h200x1-planted/eager/01",
    "h200x1-planted/untuned/01",
    "h200x2-20261128a",
    "h200x2-planted/no-custom-all-reduce",
)
# Of these the report is pinned as it was decided then, too: one of pairs, and
# one cut off.
AS_DECIDED = ("h100x1-pairs/delay", "h200x1-20261125a")
# Of this one every message is pinned at the terminal; the pages hold those of all.
TOLD_IN_FULL = "h200x1-planted/eager/01"
OF_A_RUN = (
    "judge.txt",
    "accept.txt",
    "accept-into-nothing.txt",
    "benchmark.txt",
    "report-judge/said.txt",
    "report-judge/page.txt",
    "report-judge/summary.md",
    "report-judge/junit.xml",
)
RATIO = "test_reference_over_model_throughput"
LIVE_RUNS = ("no-baseline", "unchanged", "delayed", "screened")
FILES_IN_FULL = 2  # of those that were accepted, the smallest


def golden_names() -> list[str]:
    """Every golden file that a test here compares."""
    names = ["fake/accept.txt", "fake/wrong-hardware.txt", "fake/plan.txt"]
    names += [f"runs/{TOLD_IN_FULL}/judge-verbose.txt"]
    for live in LIVE_RUNS:
        names += [
            f"fake/{live}.txt",
            f"fake/{live}-summary.md",
            f"fake/{live}-junit.xml",
        ]
    for run in STORED:
        for name in OF_A_RUN:
            names.append(f"runs/{run}/{name}")
            if run in AS_DECIDED and name.startswith("report-judge/"):
                names.append(
                    f"runs/{run}/{name.replace('report-judge', 'report')}"
                )
    return names


KNOWN = frozenset(golden_names())


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch):
    """The same width, and nothing of a CI service, a person's settings or GPUs."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in (
        "CI",
        "GITHUB_ACTIONS",
        "GITHUB_STEP_SUMMARY",
        "PERFGATE_GATE",
        "PERFGATE_HISTORY",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="module")
def loaded_once():
    """Each stored run is read from its file once, whatever is done with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rundata, "load", functools.cache(rundata.load))
        yield


@pytest.fixture
def perfgate(tmp_path):
    """Run a command; returns its exit code and its text, with places put by name."""

    def run(*words: object) -> str:
        done = CliRunner().invoke(main, [str(word) for word in words])
        if done.exception is not None and not isinstance(
            done.exception, SystemExit
        ):
            raise done.exception
        text = f"exit code {done.exit_code}\n{done.output}"
        return normalised(text, {tmp_path: "TMP", ROOT: "PROJECT"}, ALWAYS)

    return run


def xml_lines(text: str) -> str:
    """XML with a line for each element."""
    return text.replace("><", ">\n<")


@pytest.fixture
def live(project, pytester):
    """Run the fake suite and compare its words, from its failures or the gate's section on.

    Called with `files=False` it writes no report, else summary.md and junit.xml
    are compared too.
    """

    def run(name: str, *options: str, files: bool = True) -> None:
        folder = ["--perf-report=yes", "--run-dir", name] if files else []
        result = project(*options, *folder)
        said = f"exit code {result.ret}\n{gate_section(result.stdout.str())}"
        compare_live(f"{name}.txt", said, pytester.path)
        if files:
            written = pytester.path / name
            summary = (written / "summary.md").read_text(encoding="utf-8")
            junit = (written / "junit.xml").read_text(encoding="utf-8")
            compare_live(f"{name}-summary.md", summary, pytester.path)
            compare_live(f"{name}-junit.xml", xml_lines(junit), pytester.path)

    return run


def gate_section(text: str) -> str:
    """What pytest said from its failures, or from the gate's own section on."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if "= FAILURES =" in line or "= performance gate" in line:
            return "\n".join(lines[number:])
    return text


def compare_live(name: str, text: str, folder: Path) -> None:
    """Compare what a live run in that folder made."""
    python = Path(sys.executable)
    places = {folder: "TMP", python: "PYTHON", ROOT: "PROJECT"}
    compare(f"fake/{name}", normalised(text, places, (*ALWAYS, *LIVE)), KNOWN)


def test_recorded_unchanged_and_delayed(live, pytester):
    """The fake suite is NO_BASELINE at first; once accepted, PASSED; delayed, REGRESSED.

    Delayed and screened it is REGRESSED by pairs.
    """
    live("no-baseline", "-m", "cpu", "-k", RATIO, "--baseline-record")

    store = pytester.path / "baselines"
    recorded = str(pytester.path / "no-baseline")
    done = CliRunner().invoke(
        main, ["accept", recorded, "--baselines", str(store)]
    )
    said = f"exit code {done.exit_code}\n{done.output}\n"
    for path in sorted(store.rglob("*.json")):
        said += (
            f"--- {path.relative_to(store)}\n{path.read_text(encoding='utf-8')}"
        )
    compare_live("accept.txt", said, pytester.path)

    live("unchanged", "-m", "cpu", "-k", RATIO)
    live(
        "delayed",
        "-m",
        "cpu",
        "-k",
        RATIO,
        "--inject-delay",
        "mixtral-small=12",
    )
    live(
        "screened",
        "-m",
        "cpu",
        "-k",
        RATIO,
        "--inject-delay",
        "mixtral-small=12",
        "--against-engine",
        f"fake={sys.executable}",
        "--pairs",
        "suspect",
    )


def test_wrong_hardware(live):
    """Without the GPUs that are asked for every test is skipped, and a required gate fails."""
    live("wrong-hardware", "-m", "h200", "--gate=required", files=False)


def test_plan(live):
    """A plan names servers, loads and what is recorded, and measures nothing."""
    live("plan", "-m", "cpu", "-k", RATIO, "--plan", files=False)


def benchmark_lines(text: str) -> str:
    """A file of pytest-benchmark with a line for each benchmark, less what says nothing.

    Its form, and that nothing is hidden in what is left out, is checked here.
    """
    content = json.loads(text)
    assert text == json.dumps(content, indent=1) + "\n"
    lines = []
    options = set()
    for benchmark in content.pop("benchmarks"):
        options.add(json.dumps(benchmark.pop("options")))
        assert benchmark.pop("fullname") == benchmark["name"]
        assert (None, None) == (benchmark.pop("params"), benchmark.pop("param"))
        assert (
            len(benchmark["stats"].pop("data")) == benchmark["stats"]["rounds"]
        )
        lines.append(json.dumps(benchmark))
    return "\n".join([json.dumps(content), *sorted(options), *lines])


@pytest.mark.parametrize("run", STORED)
def test_judged(run, perfgate):
    """A stored run is judged with these words and exit codes; as a gate only the end differs."""
    said = perfgate("judge", RUNS / run)
    lines = said.splitlines()
    required = perfgate("judge", RUNS / run, "--required").splitlines()
    others = [line for line in required[1:] if line not in lines]
    text = "\n".join([said, f"with --required: {required[0]}", *others]) + "\n"
    compare(f"runs/{run}/judge.txt", text, KNOWN)


def test_judged_in_full(perfgate):
    """Asked for everything, a judged run shows every case and every message."""
    said = perfgate("judge", RUNS / TOLD_IN_FULL, "--verbose")
    compare(f"runs/{TOLD_IN_FULL}/judge-verbose.txt", said, KNOWN)


def report_of(run: str, folder: str, perfgate: Perfgate, out: Path) -> None:
    """Make the report of a stored run, anew or as then, and compare each of its files."""
    options = [] if folder == "report-judge" else ["--as-then"]
    nowhere = out / "no-history"
    said = perfgate(
        "report", RUNS / run, "--out", out, "--history", nowhere, *options
    )
    texts = {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(out.iterdir())
    }
    assert [
        "junit.xml",
        "pytest-benchmark.json",
        "report.html",
        "summary.md",
    ] == list(texts)
    readable = {
        f"{folder}/said.txt": said,
        f"{folder}/page.txt": page_text(texts["report.html"]),
        f"{folder}/summary.md": texts["summary.md"],
        f"{folder}/junit.xml": xml_lines(texts["junit.xml"]),
        "benchmark.txt": benchmark_lines(
            texts["pytest-benchmark.json"]
        ),  # holds no verdict
    }
    for name, text in readable.items():
        told = normalised(rounded(text), {ROOT: "PROJECT"}, ALWAYS)
        compare(f"runs/{run}/{name}", told, KNOWN)


@pytest.mark.parametrize("run", STORED)
def test_reported(run, perfgate, tmp_path):
    """A stored run makes these files with the verdicts of today's baselines."""
    report_of(run, "report-judge", perfgate, tmp_path)


@pytest.mark.parametrize("run", AS_DECIDED)
def test_reported_as_decided(run, perfgate, tmp_path):
    """A stored run makes these files with the verdicts that it was given then."""
    report_of(run, "report", perfgate, tmp_path)


def accepted_files(store: Path, before: Path | None) -> str:
    """What changed in a store: a digest of each file, and the smallest ones in full."""
    texts = {}
    for path in sorted(store.rglob("*.json")):
        name = path.relative_to(store)
        text = path.read_text(encoding="utf-8")
        kept = before / name if before is not None else path
        if (
            before is not None
            and kept.exists()
            and kept.read_text(encoding="utf-8") == text
        ):
            continue
        texts[str(name)] = normalised(rounded(text), {}, ALWAYS)
    lines = [f"{len(texts)} files changed"]
    for name, text in texts.items():
        lines.append(
            f"{hashlib.sha256(text.encode()).hexdigest()[:16]}  {name}"
        )
    for name in sorted(texts, key=lambda name: (len(texts[name]), name))[
        :FILES_IN_FULL
    ]:
        lines += [f"--- {name}", texts[name].rstrip("\n")]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("run", STORED)
def test_accepted(run, perfgate, tmp_path):
    """A stored run joins the baselines with these words and files, or is refused with these words.

    What is refused is tried once more with a reason.
    """
    store = tmp_path / "baselines"
    shutil.copytree(BASELINES, store)
    said = perfgate("accept", RUNS / run, "--baselines", store)
    if not said.startswith("exit code 0\n"):
        said += "\nwith a reason: "
        said += perfgate(
            "accept",
            RUNS / run,
            "--baselines",
            store,
            "--reason",
            "it is meant",
        )
    compare(
        f"runs/{run}/accept.txt",
        f"{said}\n{accepted_files(store, BASELINES)}",
        KNOWN,
    )


@pytest.mark.parametrize("run", STORED)
def test_accepted_into_nothing(run, perfgate, tmp_path):
    """A stored run founds a store with these words and files, or is refused with these words."""
    store = tmp_path / "baselines"
    store.mkdir()
    said = perfgate("accept", RUNS / run, "--baselines", store)
    text = f"{said}\n{accepted_files(store, None)}"
    compare(f"runs/{run}/accept-into-nothing.txt", text, KNOWN)


def test_no_golden_is_left_over():
    """Each file under tests/goldens/ is compared by a test here; an update deletes the others."""
    assert [] == stale(KNOWN), (
        f"no test compares these: delete them, or {MEANT}"
    )
