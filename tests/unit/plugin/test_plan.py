"""`--plan`: the cost of a session; nothing is launched."""

pytest_plugins = ["pytester"]


def test_nothing_is_started(project, pytester):
    """--plan ends with 0, says what would be done and where not, and leaves no run behind."""
    result = project("-m", "cpu", "--plan")
    other = project("-m", "h100", "--plan")

    assert (0, 0) == (result.ret, other.ret), result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "*fake-mixtral-small-tp2*unknown*",
            "Total time unknown: no earlier run measured all of these servers.",
            "*output_throughput*",
        ]
    )
    other.stdout.fnmatch_lines(["not on this machine: needs 2x H100, found*"])
    assert not (pytester.path / "runs").exists()
    project("--plan").stdout.fnmatch_lines(
        ["no perf test is selected: add -m cpu or -m gpu *"]
    )
