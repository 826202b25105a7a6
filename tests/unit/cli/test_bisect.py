"""`perfgate bisect`: builds and cost, and options that are refused."""

from __future__ import annotations

import pytest

from perfgate.cli.bisect import bisect
from perfgate.cli.main import main
from perfgate.run import run_lock


@pytest.fixture(autouse=True)
def project_folder(tmp_path, monkeypatch):
    """A project without anything."""
    monkeypatch.chdir(tmp_path)


def test_plan_shows_builds_and_cost(call, tmp_path):
    """Nothing is launched or written."""
    done = call(
        bisect,
        *(
            "--builds",
            "old=/a/python,/b/python,/c/python",
            "--bad",
            "/b/python",
        ),
        *("--plan", "--", "-m", "cpu"),
    )

    assert 0 == done.exit_code, done.output
    lines = done.output.splitlines()
    assert "1 build outside --good and --bad left out" == lines[0]
    assert ["1  old  /a/python", "2  /b/python"] == [
        line.strip() for line in lines[1:3]
    ]
    assert lines[3].startswith("2 builds: 4 pairs at least, 1 pair to find")
    assert [] == list(tmp_path.iterdir())


def test_what_is_served_must_be_named(call):
    """A usage error with an example."""
    done = call(bisect, "--builds", "/a,/b")

    assert 2 == done.exit_code
    assert "add arguments of pytest" in done.output


def test_refusal_is_status_2(capsys):
    """1 says that an answer is not confirmed."""
    with pytest.raises(SystemExit) as caught:
        main(["bisect", "--", "-m", "cpu"])

    assert 2 == caught.value.code
    assert "name one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [("--inject-arg", "a=--enforce-eager"), ("--plant-delay=a=2",)],
    ids=["a word", "with its value"],
)
def test_a_change_of_one_build_is_refused(capsys, words):
    """The builds take turns in being the one that it would change."""
    with pytest.raises(SystemExit) as caught:
        main(
            ["bisect", "--builds", "/a,/b", "--plan", "--", "-m", "cpu", *words]
        )

    error = capsys.readouterr().err
    assert 2 == caught.value.code
    assert f"{words[0].partition('=')[0]} behind --" in error
    assert "extra_args of the server in the study file" in error


def test_help_has_an_example_of_each_kind(call):
    """A reader copies one."""
    done = call(bisect, "--help")

    for option in ("--builds", "--versions", "--checkout", "--packages"):
        assert f"perfgate bisect {option} " in done.output


def test_ctrl_c_says_how_to_go_on(call, monkeypatch):
    """No answer: status 2."""

    def interrupted(bisection):
        raise KeyboardInterrupt

    monkeypatch.setattr("perfgate.bisect.bisection.Bisection.run", interrupted)

    done = call(bisect, "--builds", "/a,/b", "--", "-m", "cpu")

    assert 2 == done.exit_code
    assert "Stopped. The same command goes on." in done.output


def test_folder_that_another_bisection_uses(tmp_path, capsys):
    """Two of them would lose each other's pairs."""
    reservation = run_lock.reserve(tmp_path / "found")
    try:
        with pytest.raises(SystemExit) as caught:
            main(
                [
                    *("bisect", "--builds", "/a,/b", "--folder"),
                    *(str(tmp_path / "found"), "--", "-m", "cpu"),
                ]
            )
    finally:
        reservation.release()

    assert 2 == caught.value.code
    assert "another session uses it" in capsys.readouterr().err
