"""Figures of several runs: the same axes, a line for each server of each run."""

from perfgate.report.figures.overlaid import NamedRun, pictures
from perfgate.results.samples import RunIndex
from tests.support import builders as m
from tests.support.judged_runs import judged


def test_two_runs_share_their_axes():
    """Each line names its run, and the lines of one server stand next to each other."""
    run = RunIndex(judged("PASSED"))
    drawn = pictures([NamedRun("run A", run), NamedRun("this run", run)])
    latency = drawn[0]

    assert [
        "Time per token over batch size",
        "Throughput over batch size",
        "TTFT over request rate",
        "ITL over request rate",
    ] == [picture.title for picture in drawn]
    servers = list(dict.fromkeys(row[0] for row in latency.rows))
    assert servers == sorted(servers, key=lambda name: name.split(", ")[0])
    assert {"run A", "this run"} == {name.split(", ")[1] for name in servers}


def test_what_only_one_run_has_is_not_overlaid():
    """One line is no comparison."""
    runs = [
        NamedRun("run A", RunIndex(m.run({}, []))),
        NamedRun("this run", RunIndex(judged("PASSED"))),
    ]

    assert [] == pictures(runs)
