"""Why a server ended that the kernel killed: in the container, on the host, or unknown."""

import pytest

from perfgate.servers.log import UNKNOWN
from perfgate.servers.memory_kills import KILLED, OUT_OF_MEMORY, explain


class Watch:
    """What the kernel killed."""

    def __init__(self, here="", on_host=""):
        self._here, self._on_host = here, on_host

    def killed_here(self):
        """In the container."""
        return self._here

    def killed_on_host(self):
        """Anywhere."""
        return self._on_host


@pytest.mark.parametrize(
    ("watch", "exit_code", "remedy", "expected"),
    [
        (Watch("1 here"), 1, "known", ("1 here", OUT_OF_MEMORY)),
        (Watch("1 here", "1 there"), 1, UNKNOWN, ("1 here", OUT_OF_MEMORY)),
        (Watch("", "1 there"), 1, UNKNOWN, ("1 there", OUT_OF_MEMORY)),
        (Watch("", "1 there"), 1, "known", ("1 there", "known")),
        (Watch(), -9, UNKNOWN, ("", KILLED)),
        (Watch(), -9, "known", ("", "known")),
        (Watch(), 1, UNKNOWN, ("", UNKNOWN)),
        (Watch(), None, UNKNOWN, ("", UNKNOWN)),
    ],
)
def test_the_nearest_cause_is_told(watch, exit_code, remedy, expected):
    """A kill in the container is the cause; one elsewhere only where the log tells none."""
    assert expected == explain(watch, exit_code, remedy)


def test_engine_that_killed_itself_is_not_blamed_on_others():
    """Its log has the error, and the remedy sends there: SGLang after a failed start."""
    error = "RuntimeError: scheduler died during initialization"

    assert ("", UNKNOWN) == explain(Watch(), -9, UNKNOWN, error)
    assert ("1 here", OUT_OF_MEMORY) == explain(
        Watch("1 here"), -9, UNKNOWN, error
    )
