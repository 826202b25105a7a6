"""Interrupts: none is lost, wherever Python was when it came."""

import sys
import time

import pytest

from perfgate.run.interrupts import kept


class Interrupted:
    """Its destructor is interrupted; Python drops what a destructor raises."""

    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error


def drop_interrupt_and_wait():
    """What a session does that Ctrl-C does not end."""
    with kept():
        item = Interrupted(KeyboardInterrupt())
        del item
        until = time.monotonic() + 30
        while time.monotonic() < until:
            time.sleep(0.01)


def test_a_dropped_interrupt_comes_again():
    """In the code that runs then."""
    with pytest.raises(KeyboardInterrupt):
        drop_interrupt_and_wait()


def test_what_else_is_dropped_is_shown_as_before(monkeypatch):
    """By the hook that was there, which is there again afterwards."""
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)
    hook = sys.unraisablehook

    with kept():
        item = Interrupted(ValueError("odd"))
        del item

    assert [ValueError] == [row.exc_type for row in shown]
    assert hook == sys.unraisablehook
