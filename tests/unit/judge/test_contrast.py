"""Contrast: one number of several rows for each launch."""

import math

import pytest

from perfgate.judge.contrast import (
    Contrast,
    Row,
    ServerRows,
    clearest,
    distance,
    kind_of,
    mean,
    most_repeated,
    recorded_row,
    select,
)
from perfgate.results.samples import Sample


def row(load, metric="itl_median_ms", **sessions):
    """The log losses of a load's launches, by session."""
    return Row(load, metric, "closed", sessions)


def test_rows_of_one_load_count_once():
    """Two rows of "a" weigh as much together as that of "b"."""
    assert 2.5 == mean([0.0, 2.0, 4.0], ["a", "a", "b"])


def test_a_row_is_compared_with_other_loads():
    """The other row of its own load is nearly the same."""
    losses, loads = [9.0, 8.0, 2.0, 4.0], ["a", "a", "b", "c"]

    assert 6.0 == distance(losses, loads, 0)


@pytest.mark.parametrize(
    ("metric", "arrivals", "kind"),
    [
        ("itl_median_ms", "closed", "decode_speed"),
        ("tpot_median_ms", "open", "decode_speed"),
        ("output_throughput", "burst", "throughput"),
        ("output_throughput", "open", None),
        ("e2el_mean_ms", "open", "throughput"),
        ("ttft_median_ms", "closed", None),
        ("itl_p99_ms", "closed", None),
    ],
)
def test_steady_metrics_belong_to_a_kind(metric, arrivals, kind):
    """In an open loop the throughput is the rate of the requests."""
    assert kind == kind_of(metric, arrivals)


def test_a_throughput_is_turned():
    """More is worse; launches are in order, those without a value are left out."""
    launches = [
        Sample(run="r", launch=1, value=10.0),
        Sample(run="r", launch=0, value=20.0),
        Sample(run="s", launch=0, value=None),
    ]

    found = recorded_row("a", "output_throughput", "closed", launches, True)

    assert {"r": [-math.log(20), -math.log(10)]} == found.sessions


def test_a_contrast_has_a_sample_for_each_launch():
    """Where one row has more launches than another, of the first ones."""
    rows = [row("a", r=[1.0, 2.0, 5.0]), row("b", r=[3.0, 4.0])]

    samples = Contrast(("a", "b")).samples(rows, ["r"])

    assert [("r", 0), ("r", 1)] == [(s.run, s.launch) for s in samples]
    logs = [math.log(sample.value) for sample in samples]
    assert [2.0, 3.0] == pytest.approx(logs)


def test_the_clearest_selection_has_many_loads():
    """Three loads of one session, not two loads of two; for noise the other."""
    rows = [
        row("a", r=[0.0], s=[0.0]),
        row("b", r=[0.0], s=[0.0]),
        row("c", r=[0.0]),
    ]

    clear = select(rows, {"r", "s"}, clearest)
    repeated = select(rows, {"r", "s"}, most_repeated)

    assert ((0, 1, 2), {"r"}) == (clear.positions, clear.sessions)
    assert ((0, 1), {"r", "s"}) == (repeated.positions, repeated.sessions)


def test_one_load_is_no_selection():
    """However many rows it has."""
    rows = [row("a", r=[0.0]), row("a", "tpot_median_ms", r=[0.0])]

    assert select(rows, {"r"}, clearest) is None


def test_noise_is_learned_from_contrasts():
    """A shift by machine, and of three loads each one's distance; sessions count once."""
    server = ServerRows("one-gpu")
    server.machines = {"r": "gpu-a", "s": "gpu-a", "t": "gpu-b"}
    for load, loss in (("a", 1.0), ("b", 2.0), ("c", 6.0)):
        server.add(row(load, r=[loss], s=[loss + 1.0], t=[loss]))
    server.add(row("a", "ttft_median_ms", r=[0.0]))

    shift, *outliers = server.series()

    assert ("shift", "decode_speed") == (shift.contrast, shift.metric)
    assert [3.0, 4.0] == pytest.approx(shift.machines["gpu-a"].logs)
    assert [3.0] == pytest.approx(shift.machines["gpu-b"].logs)
    assert ["outlier"] * 3 == [series.contrast for series in outliers]
    assert [-3.0, -3.0] == pytest.approx(outliers[0].machines["gpu-a"].logs)


def test_a_session_without_common_loads_is_learned_by_itself():
    """Two with a and b, one with c and d."""
    server = ServerRows("one-gpu")
    for load in ("a", "b"):
        server.add(row(load, r=[0.0], s=[1.0]))
    for load in ("c", "d"):
        server.add(row(load, t=[5.0]))

    first, second = server.series()

    assert [0.0, 1.0] == pytest.approx(first.machines[None].logs)
    assert [5.0] == pytest.approx(second.machines[None].logs)
