"""Sessions on GPUs: telemetry, kernel warm-up, number of launches.

Whole runs of pytest with the fake engine and a fake NVML, on a study of two
small workloads.
"""

from __future__ import annotations

import json

import pytest

from perfgate.machine.telemetry import series_path
from perfgate.results.schema import load
from tests.support.fake_nvml import read_series
from tests.support.projects import DENSE, H200, MOE, outcomes

pytest_plugins = ["pytester"]


def test_gpus_are_looked_at_and_warmed_up(gpus, pytester):
    """Each repetition has its GPU's summary, each launch series, ladder and answers.

    The session has its time.
    """
    result = gpus(*H200, "-k", "test_closed", "--run-dir", "run")

    results = load(pytester.path / "run")
    repetitions = [
        repetition
        for row in results.measurements
        for repetition in row.repetitions
    ]
    assert {0} == {
        gpu.index for repetition in repetitions for gpu in repetition.gpus
    }
    assert all(
        0 < repetition.values["energy_per_output_token_j"]
        for repetition in repetitions
    )
    for launch in results.launches:
        assert launch.measured
        assert {"warm_up_compiles", "warm_up_s"} <= launch.values.keys()
        assert 16 == len(launch.answers)
        header, moments = read_series(
            series_path(pytester.path / "run", launch.server, launch.index)
        )
        assert (launch.server, (0,)) == (header.server, header.gpus)
        assert {400.0} == {moment.gpus[0].power_w for moment in moments}
    result.stdout.fnmatch_lines(
        ["*ladder: * of * lengths were over 0.5 s slower the first time*"]
    )
    result.stdout.fnmatch_lines(
        [f"*: launching, server {n} of 2, log in *" for n in (1, 2)]
    )
    result.stdout.fnmatch_lines(
        ["time: * s: server starts * s, load * s, suite overhead * s (* %)*"]
    )
    (session,) = results.sessions
    own_s = (
        session.seen_unix_s
        - session.started_unix_s
        - session.start_s
        - session.load_s
    )
    assert 0 < own_s
    assert 0 < min(session.start_s, session.load_s)


def test_without_telemetry_energy_alone_is_counted(gpus, pytester):
    """No series, no look; the difference to a run with it is what it costs."""
    gpus(*H200, "-k", "test_long", "--telemetry", "no", "--run-dir", "run")

    (row,) = load(pytester.path / "run").measurements
    assert {(0, None)} == {
        (gpu.looks, gpu.power_mean_w) for r in row.repetitions for gpu in r.gpus
    }
    assert all(
        0 < r.values["energy_per_output_token_j"] for r in row.repetitions
    )
    assert not (pytester.path / "run" / "telemetry").exists()


@pytest.mark.parametrize(
    ("mask", "outcome", "told"),
    [(0x4, "NO_BASELINE", "notes"), (0x40 | 0x8, "INVALID", "invalid")],
    ids=["power cap", "heat"],
)
def test_a_throttled_gpu_is_told(
    gpus, pytester, monkeypatch, mask, outcome, told
):
    """A power cap is a note; a repetition on an overheated GPU does not count, with the reason."""
    monkeypatch.setenv("FAKE_NVML", json.dumps({"reasons": mask}))

    gpus(*H200, "-k", "test_long", "--run-dir", "run")

    results = load(pytester.path / "run")
    assert [outcome] == [row.outcome for row in results.verdicts]
    repetition = results.measurements[0].repetitions[0]
    assert "GPU 0 was throttled" in " ".join(getattr(repetition, told))
    assert () == results.group_verdicts  # heat is no regression of the server


def test_unanswering_nvml_spoils_nothing(gpus, pytester, monkeypatch):
    """It is noted with the launch."""
    monkeypatch.setenv("FAKE_NVML", json.dumps({"refused": ["nvmlInit"]}))

    gpus(*H200, "-k", "test_long", "--run-dir", "run")

    results = load(pytester.path / "run")
    assert ["NO_BASELINE"] == [row.outcome for row in results.verdicts]
    assert any(
        note.startswith("telemetry: ") for note in results.launches[0].notes
    )


def test_every_server_is_launched_as_often_as_asked(gpus, pytester):
    """Before anything is decided; launches of two servers are paired one by one."""
    gpus(
        *H200,
        "-k",
        "test_closed or test_ratio",
        "--launches",
        "3",
        "--run-dir",
        "run",
    )

    results = load(pytester.path / "run")
    for server in (DENSE, MOE):
        assert [0, 1, 2] == [
            launch.index
            for launch in results.launches
            if launch.server == server
        ]
    assert {3} == {row.launches for row in results.verdicts}


def test_a_model_that_does_not_fit_is_never_launched(
    gpus, pytester, monkeypatch
):
    """On one H100 of 80 GB the sparse model's tests say what it needs, the dense one's run."""
    monkeypatch.setenv("FAKE_GPU_KIND", "h100")

    result = gpus("-m", "h100", "--tp", "1", "--run-dir", "run", "-rs")

    results = load(pytester.path / "run")
    assert [DENSE] == [launch.server for launch in results.launches]
    result.stdout.fnmatch_lines(
        [
            "*mixtral-8x7b needs 93.4 GB of weights on each GPU at TP=1, which has 85.5 GB*"
        ]
    )
    assert 2 == len(results.skipped)


def test_what_cannot_run_here_is_red_where_all_is_required(
    gpus, pytester, monkeypatch
):
    """And is told with its reason: on the terminal, in the run's data and in its summary."""
    monkeypatch.setenv("FAKE_GPU_KIND", "h100")

    result = gpus(
        "-m",
        "h100",
        "--tp",
        "1",
        "--gate=required",
        "--run-dir",
        "run",
        "--perf-report=yes",
    )

    lacking = load(pytester.path / "run").lacking
    assert 1 == result.ret
    assert {"mixtral"} == {case.split("-")[1] for case in lacking}
    told = (
        f"No verdict for {len(lacking)} case* (fails the run): mixtral-8x7b "
        "needs 93.4 GB of weights*"
    )
    result.stdout.fnmatch_lines([told])
    summary = (pytester.path / "run" / "summary.md").read_text()
    assert summary.startswith("## ✗ Red")
    assert "(fails the run): mixtral-8x7b needs" in summary


def test_too_few_gpus_name_the_size_that_fits(gpus):
    """One GPU where two are needed: skipped, with the option that asks for less."""
    result = gpus("-m", "h200")

    assert {"skipped": 4} == outcomes(result)
    result.stdout.fnmatch_lines(
        [
            "*needs 2x H200, found 1x NVIDIA H200 (add --tp 1 to run on fewer GPUs)*"
        ]
    )
