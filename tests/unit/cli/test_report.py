"""`perfgate report`: stored verdicts, or new ones."""

from perfgate.cli.gate import accept
from perfgate.cli.report import report as report_command
from tests.support import builders as m


def saved(tmp_path, number, value, **how):
    """A run folder with this throughput."""
    return (
        tmp_path
        / "runs"
        / m.saved(tmp_path / "runs", number, value, **how).run_id
    )


def test_report_shows_what_was_decided_or_decides_anew(call, tmp_path):
    """Without --judge the page is of then, with it of the baselines as they are now."""
    store, run = tmp_path / "baselines", saved(tmp_path, 1, 1000.0)
    assert 0 == call(accept, run, "--baselines", store).exit_code
    plain, anew = (
        call(report_command, run, "--baselines", store, *more)
        for more in ((), ("--judge",))
    )

    assert "No verdict: nothing was measured" in plain.output
    # One recorded launch leaves a loss of 5 % possible.
    assert "Undecided: 1 of 1 rows cannot exclude a loss of" in anew.output
