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
    """By the baselines as they are now, or with the verdicts of then; it says which."""
    store, run = tmp_path / "baselines", saved(tmp_path, 1, 1000.0)
    assert 0 == call(accept, run, "--baselines", store).exit_code
    later = saved(tmp_path, 2, 1000.0)
    anew, then = (
        call(report_command, later, "--baselines", store, *more)
        for more in ((), ("--as-then",))
    )

    assert "Green: 1 of 1 rows passed" in anew.output
    assert f"by the baselines in {store}, without launches of" in anew.output
    assert "No verdict: nothing was measured" in then.output
    assert "As it was judged on 2026-06-02" in then.output
    page = (later / "report.html").read_text()
    assert "As it was judged on 2026-06-02" in page


def test_report_does_not_hold_a_run_against_itself(call, tmp_path):
    """Its launches are the only ones that were accepted: there is no baseline."""
    store, run = tmp_path / "baselines", saved(tmp_path, 1, 1000.0)
    assert 0 == call(accept, run, "--baselines", store).exit_code

    done = call(report_command, run, "--baselines", store)

    summary = (run / "summary.md").read_text()
    assert "NO_BASELINE" in summary
    assert "vs the baseline" not in summary
    assert 0 == done.exit_code


def test_what_cannot_be_written_is_said(call, tmp_path):
    """The run is not where the files go: the same command is to be repeated."""
    run = saved(tmp_path, 1, 1000.0)
    out = tmp_path / "out"
    (out / "report.html").mkdir(parents=True)

    done = call(report_command, run, "--out", out)

    assert 1 == done.exit_code
    assert f"no report.html: writing {out / 'report.html'}" in done.output
    assert "(try again: the same command)" in done.output
    assert "--run-dir" not in done.output
    assert (out / "summary.md").is_file()
