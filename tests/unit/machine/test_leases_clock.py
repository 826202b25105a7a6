"""Leases and clocks: setting the machine's clock ends no lease, and makes none overdue."""

import time
from pathlib import Path

import msgspec
import pytest

from perfgate.machine import leases
from perfgate.machine.leases import Holder, LeaseExpired, NotLeased, acquire


def lease(folder: Path, hold_s: float = 60.0, wait_s: float = 0.0):
    """The CPU."""
    return acquire(
        ["cpu"],
        1,
        wait_s=wait_s,
        hold_s=hold_s,
        progress=lambda _: None,
        folder=folder,
    )


@pytest.mark.parametrize("hours", [-48, 5])
def test_a_clock_that_is_set_moves_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    """Neither for its holder nor for those who wait."""
    now_s = time.time()
    with lease(tmp_path) as held:
        monkeypatch.setattr(time, "time", lambda: now_s + 3600 * hours)
        held.check()
        with pytest.raises(NotLeased) as caught:
            lease(tmp_path)

    assert "overdue" not in caught.value.seen
    shown = time.strftime("%H:%M", time.localtime(time.time()))
    assert f"since {shown}" in caught.value.seen


def test_time_that_passes_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the remedy names options that exist."""
    with lease(tmp_path) as held:
        later_s = leases.clock_s() + 3600
        monkeypatch.setattr(leases, "clock_s", lambda: later_s)
        with pytest.raises(LeaseExpired, match="ended 59 min ago") as caught:
            held.check()

    assert "--resume" in caught.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x00\xff",
        b"[" * 4000,
        msgspec.json.encode(
            Holder(pid=1, user="a", command="b", since_s=1e300, until_s=1e300)
        ),
        msgspec.json.encode(
            Holder(
                pid=1,
                user="\x1b[2J\n::error::x",
                command="pytest --attach vllm=http://u:tiptoe@h",
                since_s=1.0,
                until_s=2.0,
            )
        ),
    ],
)
def test_what_another_user_wrote_is_text(tmp_path: Path, text: bytes) -> None:
    """Nonsense, times beyond all calendars, control characters and secrets."""
    with lease(tmp_path):
        (path,) = tmp_path.glob("*.lock")
        path.write_bytes(text)
        with pytest.raises(NotLeased) as caught:
            lease(tmp_path)

    assert "tiptoe" not in caught.value.seen
    assert "\x1b" not in caught.value.seen
    assert "\n" not in caught.value.seen


def test_the_command_of_a_holder_has_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody may read the file."""
    command = ["pytest", "--attach", "vllm=http://u:tiptoe@h"]
    monkeypatch.setattr("sys.orig_argv", command)
    with lease(tmp_path):
        (path,) = tmp_path.glob("*.lock")
        text = path.read_text()

    assert "vllm=http://***@h" in text
