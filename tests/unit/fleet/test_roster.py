"""Roster: hosts are checked once each, and say what they lack."""

from __future__ import annotations

import perfgate
from perfgate.fleet.roster import Job, Roster
from tests.support.fake_cluster import FakeCluster, unit
from tests.support.fleets import host

ONE = unit("one")


def roster(units=(ONE,), lacking=None):
    """The roster of two hosts, checked; with the lines that it told."""
    cluster = FakeCluster(
        [host("a"), host("b")], {"a": "h200", "b": "h100"}, units, None
    )
    cluster.lacking = lacking or {}
    lines = []
    made = Roster(
        cluster, Job(("-m", "gpu"), "/project"), lines.append, cluster.clock
    )
    made.check_all()
    return made, lines


def test_each_host_lists_its_units():
    """With the kind of its machine; the units of all hosts are those of the run."""
    made, lines = roster()

    assert ["h200", "h100"] == [row.kind for row in made.places.values()]
    assert (ONE,) == made.units
    assert ["a: 1x h200", "b: 1x h100"] == lines
    assert not made.is_checking


def test_a_host_that_cannot_list_is_left_out():
    """It says why; the others are used."""
    made, lines = roster(lacking={"a": ("no module named perfgate",)})

    assert ["id-b"] == list(made.places)
    assert {"id-a": "a: no module named perfgate"} == made.unusable
    assert "a is left out: no module named perfgate" in lines


def test_another_version_is_left_out(monkeypatch):
    """Two versions may measure the same case in two ways."""
    monkeypatch.setattr(perfgate, "__version__", "0.0.1")
    cluster = FakeCluster([host("a")], {"a": "h200"}, (ONE,), None)
    lines = []
    made = Roster(cluster, Job((), "/project"), lines.append, cluster.clock)
    made.refresh()
    news = cluster.wait(0.0)
    monkeypatch.setattr(perfgate, "__version__", "9.9")
    for one in news:
        made.hear(one)

    assert {} == made.places
    assert (
        "a is left out: it has perfgate 0.0.1, the driver 9.9: install the same"
        in lines
    )
