"""Cross-check: two clients compared by the same definitions."""

import random

import pytest

from perfgate.load.crosscheck import (
    ENOUGH_ROUNDS,
    SERVERS_OWN,
    Comparison,
    Turn,
    compare,
)
from perfgate.load.other_clients import ClientFailed


@pytest.mark.parametrize(
    ("difference", "uncertainty", "verdict"),
    [
        (0.02, 0.005, "agree"),
        (-0.02, 0.005, "agree"),
        (0.02, 0.02, "undecided: more rounds, less noise"),
        (-0.1, 0.08, "undecided: more rounds, less noise"),
        (-0.1, 0.05, "DIFFER"),
    ],
)
def test_verdicts(difference, uncertainty, verdict):
    """Agreement within 3 % is shown, not presumed: noise as large as that decides nothing."""
    assert verdict == Comparison(
        "x", 1.0, 1.0, difference, uncertainty
    ).verdict(0.03)


def test_rounds_are_compared_in_pairs():
    """A machine that gets three times slower between rounds hides no difference of 10 %."""
    names = (
        "ttft_median_ms",
        "itl_median_ms",
        "tpot_median_ms",
        "e2el_median_ms",
        "output_throughput",
    )
    rounds = (10.0, 30.0, 20.0)
    found = compare(
        [Turn(dict.fromkeys(names, 1.1 * v)) for v in rounds],
        [Turn(dict.fromkeys(names, v)) for v in rounds],
    )

    assert {(22.0, 20.0, 0.1, 0.0)} == {
        (
            round(c.suite, 9),
            c.client,
            round(c.difference, 9),
            round(c.uncertainty, 9),
        )
        for c in found
    }


def turns(server_ms, client_factor):
    """One client's turns on a server of that latency; throughput falls as latencies grow."""
    for ms in server_ms:
        seen = dict.fromkeys(SERVERS_OWN, client_factor * 2 * ms)
        own = dict.fromkeys(SERVERS_OWN.values(), ms)
        yield Turn(seen | {"output_throughput": client_factor * 3e4 / ms}, own)


@pytest.mark.parametrize("rounds", [ENOUGH_ROUNDS - 1, 40])
def test_what_the_server_did_is_taken_out(rounds):
    """The server changes by 10 % from turn to turn; our client measures 1 % more of everything."""
    rng = random.Random(3)
    ours, theirs = (
        [10 * rng.uniform(0.9, 1.1) for _ in range(rounds)] for _ in range(2)
    )

    found = compare(list(turns(ours, 1.01)), list(turns(theirs, 1.0)))

    if rounds < ENOUGH_ROUNDS:
        assert {False} == {c.at_equal_server_speed for c in found}
        assert {"undecided: more rounds, less noise"} == {
            c.verdict(0.03) for c in found
        }
    else:
        assert [pytest.approx(0.01)] * 5 == [c.difference for c in found]
        assert {"agree"} == {c.verdict(0.03) for c in found}


@pytest.mark.parametrize("ours_stood", [True, False])
def test_a_round_in_which_all_tokens_came_at_once_does_not_count(ours_stood):
    """The median gap of one client is nothing there, which has no ratio."""
    ours = list(turns([10.0, 11.0, 12.0], 1.02))
    theirs = list(turns([10.0, 11.0, 12.0], 1.0))
    stood = theirs
    if ours_stood:
        stood = ours
    stood[1].figures["itl_median_ms"] = 0.0

    found = compare(ours, theirs)

    assert [pytest.approx(0.02)] * 5 == [row.difference for row in found]
    stood[0].figures["itl_median_ms"] = 0.0
    with pytest.raises(ClientFailed, match="2 of them"):
        compare(ours, theirs)


def test_a_real_difference_is_not_taken_out():
    """Ours measures 5 % more than theirs; 1 % of noise is not explained by the server."""
    rng = random.Random(4)
    ours = [
        Turn(
            {n: v * rng.gauss(1, 0.01) for n, v in turn.figures.items()},
            turn.server,
        )
        for turn in turns([10 * rng.uniform(0.9, 1.1) for _ in range(24)], 1.05)
    ]

    found = compare(
        ours, list(turns([10 * rng.uniform(0.9, 1.1) for _ in range(24)], 1.0))
    )

    assert {"DIFFER"} == {c.verdict(0.03) for c in found}


FIGURES = {
    f"median_{word}_ms": 10.0
    for word in ("ttft", "itl", "tpot", "e2el", "e2e_latency")
}
