"""`perfgate history`: series of cases, and their exports."""

import os
import re
import shlex

import msgspec

from perfgate.cli.history import history, show_moved
from perfgate.history.store import History
from perfgate.report import trends
from perfgate.results import schema as rundata
from tests.support import builders as m


def saved(tmp_path, number, value, **how):
    """A run folder with this throughput."""
    return (
        tmp_path
        / "runs"
        / m.saved(tmp_path / "runs", number, value, **how).run_id
    )


def test_history_lists_and_shows(call, tmp_path):
    """Without a case the cases are listed; with one its values, with or without Otava."""
    saved(tmp_path, 1, 1000.0)
    saved(tmp_path, 2, 990.0)
    listed = call(history, "--runs", tmp_path / "runs")
    shown = call(history, m.THROUGHPUT.id, "--runs", tmp_path / "runs")
    assert f"{m.THROUGHPUT.id} (h200x2)" in listed.output
    assert "-1.0 %" in listed.output
    assert (0, True, True) == (
        shown.exit_code,
        "1,000 tok/s" in shown.output,
        "990 tok/s" in shown.output,
    )


def test_history_is_drawn_and_exported(call, tmp_path):
    """A page with a drawing for each case, CSV on the terminal, OpenMetrics of the newest run."""
    saved(tmp_path, 1, 1000.0)
    saved(tmp_path, 2, 990.0)
    done = call(
        history,
        "--runs",
        tmp_path / "runs",
        "--html",
        tmp_path / "h.html",
        "--openmetrics",
        tmp_path / "h.prom",
    )
    listed = call(
        history, "--runs", tmp_path / "runs", "--csv", "-"
    ).output.splitlines()

    assert 0 == done.exit_code, done.output
    assert 1 == (tmp_path / "h.html").read_text().count('class="plot"')
    assert (
        'metric="output_throughput",run="20260602-120000-1",unit="tok/s"} 990.0'
        in (tmp_path / "h.prom").read_text()
    )
    assert (tmp_path / "h.prom").read_text().endswith("# EOF\n")
    assert [
        "run,started,hardware,case,metric,unit,value,launches,outcome"
    ] == listed[:1]
    assert 3 == len(listed)


def test_a_part_of_a_name_is_enough(call, tmp_path):
    """A part, or a pattern, that fits one case shows it; on a page as well."""
    saved(tmp_path, 1, 1000.0)
    saved(tmp_path, 2, 990.0)
    runs = ("--runs", tmp_path / "runs")
    for name in ("output_thr", "*/output_throughput", m.THROUGHPUT.id):
        assert "990 tok/s" in call(history, name, *runs).output
    page = tmp_path / "h.html"
    done = call(history, "output_thr", *runs, "--html", page)
    missing = call(history, "nothing-like-it", *runs)

    assert 0 == done.exit_code
    assert 1 == page.read_text().count('class="plot"')
    assert 0 != missing.exit_code


def test_one_run_is_listed_without_a_change(call, tmp_path):
    """There is nothing to compare it with."""
    saved(tmp_path, 1, 1000.0)
    listed = call(history, "--runs", tmp_path / "runs").output

    assert ["one", "run"] == listed.split()[:2]
    assert f"{m.THROUGHPUT.id}  (h200x2)" in listed


def test_a_terminal_shows_what_changed_most_in_its_width(
    tmp_path, monkeypatch, capsys
):
    """The answer first, then a table, then the command that shows one case."""
    saved(tmp_path, 1, 1000.0)
    saved(tmp_path, 2, 990.0)
    monkeypatch.setenv("COLUMNS", "80")
    entries = History(tmp_path / "h.sqlite3")
    entries.refresh(tmp_path / "runs")

    several = trends.by_case(entries.entries(), None)
    show_moved(trends.table(several))

    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    lines = shown.splitlines()
    assert lines[0].startswith("1 case")
    assert max(map(len, lines)) <= 80
    assert "-1.0 %" in shown
    assert f"perfgate history {m.THROUGHPUT.id}" in shown


def test_the_command_for_one_case_reads_the_same_runs(
    tmp_path, monkeypatch, capsys
):
    """What was given is in it: without --runs another history would be read."""
    runs = tmp_path / "my runs"
    case = msgspec.structs.replace(
        m.THROUGHPUT,
        numerator=msgspec.structs.replace(
            m.MOE_LOAD, workload=msgspec.structs.replace(m.CLOSED, name="a b")
        ),
    )
    for number, value in ((1, 1000.0), (2, 990.0)):
        day = f"2026060{number}-120000-1"
        values = {"output_throughput": [value], "itl_median_ms": [value]}
        cases = [case, msgspec.structs.replace(case, metric="itl_median_ms")]
        run = m.run({case.numerator: values}, cases, day)
        rundata.save(run, runs / day)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "1000")

    history.main(["--runs", str(runs)], standalone_mode=False)

    shown = capsys.readouterr().out
    command = shown.partition("All runs: `")[2].partition("`")[0]
    assert command.startswith(f"perfgate history --runs '{runs}' '")
    history.main(shlex.split(command)[2:], standalone_mode=False)
    assert "990" in capsys.readouterr().out


def test_an_export_leaves_links_and_pipes_alone(call, tmp_path):
    """What a link names is written; a pipe, or a device, is refused."""
    saved(tmp_path, 1, 1000.0)
    file, link, pipe = (tmp_path / name for name in ("file", "link", "pipe"))
    file.write_text("old")
    link.symlink_to(file)
    os.mkfifo(pipe)

    runs = ("--runs", tmp_path / "runs", "--csv")
    written, refused = (call(history, *runs, path) for path in (link, pipe))

    assert 0 == written.exit_code
    assert link.is_symlink()
    assert file.read_text().startswith("run,")
    assert "not a regular file" in str(refused.exception)
    assert pipe.is_fifo()
