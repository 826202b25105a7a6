"""Base build and candidate: launched in turn, judged in pairs.

Whole runs of pytest in a project of their own, with the fake engine in place of
a real one.
"""

from __future__ import annotations

import sys

import msgspec
import pytest

from perfgate.report.verdict_text import render
from perfgate.results.schema import load, save
from tests.support.cut_runs import drop_last_launches
from tests.support.projects import newest_run, outcomes, perfgate, verdicts

pytest_plugins = ["pytester"]
AGAINST = ("--against-engine", f"fake={sys.executable}")
RUN = (
    "-m",
    "cpu",
    "-k",
    "test_output_throughput and llama",
    "--run-dir",
    "mine",
)
PAIRED_RUN = (*RUN, *AGAINST)


def test_base_and_candidate_in_turn(project, pytester):
    """Two equal builds are launched ABBAAB and pass without a baseline.

    A delay in one model fails its rows alone.

    Both runs are judged again from their data, and an interrupted one is resumed.
    """
    common = ("-m", "cpu", "-k", "test_output_throughput", *AGAINST)

    same = project(*common, "--run-dir", "same")
    slowed = project(
        *common, "--run-dir", "slowed", "--inject-delay", "mixtral-small=1"
    )

    assert (0, {"passed": 2}) == (same.ret, outcomes(same)), same.stdout.str()
    assert (1, {"failed": 1, "passed": 1}) == (slowed.ret, outcomes(slowed)), (
        slowed.stdout.str()
    )
    moe, dense = (
        f"fake-{model}-small-tp2/closed-c16/output_throughput"
        for model in ("mixtral", "llama")
    )
    assert {moe: "PASSED", dense: "PASSED"} == verdicts(pytester.path / "same")
    assert {moe: "REGRESSED", dense: "PASSED"} == verdicts(
        pytester.path / "slowed"
    )
    results = load(pytester.path / "slowed")
    begun = sorted(
        (launch.start.started_unix_s, launch.server)
        for launch in results.launches
    )
    for model in ("llama", "mixtral"):
        order = [
            "A" if server.endswith("-base") else "B"
            for _, server in begun
            if model in server
        ]
        assert "ABBAAB" == "".join(order)
    assert {"fake-mixtral-small-tp2"} == {
        launch.server for launch in results.launches if launch.injected
    }
    slowed.stdout.fnmatch_lines(
        [
            "*metric*value*base*change*verdict*",
            "*-33.3 % (slower)*REGRESSED*",
            "*unchanged*PASSED*",
        ]
    )
    (diagnosis,) = results.diagnoses
    assert (("fake-mixtral-small-tp2",), "sparse") == (
        diagnosis.servers,
        diagnosis.who,
    )
    slowed.stdout.fnmatch_lines(
        ["CAUSE: *", "*what: *-33.3 %*", "*who: *the sparse models only*"]
    )
    slowed.stdout.fnmatch_lines(["base fake: *", "candidate fake: *"])
    assert (0, 1) == tuple(
        perfgate(pytester, "judge", run).ret for run in ("same", "slowed")
    )
    assert (
        "--against-engine" in perfgate(pytester, "accept", "same").stderr.str()
    )


def test_comparison_of_builds_is_resumed(project, pytester):
    """--resume launches only the missing ones of the six, and refuses another base build."""
    project(*PAIRED_RUN)
    drop_last_launches(pytester.path / "mine", 2)

    resumed = project(*PAIRED_RUN, "--resume")
    other = project(*PAIRED_RUN[:-2], "--resume")

    assert (0, {"passed": 1}) == (resumed.ret, outcomes(resumed)), (
        resumed.stdout.str()
    )
    assert "4 launches kept of 4" in resumed.stdout.str()
    assert [0, 0, 1, 1, 2, 2] == sorted(
        launch.index for launch in load(pytester.path / "mine").launches
    )
    assert 1 == other.ret
    assert (
        "use the same --against-engine and --target-effect"
        in other.stdout.str()
    )


def test_a_loss_in_doubt_is_worth_three_more_pairs(project, pytester):
    """Two launches of the candidate lost 10 and 40 %, the third nothing: three more pairs.

    Then all six decide: a mean loss of 9.8 % is below the threshold, and not excluded.
    """
    project(*PAIRED_RUN)
    results = load(pytester.path / "mine")
    slow = {("fake-llama-small-tp2", 0): 0.9, ("fake-llama-small-tp2", 1): 0.6}
    measurements = tuple(
        _slowed(row, slow.get((row.server, row.launch), 1.0))
        for row in results.measurements
    )
    save(
        msgspec.structs.replace(
            results, measurements=measurements, verdicts=()
        ),
        pytester.path / "mine",
    )

    before = perfgate(pytester, "judge", "mine").stdout.str()
    resumed = project(*PAIRED_RUN, "--resume")

    assert "INCONCLUSIVE" in before
    assert (0, {"skipped": 1}) == (resumed.ret, outcomes(resumed)), (
        resumed.stdout.str()
    )
    resumed.stdout.fnmatch_lines(
        [
            "*fake-llama-small-tp2: closed-c16 is not decided yet; further launch 1 of 6"
        ]
    )
    results = load(pytester.path / "mine")
    begun = sorted(
        (launch.start.started_unix_s, launch.server)
        for launch in results.launches
    )
    assert "ABBAABBAABBA" == "".join(
        "A" if server.endswith("-base") else "B" for _, server in begun
    )
    verdict = results.verdicts[-1]
    assert "6 pairs launched in turn" in render(verdict)
    assert ("NOT_EXCLUDED", "hard") == (verdict.outcome, verdict.gate)


def _slowed(row, factor):
    """A measurement with all of its throughputs lowered."""
    repetitions = tuple(
        msgspec.structs.replace(
            each,
            values=each.values
            | {"output_throughput": each.values["output_throughput"] * factor},
        )
        for each in row.repetitions
    )
    return msgspec.structs.replace(row, repetitions=repetitions)


def test_more_pairs_where_three_tell_too_little(project, pytester):
    """--launches says how many of each build; fewer than three are refused."""
    done = project(*PAIRED_RUN, "--launches", "4")

    assert (0, {"passed": 1}) == (done.ret, outcomes(done)), done.stdout.str()
    begun = sorted(
        (launch.start.started_unix_s, launch.server)
        for launch in load(pytester.path / "mine").launches
    )
    assert "ABBAABBA" == "".join(
        "A" if server.endswith("-base") else "B" for _, server in begun
    )
    assert "4 pairs launched in turn" in render(
        load(pytester.path / "mine").verdicts[0]
    )


def test_base_build_that_does_not_start_is_invalid(
    project, pytester, monkeypatch
):
    """Without a base the run fails, and says which build failed."""
    monkeypatch.setenv(
        "FAKE_MISBEHAVIOUR", "mixtral-small-base: --exit-at-start 3"
    )
    result = project(
        "-m",
        "cpu",
        "-k",
        "test_output_throughput and mixtral and not llama",
        *AGAINST,
    )

    assert (1, {"failed": 1}) == (result.ret, outcomes(result))
    results = load(newest_run(pytester))
    assert ["INVALID"] == [row.outcome for row in results.verdicts]
    assert "fake-mixtral-small-tp2-base failed: exited with status 3" in render(
        results.verdicts[0]
    )
    assert ["fake-mixtral-small-tp2-base"] == list(results.failures)


def test_base_build_that_answers_wrongly_is_invalid(
    project, pytester, monkeypatch
):
    """A build of which nothing counts gives no pairs: INVALID, with the reason and whose it is."""
    monkeypatch.setenv(
        "FAKE_MISBEHAVIOUR", 'mixtral-small-base: --set fault="short_count"'
    )

    result = project("-m", "cpu", "-k", "test_output_throughput", *AGAINST)

    assert (1, {"failed": 1, "passed": 1}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    result.stdout.fnmatch_lines(
        [
            "*3 pairs of positive values are needed, there are none*",
            "*base: launch 0: 32 requests with another output length*",
        ]
    )
    assert "INVALID" in verdicts(newest_run(pytester)).values()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--against-engine", "vlm=python"), "there is no engine vlm"),
        (("--against-engine", "vllm=python"), "no base build for fake"),
        ((*AGAINST, "--baseline-record"), "leave --baseline-record out"),
        ((*AGAINST, "--launches", "2"), "at least 3 pairs"),
        (("--against-engine", "fake"), "write --against-engine NAME=VALUE"),
    ],
    ids=["unknown", "other", "record", "two-pairs", "no-path"],
)
def test_comparison_that_cannot_be_meant(project, options, said):
    """What contradicts a comparison of two builds is a usage error."""
    result = project("-m", "cpu", *options)

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    assert said in result.stderr.str()


def test_a_launch_that_died_is_replaced_in_its_pair(project, pytester):
    """Three pairs are judged all the same; that a server died is told."""
    python, died = pytester.path / "python", pytester.path / "died"
    python.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *fake_engine*) if [ ! -e {died} ]; then touch {died}; '
        f'exec {sys.executable} "$@" --die-after-requests 60; fi;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    done = project(*RUN, "--engine-python", f"fake={python}", *AGAINST)

    (verdict,) = load(pytester.path / "mine").verdicts
    assert died.exists()
    assert (0, "PASSED", 3) == (done.ret, verdict.outcome, verdict.launches), (
        done.stdout.str()
    )
    done.stdout.fnmatch_lines(
        ["*fake-llama-small-tp2, launch 1, closed-c16: *"]
    )
