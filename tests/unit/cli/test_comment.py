"""The command `comment`: to the terminal, or to a pull request."""

from pathlib import Path

from click.testing import CliRunner

from perfgate.cli.comment import comment
from perfgate.report.comment import MARKER
from tests.support.comment_api import comment_api

RUN = Path(__file__).resolve().parents[3] / "docs" / "runs"
EAGER = str(RUN / "h200x1-planted" / "eager" / "01")


def test_it_is_printed():
    """What would be posted."""
    result = CliRunner().invoke(comment, [EAGER])

    assert 0 == result.exit_code
    assert result.output.startswith(MARKER)


def test_it_is_posted_and_then_replaced():
    """It says which, and where."""
    with comment_api() as api:
        environment = {
            "GITHUB_API_URL": api.url,
            "GITHUB_REPOSITORY": "a/b",
            "GITHUB_TOKEN": "t",
        }
        command = [EAGER, "--post", "github", "--number", "3"]
        first, second = (
            CliRunner().invoke(comment, command, env=environment)
            for _ in range(2)
        )

    assert f"wrote the comment at {api.url}/repos/a/b" in first.output
    assert second.output.startswith("replaced the comment")
    assert 1 == len(api.comments)
