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
        lambda: Report([results]), tmp_path / "run", environment
    )

    assert step.read_text().startswith("before\n## ✗ Red: 1 of 3")
    assert ["::error", "::warning", "report:"] == [
        line.split()[0] for line in told
    ]
    assert "%0A  do:   look" in told[0]
    assert [] == summary.workflow_commands(results, {})


def test_an_error_in_the_report_is_said(tmp_path):
    """Whatever the report runs into is a line for the terminal."""
    (line,) = written.write_safely(lambda: Report([]), tmp_path, {})

    assert "no report: IndexError" in line


def test_ctrl_c_ends_the_drawing_alone(tmp_path):
    """After a Ctrl-C during drawing the verdicts are there, with the command to draw again."""

    def interrupted() -> Report:
        raise KeyboardInterrupt

    (line,) = written.write_safely(interrupted, tmp_path, {})

    assert (
        f"no report: KeyboardInterrupt (try again: `perfgate report {tmp_path}`)"
        == line
    )
