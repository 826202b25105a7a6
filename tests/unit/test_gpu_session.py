"""Does a session on GPUs look at them, warm every kernel up, launch as often as asked, and go on where it was cut?

Whole runs of pytest with the fake engine and a fake NVML, on a study of two small workloads.
"""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from fixtures.failure import Failure
from fixtures.judge.baselines import Store
from fixtures.rundata import RESULTS_FILE, load
from fixtures.telemetry import read_series, series_path
from tests.unit import fake_suite
from tests.unit.projects import outcomes, perfgate, verdicts

pytest_plugins = ["pytester"]
PERF = """
from fixtures.case import Load
from fixtures.load.workload import Synthetic, Workload
from fixtures.study import asks

def workload(name, tokens, repetitions=2):
    return Workload(name=name, num_prompts=8, max_concurrency=4, repetitions=repetitions,
                    prompts=Synthetic(input_len_tokens=8, output_len_tokens=tokens))

def closed(study):
    for server in study.models:
        yield study.value("E1", "itl_median_ms", server, workload("closed", 20))

def long(study):
    yield study.value("E1", "itl_median_ms", study.dense, workload("long", 250, repetitions=4))

def ratio(study):
    of, over = (Load(server=server, workload=workload("closed", 20)) for server in study.models)
    yield study.ratio("E1", "itl_median_ms", of, over)

@asks(closed)
def test_closed(check, case):
    check(case)

@asks(long)
def test_long(check, case):
    check(case)

@asks(ratio)
def test_ratio(check, case):
    check(case)
"""
DENSE, MOE = "fake-llama-3.1-8b-tp1", "fake-mixtral-8x7b-tp1"
H200 = ("-m", "h200", "--tp", "1")


@pytest.fixture
def gpus(project, pytester, monkeypatch):
    """A project of three questions on one H200."""
    for file in (pytester.path / "tests" / "perf").iterdir():
        file.unlink()
    (pytester.path / "tests" / "perf" / "test_small.py").write_text(PERF)
    monkeypatch.setenv("FAKE_GPUS", "1")
    return project


def test_gpus_are_looked_at_and_warmed_up(gpus, pytester):
    """Each repetition has the summary of its GPU, each launch its series and its ladder, the session its time."""
    result = gpus(*H200, "-k", "test_closed", "--run-dir", "run")

    results = load(pytester.path / "run")
    repetitions = [repetition for row in results.measurements for repetition in row.repetitions]
    assert {0} == {gpu.index for repetition in repetitions for gpu in repetition.gpus}
    assert all(0 < repetition.values["energy_per_output_token_j"] for repetition in repetitions)
    for launch in results.launches:
        assert launch.measured
        assert {"warm_up_compiles", "warm_up_s"} <= launch.values.keys()
        header, moments = read_series(series_path(pytester.path / "run", launch.server, launch.index))
        assert (launch.server, (0,)) == (header.server, header.gpus)
        assert {400.0} == {moment.gpus[0].power_w for moment in moments}
    result.stdout.fnmatch_lines(["*ladder: * of * lengths took over 0.5 s more than the second time*"])
    result.stdout.fnmatch_lines(["time: * s: servers' start * s, load * s, the suite itself * s, * %*"])
    (session,) = results.sessions
    own_s = session.seen_unix_s - session.started_unix_s - session.start_s - session.load_s
    assert 0 < own_s
    assert 0 < min(session.start_s, session.load_s)


def test_without_telemetry_energy_alone_is_counted(gpus, pytester):
    """No series, no look; the difference to a run with it is what it costs."""
    gpus(*H200, "-k", "test_long", "--telemetry", "no", "--run-dir", "run")

    (row,) = load(pytester.path / "run").measurements
    assert {(0, None)} == {(gpu.looks, gpu.power_mean_w) for r in row.repetitions for gpu in r.gpus}
    assert all(0 < r.values["energy_per_output_token_j"] for r in row.repetitions)
    assert not (pytester.path / "run" / "telemetry").exists()


@pytest.mark.parametrize(
    ("mask", "outcome", "told"),
    [(0x4, "NO_BASELINE", "notes"), (0x40 | 0x8, "INVALID", "invalid")],
    ids=["power cap", "heat"],
)
def test_a_throttled_gpu_is_told(gpus, pytester, monkeypatch, mask, outcome, told):
    """A power cap is a note; a repetition on a GPU that was too hot does not count, and the reason is named."""
    monkeypatch.setenv("FAKE_NVML", json.dumps({"reasons": mask}))

    gpus(*H200, "-k", "test_long", "--run-dir", "run")

    results = load(pytester.path / "run")
    assert [outcome] == [row.outcome for row in results.verdicts]
    repetition = results.measurements[0].repetitions[0]
    assert "GPU 0 was throttled" in " ".join(getattr(repetition, told))


def test_unanswering_nvml_spoils_nothing(gpus, pytester, monkeypatch):
    """It is noted with the launch."""
    monkeypatch.setenv("FAKE_NVML", json.dumps({"refused": ["nvmlInit"]}))

    gpus(*H200, "-k", "test_long", "--run-dir", "run")

    results = load(pytester.path / "run")
    assert ["NO_BASELINE"] == [row.outcome for row in results.verdicts]
    assert any(note.startswith("telemetry: ") for note in results.launches[0].notes)


def test_every_server_is_launched_as_often_as_asked(gpus, pytester):
    """Before anything is decided; launches of two servers are paired one by one."""
    gpus(*H200, "-k", "test_closed or test_ratio", "--launches", "3", "--run-dir", "run")

    results = load(pytester.path / "run")
    for server in (DENSE, MOE):
        assert [0, 1, 2] == [launch.index for launch in results.launches if launch.server == server]
    assert {3} == {row.launches for row in results.verdicts}


def interrupted(pytester, *args: str, when) -> int:
    """Run pytest until `when` says so of the run's results, then end it as `timeout -s INT` does; its exit status."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    command += [*fake_suite.options(pytester.path / "models"), *args]
    with (pytester.path / "interrupted.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=pytester.path,
            stdout=log,
            stderr=log,
            # A shell ignores it for what it starts in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            if when(load(pytester.path / "run")):
                break
        except Failure:
            pass
        time.sleep(0.02)
    assert process.poll() is None, (pytester.path / "interrupted.log").read_text()
    process.send_signal(signal.SIGINT)
    return process.wait(timeout=120)


def in_the_middle_of(server: str, index: int, workload: str):
    """Whether that launch has a repetition and wants more."""
    return lambda results: (
        any((row.server, row.launch, row.workload) == (server, index, workload) for row in results.measurements)
        and not all(launch.measured for launch in results.launches)
    )


def test_a_command_that_was_cut_is_gone_on_with(gpus, pytester, tmp_path):
    """Cut in launch 2 of 3, the next command begins with launch 2; judged elsewhere, packed, it says the same."""
    options = (*H200, "-k", "test_long", "--launches", "3", "--run-dir", "run")

    status = interrupted(pytester, *options, when=in_the_middle_of(DENSE, 1, "long"))

    cut = load(pytester.path / "run")
    assert (pytest.ExitCode.INTERRUPTED, False) == (status, cut.complete)
    assert [True, False] == [launch.measured for launch in cut.launches]
    logs = {launch.start.log for launch in cut.launches}

    result = gpus(*options, "--resume", "--baseline-record")

    whole = load(pytester.path / "run")
    result.stdout.fnmatch_lines(["*1 launches kept of 2*", "*launch 2 of 3*", "*launch 3 of 3*"])
    result.stdout.fnmatch_lines(["time: * s in 2 commands: *"])
    assert cut.launches[0] == whole.launches[0]
    assert [0, 1, 2] == [launch.index for launch in whole.launches]
    assert [True] * 3 == [launch.measured for launch in whole.launches]
    assert (True, cut.run_id, 2) == (whole.complete, whole.run_id, len(whole.sessions))
    assert 4 == len(logs | {launch.start.log for launch in whole.launches})
    assert [3] == [row.launches for row in whole.verdicts]

    shutil.copytree(pytester.path / "run", tmp_path / "elsewhere")
    file = tmp_path / "elsewhere" / RESULTS_FILE
    packed = file.with_name(file.name + ".gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    for named in (packed.parent, packed):
        judged = perfgate(pytester, "judge", str(named), "--baselines", "baselines")
        judged.stdout.fnmatch_lines(["*NO_BASELINE*", "1 judged, 0 red*"])
    accepted = perfgate(pytester, "accept", str(packed), "--baselines", "baselines")
    assert 0 == accepted.ret, accepted.errlines
    assert ["PASSED"] == list(verdicts_again(pytester, tmp_path / "elsewhere"))


def verdicts_again(pytester, run_dir) -> list[str]:
    """The outcome of each case as `perfgate judge` shows it."""
    lines = perfgate(pytester, "judge", str(run_dir), "--baselines", "baselines").outlines
    return [line.split()[-1] for line in lines if line.strip().startswith("E1")]


def test_a_killed_command_keeps_its_launches(gpus, pytester):
    """Whatever ended it: launches that were whole by then are taken over, with their own ends."""
    options = (*H200, "-k", "test_long", "--launches", "2", "--run-dir", "run")
    interrupted(pytester, *options, when=in_the_middle_of(DENSE, 1, "long"))
    before, cut = load(pytester.path / "run").launches
    assert not cut.measured
    # As SIGKILL leaves it: no end was written down.
    results = json.loads((pytester.path / "run" / RESULTS_FILE).read_text())
    for launch in results["launches"]:
        launch["start"]["stop"] = None
    (pytester.path / "run" / RESULTS_FILE).write_text(json.dumps(results))

    resumed = gpus(*options, "--resume")

    resumed.stdout.fnmatch_lines([f"*{DENSE}: cut off * s after its launch, measured anew; *parts of its load by -k*"])
    launches = load(pytester.path / "run").launches
    assert (before.start.pid, None) == (launches[0].start.pid, launches[0].start.stop)
    assert launches[1].start.stop is not None


def test_another_selection_keeps_what_it_does_not_ask(gpus, pytester):
    """Two commands with two -k make one run; the second launches only for what was not measured."""
    gpus(*H200, "-k", "test_closed", "--run-dir", "run")
    first = load(pytester.path / "run")
    gpus(*H200, "-k", "test_long", "--run-dir", "run", "--resume")

    results = load(pytester.path / "run")
    assert list(first.launches) == list(results.launches[:2])
    assert [(DENSE, 0), (DENSE, 1), (MOE, 0)] == sorted((x.server, x.index) for x in results.launches)
    assert 3 == len(results.verdicts) == len(results.cases)


def test_parts_of_a_load_make_the_whole(gpus, pytester):
    """Where no command has time for all of it: a launch for each part, and the whole suite launches nothing more."""
    for part in ("test_closed", "test_long"):
        gpus(*H200, "-k", part, "--run-dir", "run", *(["--resume"] if part == "test_long" else []))
    parts = load(pytester.path / "run").launches

    gpus(*H200, "--run-dir", "run", "--resume")

    results = load(pytester.path / "run")
    assert list(parts) == list(results.launches)
    assert 4 == len(results.verdicts) == len(results.cases)
    assert {"NO_BASELINE"} == {row.outcome for row in results.verdicts}


def test_a_further_launch_is_sent_what_is_missing_alone(gpus, pytester):
    """The closed load was sent whole; what the server holds was read after it."""
    gpus(*H200, "-k", "test_closed", "--run-dir", "run")
    gpus(*H200, "--run-dir", "run", "--resume")

    results = load(pytester.path / "run")
    sent = [(row.server, row.launch, row.workload) for row in results.measurements]
    assert [(DENSE, 0, "closed"), (DENSE, 1, "long"), (MOE, 0, "closed")] == sorted(sent)
    assert ["memory_bytes" in launch.values for launch in results.launches if launch.server == DENSE] == [True, False]


def test_what_an_ended_command_measured_is_decided_by_the_next(gpus, pytester):
    """It was ended before its tests were over; the next command asks something else and leaves nothing undecided."""
    gpus(*H200, "-k", "test_closed", "--run-dir", "run")
    file = pytester.path / "run" / RESULTS_FILE
    results = json.loads(file.read_text())
    then = {row["case"]: row["outcome"] for row in results["verdicts"]}
    file.write_text(json.dumps(results | {"verdicts": []}))

    result = gpus(*H200, "-k", "test_long", "--run-dir", "run", "--resume")

    rows = load(pytester.path / "run").verdicts
    assert then == {row.case: row.outcome for row in rows if row.test == "(measured by an earlier command)"}
    assert 3 == len(rows)
    result.stdout.no_fnmatch_line("*without a verdict*")


def test_parts_of_the_suite_are_recorded_one_by_one(gpus, pytester):
    """Runs with -k, taken over with and without --only, make the baselines that the whole suite passes by."""
    for name, words in (("one", "test_closed or test_ratio"), ("two", "test_long")):
        gpus(*H200, "-k", words, "--baseline-record", "--run-dir", name)
        assert (pytester.path / name / "proposed-baselines").exists()
    only = perfgate(pytester, "accept", "one", "--only", "*/closed/*", "--baselines", "baselines")
    assert 0 == only.ret, only.errlines
    stored = {
        str(path.relative_to(pytester.path / "baselines"))
        for path in Store(pytester.path / "baselines").root.rglob("*.json")
    }
    assert {f"h200x1/{DENSE}/closed.json", f"h200x1/{MOE}/closed.json"} <= stored
    assert f"h200x1/{DENSE}/long.json" not in stored
    rest = perfgate(pytester, "accept", "two", "--baselines", "baselines")
    assert 0 == rest.ret, rest.errlines

    result = gpus(*H200, "--run-dir", "whole")

    assert {"PASSED"} == set(verdicts(pytester.path / "whole").values()), result.stdout.str()
    assert 4 == outcomes(result)["passed"]


def test_a_model_that_does_not_fit_is_never_launched(gpus, pytester, monkeypatch):
    """On one H100 of 80 GB the sparse model's tests say what it needs, the dense one's run."""
    monkeypatch.setenv("FAKE_GPU_KIND", "h100")

    result = gpus("-m", "h100", "--tp", "1", "--run-dir", "run", "-rs")

    results = load(pytester.path / "run")
    assert [DENSE] == [launch.server for launch in results.launches]
    result.stdout.fnmatch_lines(["*mixtral-8x7b needs 93.4 GB of weights on each GPU at TP=1, which has 85.5 GB*"])
    assert 2 == len(results.skipped)
