"""Report files: their places, and what went wrong."""

from perfgate.report import artifacts as written
from perfgate.report import summary
from perfgate.report.page import Report
from tests.support.judged_runs import judged


def test_step_summary_and_annotations(tmp_path):
    """In GitHub Actions the summary is appended to the step's.

    Failed cases are errors, undecided ones warnings.
    """
    results, step = (
        judged("REGRESSED", "PASSED", "INCONCLUSIVE"),
        tmp_path / "step.md",
    )
    step.write_text("before\n")
    environment = {"GITHUB_STEP_SUMMARY": str(step), "GITHUB_ACTIONS": "true"}
    told = written.write_safely(
        Report([results]), dict, tmp_path / "run", environment
    )

    assert step.read_text().startswith("before\n## ✗ Red: 1 of 3")
    assert ["::error", "::warning", "report:"] == [
        line.split()[0] for line in told
    ]
    assert "%0A  do:   look" in told[0]
    assert [] == summary.workflow_commands(results, {})


def test_an_error_in_the_report_is_said(tmp_path):
    """Whatever the report runs into is a line for the terminal, for each file."""
    lines = written.write_safely(Report([]), dict, tmp_path, {})

    names = [line.split(":")[0] for line in lines]
    files = [written.JUNIT, written.SUMMARY, written.BENCHMARK, written.PAGE]
    assert {f"no {name}" for name in files} <= set(names)
    assert all("IndexError" in line for line in lines if ".xml" in line)


def test_a_missing_step_summary_is_a_line(tmp_path):
    """The files and the annotations are there all the same."""
    environment = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "gone" / "step.md"),
    }
    run = judged("REGRESSED")

    lines = written.write_safely(Report([run]), dict, tmp_path, environment)

    assert any(line.startswith("::error") for line in lines)
    assert any(
        line.startswith("no job summary: no such file") for line in lines
    )
    assert lines[-1].startswith(f"report: {tmp_path / written.PAGE}")


def test_ctrl_c_ends_the_drawing_alone(tmp_path, monkeypatch):
    """After a Ctrl-C during drawing the exports are there, with the command to draw again."""

    def interrupted(report):
        raise KeyboardInterrupt

    monkeypatch.setitem(written._MAKERS, written.PAGE, interrupted)

    lines = written.write_safely(Report([judged("PASSED")]), dict, tmp_path, {})

    assert (
        "no report.html: KeyboardInterrupt (try again: `perfgate report "
        f"{tmp_path}`)"
    ) == lines[0]
    assert (tmp_path / written.JUNIT).is_file()
