"""Repetition: what the client spoilt is told apart from what the server did."""

import pytest

from tests.support import builders as m


@pytest.mark.parametrize(
    ("reasons", "is_spoilt"),
    [
        ((), False),
        (("all 8 streams fell silent at once for 900 ms",), False),
        (("the client fell behind: p99 lateness 9 ms",), True),
        (("the client did not run for a total of 270 ms",), True),
        (("the client was too busy: 90 % of a core",), True),
    ],
)
def test_a_reason_of_the_client_spoils_a_repetition(reasons, is_spoilt):
    """A stall of all streams is the server's."""
    row = m.repetition(0, 1.0, reasons)

    assert is_spoilt == row.is_spoilt_by_client
