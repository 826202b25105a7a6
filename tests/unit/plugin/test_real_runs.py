"""Repeated runs of the suite: measured, resumed and counted."""

import os
import sys

import pytest
from click.testing import CliRunner

from benchmarks.real_runs import NotRecorded, main, recorded_itl_ms
from perfgate.judge.baseline_schema import BaselineFile
from perfgate.judge.baseline_store import Store
from perfgate.results.schema import load
from tests.support import builders as m
from tests.support import fake_suite
from tests.support.projects import ROOT, record

pytest_plugins = ["pytester"]
# One ratio that is judged on the CPU, one server whose time per token is
# recorded, one ratio without the slowed model.
PERF = """
import pytest
from msgspec.structs import replace
from perfgate.cases import Load
from perfgate.load.workload import Synthetic, Workload


LOAD = Workload(
    name="closed",
    num_prompts=8,
    max_concurrency=4,
    repetitions=1,
    prompts=Synthetic(output_len_tokens=8),
)

def questions(study):
    servers = (study.moe, study.dense, study.dense_tp1)
    moe, dense, dense_tp1 = (Load(server=s, workload=LOAD) for s in servers)
    yield study.value("E1", "itl_median_ms", study.moe, LOAD)
    yield study.ratio("E1", "itl_median_ms", moe, dense)
    yield study.ratio("E1", "itl_median_ms", dense, dense_tp1)

@pytest.mark.perf(cases=questions)
def test_it(check, case):
    check(case)
"""


@pytest.fixture
def many(project, pytester, monkeypatch):
    """Runs the benchmark in a project of three cases that are recorded."""
    for file in (pytester.path / "tests" / "perf").iterdir():
        file.unlink()
    (pytester.path / "tests" / "perf" / "test_small.py").write_text(PERF)
    record(project, pytester, "-m", "cpu")
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    )
    options = (
        "--of",
        "fake-mixtral-small-tp2/closed",
        "--sequences",
        "1",
        "--losses",
        "0.1,1.5",
    )
    options += ("--runs", "1", "--unchanged", "1")
    rest = (
        "--",
        "-p",
        "no:cacheprovider",
        "-m",
        "cpu",
        *fake_suite.options(pytester.path / "models"),
    )
    return lambda *args: pytester.run(
        sys.executable,
        "-m",
        "benchmarks.real_runs",
        "measure",
        "proof",
        *options,
        *args,
        *rest,
    )


def test_injected_losses_are_counted(many, pytester):
    """Unchanged runs pass, 150 % fails the one case with the slowed model.

    A lost run is repeated.
    """
    first = many()
    done = load(pytester.path / "proof" / "loss-1.5" / "01").run_id
    (pytester.path / "proof" / "unchanged" / "01" / "results.json").unlink()
    second = many()

    assert (0, 0) == (first.ret, second.ret), (
        first.stdout.str() + first.stderr.str()
    )
    for result in (first, second):
        result.stdout.fnmatch_lines(
            [
                "| unchanged | 1 | 0 | 0 | none |",
                "| loss-0.1 (a delay of 0.2 ms per token) | 1 | 0 | 0 | none |",
                (
                    "| loss-1.5 (a delay of 3 ms per token) | 1 | 1 | 0 | "
                    "*small-tp2--over--*itl_median_ms REGRESSED (1) |"
                ),
            ]
        )
    assert done == load(pytester.path / "proof" / "loss-1.5" / "01").run_id
    assert (pytester.path / "proof" / "unchanged" / "01.partial-0").is_dir()
    more = ("--inject", "slow=--inject-delay mixtral-small=3")
    injected = many("--unchanged", "0", "--losses", "0.1", "--runs", "2", *more)
    assert [
        "| loss-0.1 (a delay of 0.2 ms per token) | 2 | 0 | 0 | none |"
    ] == [line for line in injected.outlines if line.startswith("| loss-0.1")]
    injected.stdout.fnmatch_lines(
        [
            "| slow (a delay of 3 ms per token) | 2 | 2 | 0 | *itl_median_ms REGRESSED (2) |"
        ]
    )
    assert 1 == len(list((pytester.path / "proof" / "unchanged").glob("*.txt")))


def test_an_injection_that_injects_nothing_is_refused(tmp_path):
    """A kind of run needs a name for its folder, and an option that injects."""
    for text in ("slow", "slow=-k closed", "a/b=--inject-delay m=1"):
        done = CliRunner().invoke(
            main, ["measure", str(tmp_path), "--losses", "", "--inject", text]
        )
        assert (2, True) == (
            done.exit_code,
            "is no NAME=OPTIONS" in done.output,
        )


def test_the_share_is_of_this_machines_baseline(tmp_path):
    """Other machines have theirs in the same folder; one without its own says so."""
    subject, times = (
        "vllm-mixtral-8x7b-tp2/closed-c32",
        {"h200": 20.0, "h100": 30.0},
    )
    store = Store(tmp_path)
    for kind, itl_ms in times.items():
        metrics = {"itl_median_ms": m.recorded(m.ITL, [itl_ms]).metric}
        file = BaselineFile(
            identity={"model": "mixtral-8x7b"},
            context={},
            provenance=(),
            metrics=metrics,
        )
        store.write(tmp_path / f"{kind}x2" / f"{subject}.json", file)

    assert times == {
        kind: pytest.approx(
            recorded_itl_ms(tmp_path, subject, m.hardware(kind))[1]
        )
        for kind in times
    }
    with pytest.raises(NotRecorded, match="no baseline of 2x NVIDIA A100"):
        recorded_itl_ms(tmp_path, subject, m.hardware("a100"))
