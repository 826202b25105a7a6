"""Work of a held engine: counted on one launch, recorded for any CPU, operators named.

Whole runs of pytest in a project of their own, with fake engines in place of real ones.
"""

import pytest

from perfgate.report.verdict_text import render
from perfgate.results.schema import load
from tests.support.projects import outcomes, perfgate, verdicts

pytest_plugins = ["pytester"]
RUN = ("-m", "cpu", "-k", "test_work_of_a_batch", "--run-dir")


@pytest.fixture(autouse=True)
def held(monkeypatch):
    """The fake engine can be held in one process."""
    monkeypatch.setenv("FAKE_HELD_ON", "cpu")


def test_one_operator_more_in_a_step_is_found_on_any_cpu(
    project, pytester, monkeypatch
):
    """The baseline lies in the folder of any CPU; what was planted is red, in its model alone."""
    first = project(*RUN, "first")
    assert {"NO_BASELINE"} == set(verdicts(pytester.path / "first").values())
    assert 2 == len(load(pytester.path / "first").launches)
    accepted = perfgate(pytester, "accept", "first")
    assert 0 == accepted.ret, accepted.stderr.str()
    stored = sorted(
        path.name for path in (pytester.path / "baselines").iterdir()
    )
    assert ["cpu-any"] == [name for name in stored if name.startswith("cpu")]

    same = project(*RUN, "same")
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", "llama-tiny: --adds 2")
    more = project(*RUN, "more")

    count = len(verdicts(pytester.path / "first"))
    assert (0, {"passed": count}) == (same.ret, outcomes(same)), (
        first.stdout.str()
    )
    red = [
        case
        for case, outcome in verdicts(pytester.path / "more").items()
        if outcome == "REGRESSED"
    ]
    assert (1, 2) == (more.ret, len(red)), more.stdout.str()
    assert all(
        "llama-tiny" in case and "work_operators" in case for case in red
    )
    results = load(pytester.path / "more")
    row = next(row for row in results.verdicts if row.case == red[0])
    assert "aten.add.Tensor" in render(row)
    assert 2 == len(results.launches)


def test_instructions_are_counted_where_they_are_asked_for(
    project, pytester, monkeypatch
):
    """By launches of their own; more of them are red, and the message says what they are not."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    asked = ("-m", "cpu", "-k", "instructions", "--instructions", "--run-dir")
    project(*asked, "first")
    accepted = perfgate(pytester, "accept", "first")
    assert 0 == accepted.ret, accepted.stderr.str()
    assert 4 == len(verdicts(pytester.path / "first"))

    monkeypatch.setenv("FAKE_MISBEHAVIOUR", "llama-tiny: --adds 2")
    more = project(*asked, "more")

    results = load(pytester.path / "more")
    red = [row for row in results.verdicts if row.outcome == "REGRESSED"]
    assert (1, 2) == (more.ret, len(red)), more.stdout.str()
    for row in red:
        assert row.case.startswith("fake-llama-tiny-tp1-held-instructions/")
        assert "Instructions are no time" in render(row)
