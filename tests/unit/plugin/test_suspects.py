"""Screen, then pairs: one launch by the baseline, pairs for what it does not clear.

Whole runs of pytest in a project of their own, with the fake engine in place of
a real one.
"""

from __future__ import annotations

import sys
from collections import Counter

import msgspec
import pytest

from perfgate.report.verdict_text import render
from perfgate.results.schema import load, save
from tests.support.cut_runs import drop_last_launches
from tests.support.projects import (
    DENSE,
    H200,
    MOE,
    outcomes,
    perfgate,
    record,
    record_once,
    verdicts,
)

pytest_plugins = ["pytester"]
CLOSED = (*H200, "-k", "test_closed")
ONE = (*H200, "-k", "test_closed and mixtral")
PYTHON = f"fake={sys.executable}"
SUSPECT = ("--against-engine", PYTHON, "--pairs", "suspect")
SCREENED = (*CLOSED, *SUSPECT, "--run-dir", "mine")
ITL_MOE = f"{MOE}/closed/itl_median_ms"
ITL_DENSE = f"{DENSE}/closed/itl_median_ms"
PAIRS = {f"{MOE}-base": 3, f"{MOE}-candidate": 3}


def launches(run_dir):
    """Server -> how often it was launched."""
    return Counter(launch.server for launch in load(run_dir).launches)


def row(run_dir, case):
    """The verdict of a case."""
    (found,) = (each for each in load(run_dir).verdicts if each.case == case)
    return found


def test_a_loss_is_decided_by_pairs_of_its_server_alone(gpus, pytester):
    """One of two rows is slower than its baseline: REGRESSED by three pairs.

    The other server is launched once. The screen stays in the verdict.
    """
    record_once(gpus, pytester, *CLOSED)

    result = gpus(*SCREENED, "--inject-delay", "mixtral-8x7b=1")

    mine = pytester.path / "mine"
    assert (1, {"failed": 1, "passed": 1}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    assert {ITL_MOE: "REGRESSED", ITL_DENSE: "PASSED"} == verdicts(mine)
    assert {MOE: 1, DENSE: 1, **PAIRS} == launches(mine)
    begun = sorted(
        (launch.start.started_unix_s, launch.server)
        for launch in load(mine).launches
    )
    sides = [server[-4:] for _, server in begun if server.startswith(f"{MOE}-")]
    assert ["base", "date", "date", "base", "base", "date"] == sides
    by_pairs = row(mine, ITL_MOE)
    assert ("paired", "recorded") == (
        by_pairs.reference,
        by_pairs.screen.reference,
    )
    assert "REGRESSED" == by_pairs.screen.outcome
    assert 0 < by_pairs.screen.threshold < by_pairs.screen.change
    assert any(
        detail.startswith("Screened: REGRESSED, +50.0 % vs the baseline ")
        and detail.endswith("Decided by 3 pairs.")
        for detail in by_pairs.details
    ), by_pairs.details
    assert (ITL_MOE,) == load(mine).suspects
    assert row(mine, ITL_DENSE).screen is None
    result.stdout.fnmatch_lines(
        [
            "*REGRESSED (pairs)*",
            "Pairs decided 1 of 2 judged cases, baselines the others",
            "base fake: *",
        ]
    )
    again = perfgate(pytester, "judge", "mine", "--verbose")
    assert 1 == again.ret
    for each in load(mine).verdicts:
        assert render(each, "mine") in again.stdout.str()


def test_a_slow_day_passes_by_pairs(gpus, pytester, monkeypatch):
    """Both builds are slower than the baseline today: PASSED by pairs.

    The launch of the screen is a launch as any other: it can be accepted.
    """
    record_once(gpus, pytester, *CLOSED)
    slow = [
        f"mixtral-8x7b{side}: --set itl_s=0.0025"
        for side in ("", "-base", "-candidate")
    ]
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", "; ".join(slow))

    result = gpus(*SCREENED)

    mine = pytester.path / "mine"
    assert (0, {"passed": 2}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    assert {ITL_MOE: "PASSED", ITL_DENSE: "PASSED"} == verdicts(mine)
    assert {MOE: 1, DENSE: 1, **PAIRS} == launches(mine)
    assert "REGRESSED" == row(mine, ITL_MOE).screen.outcome
    assert 0 == perfgate(pytester, "judge", "mine").ret
    accepted = perfgate(
        pytester, "accept", "mine", "--baselines", "baselines", "--reason", "x"
    )
    assert 0 == accepted.ret, accepted.errlines


def test_what_the_baseline_clears_is_launched_once(gpus, pytester):
    """No row is suspect: no pair is launched, and the gate may be required."""
    record_once(gpus, pytester, *CLOSED)

    result = gpus(*SCREENED)

    assert (0, {"passed": 2}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    assert {MOE: 1, DENSE: 1} == launches(pytester.path / "mine")
    assert () == load(pytester.path / "mine").suspects


def test_a_new_machine_begins_with_pairs_and_records(gpus, pytester):
    """Without a baseline pairs decide every row; the launch of each is proposed."""
    command = (*ONE, *SUSPECT, "--run-dir")
    result = gpus(*command, "mine", "--baseline-record")

    mine = pytester.path / "mine"
    assert (0, {"passed": 1}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    assert {"NO_BASELINE"} == {
        each.screen.outcome for each in load(mine).verdicts
    }
    accepted = perfgate(pytester, "accept", "mine", "--baselines", "baselines")
    assert 0 == accepted.ret, accepted.errlines
    second = gpus(*command, "second")
    assert (0, {"passed": 1}) == (second.ret, outcomes(second))
    assert {MOE: 1} == launches(pytester.path / "second")


def test_base_build_that_does_not_start(gpus, pytester, monkeypatch):
    """The verdict of the screen stands, on its three launches, and says why."""
    record_once(gpus, pytester, *CLOSED)
    monkeypatch.setenv(
        "FAKE_MISBEHAVIOUR", "mixtral-8x7b-base: --exit-at-start 3"
    )

    result = gpus(*SCREENED, "--inject-delay", "mixtral-8x7b=1")

    mine = pytester.path / "mine"
    assert (1, {"failed": 1, "passed": 1}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    assert {MOE: 3, DENSE: 1} == launches(mine)
    verdict = row(mine, ITL_MOE)
    assert ("REGRESSED", "recorded", 3) == (
        verdict.outcome,
        verdict.reference,
        verdict.launches,
    )
    assert (
        f"The pairs decide nothing ({MOE}-base failed: exited with "
    ) in verdict.details[-1]
    assert "the verdict of the screen stands" in verdict.details[-1]
    result.stdout.fnmatch_lines(
        [
            f"*{MOE}-candidate: no pairs, the verdict of the screen stands: *",
            "*1 suspect without valid pairs",
        ]
    )
    assert render(verdict, "mine") in perfgate(
        pytester, "judge", "mine", "-v"
    ).stdout.str().replace("\r", "")


def test_base_build_that_fails_alone_fails_no_run(gpus, pytester, monkeypatch):
    """Further launches that contradict the first one leave the row open without a base."""
    record_once(gpus, pytester, *CLOSED)
    speeds = pytester.path / "itl_s"
    speeds.write_text("0.0022\n0.0019\n0.0019")
    monkeypatch.setenv(
        "FAKE_MISBEHAVIOUR",
        f"mixtral-8x7b-base: --exit-at-start 3; mixtral-8x7b: --itl-s-in-turn {speeds}",
    )

    result = gpus(*SCREENED)

    assert (0, {"passed": 1, "skipped": 1}) == (result.ret, outcomes(result)), (
        result.stdout.str()
    )
    assert "NOT_EXCLUDED" == row(pytester.path / "mine", ITL_MOE).outcome
    assert [f"{MOE}-base"] == list(load(pytester.path / "mine").failures)
    assert 0 == perfgate(pytester, "judge", "mine").ret


def test_a_ratio_launches_both_servers_in_pairs(gpus, pytester):
    """A side that lost speed is REGRESSED, whichever way the ratio moved."""
    selection = (*H200, "-k", "test_ratio")
    record(gpus, pytester, *selection)

    result = gpus(
        *selection,
        *SUSPECT,
        "--run-dir",
        "mine",
        "--inject-delay",
        "llama-3.1-8b=1",
    )

    mine = pytester.path / "mine"
    (verdict,) = load(mine).verdicts
    assert 1 == result.ret, result.stdout.str()
    assert ("REGRESSED", "paired") == (verdict.outcome, verdict.reference)
    assert verdict.moved in ("numerator", "denominator")
    pairs = {f"{DENSE}-base": 3, f"{DENSE}-candidate": 3}
    assert {MOE: 1, DENSE: 1, **PAIRS, **pairs} == launches(mine)


def test_missing_pairs_are_launched_on_resume(gpus, pytester):
    """A run that was cut off in its pairs resumes with those that it lacks."""
    command = (*ONE, *SUSPECT, "--run-dir", "mine")
    gpus(*command)
    mine = pytester.path / "mine"
    drop_last_launches(mine, 2)

    resumed = gpus(*command, "--resume")
    other = gpus(
        *ONE, "--against-engine", PYTHON, "--run-dir", "mine", "--resume"
    )

    assert (0, {"passed": 1}) == (resumed.ret, outcomes(resumed)), (
        resumed.stdout.str()
    )
    assert {MOE: 1, **PAIRS} == launches(mine)
    assert "5 launches kept of 5" in resumed.stdout.str()
    assert 1 == other.ret
    assert "for suspect rows, this command has" in other.stdout.str()


def test_a_loss_that_pairs_leave_in_doubt_has_three_more(gpus, pytester):
    """Two launches of the candidate lost 10 and 40 %, the third nothing: six pairs decide."""
    command = (*ONE, *SUSPECT, "--run-dir", "mine")
    gpus(*command)
    mine = pytester.path / "mine"
    results = load(mine)
    slow = {(f"{MOE}-candidate", 0): 1.1, (f"{MOE}-candidate", 1): 1.4}
    rows = []
    for each in results.measurements:
        factor = slow.get((each.server, each.launch), 1.0)
        rows.append(_slowed(each, factor))
    changed = msgspec.structs.replace(
        results, measurements=tuple(rows), verdicts=()
    )
    save(changed, mine)

    before = perfgate(pytester, "judge", "mine").stdout.str()
    resumed = gpus(*command, "--resume")

    assert "INCONCLUSIVE" in before
    assert 0 == resumed.ret, resumed.stdout.str()
    assert {MOE: 1, f"{MOE}-base": 6, f"{MOE}-candidate": 6} == launches(mine)
    assert "Decided by 6 pairs." in row(mine, ITL_MOE).details[0]


def _slowed(measured, factor):
    """A measurement with all of its inter-token latencies raised."""
    repetitions = []
    for each in measured.repetitions:
        itl_ms = each.values["itl_median_ms"] * factor
        values = each.values | {"itl_median_ms": itl_ms}
        repetitions.append(msgspec.structs.replace(each, values=values))
    return msgspec.structs.replace(measured, repetitions=tuple(repetitions))


def test_the_project_names_its_last_good_build(gpus, pytester):
    """Base build and pairs stand in the project file; --pairs overrides it."""
    file = pytester.path / "perfgate.toml"
    text = f'pairs = "suspect"\n{file.read_text()}'
    file.write_text(f'{text}\n[against_engine]\nfake = "{sys.executable}"\n')
    record(gpus, pytester, *ONE)

    screened = gpus(*ONE, "--run-dir", "mine")
    paired = gpus(*ONE, "--pairs", "all", "--run-dir", "all")

    assert (0, 0) == (screened.ret, paired.ret), paired.stdout.str()
    assert {MOE: 1} == launches(pytester.path / "mine")
    assert 6 == launches(pytester.path / "all").total()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--pairs", "suspect"), "without a base build there are no pairs"),
        ((*SUSPECT, "-n", "1"), "-n with --pairs suspect"),
        (
            (*SUSPECT, "--attach", "fake=http://127.0.0.1:1"),
            "cannot be launched in pairs",
        ),
    ],
    ids=["no-base", "workers", "external"],
)
def test_pairs_that_cannot_be_launched(gpus, options, said):
    """What contradicts pairs of suspect rows is a usage error."""
    result = gpus(*CLOSED, *options)

    assert 0 != result.ret
    assert said in result.stderr.str() + result.stdout.str()


def test_advice_names_the_pairs(gpus):
    """Without a base build a row that is not cleared names the options for pairs."""
    result = gpus(*CLOSED)

    assert (
        "add `--against-engine fake=PYTHON --pairs suspect`"
        in result.stdout.str()
    )
