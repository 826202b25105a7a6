"""Progress display: the current step, and no more than that."""

import pytest

from perfgate.progress import Progress


class Screen:
    """Keeps what was written, and tells the time."""

    def __init__(self):
        self.written = []
        self.now_s = 1000.0
        self.columns = 80

    def clock(self):
        """Seconds."""
        return self.now_s

    def progress(self, rewritable):
        """Progress on this screen."""
        return Progress(
            self.written.append, rewritable, self.clock, lambda: self.columns
        )


@pytest.fixture
def screen():
    """An empty one."""
    return Screen()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, " 0:00"),
        (59.9, " 0:59"),
        (60, " 1:00"),
        (754, "12:34"),
        (6000, "100:00"),
    ],
)
def test_lines_bear_the_time_since_the_start(screen, seconds, shown):
    """Minutes and seconds since the session began, whatever the clock's origin."""
    progress = screen.progress(rewritable=False)
    screen.now_s += seconds

    progress.line("launching")

    assert [f"  {shown}  launching\n"] == screen.written


def test_terminal_line_is_rewritten(screen):
    """The old text is blanked before the new one, so that nothing of a longer line stays."""
    progress = screen.progress(rewritable=True)

    progress.step("warm-up", 9, 10)
    screen.now_s += 1
    progress.step("closed", 1, 48)

    first = "   0:00  warm-up: 9 of 10 requests"
    assert [
        first,
        "\r" + " " * len(first) + "\r",
        "   0:01  closed: 1 of 48 requests",
    ] == screen.written


def test_line_that_stays_replaces_the_rewritten_one(screen):
    """A permanent line never follows the rewritten one; the next one finds nothing to blank."""
    progress = screen.progress(rewritable=True)

    progress.step("closed", 1, 48)
    progress.line("done")
    progress.line("next")

    width = len("   0:00  closed: 1 of 48 requests")
    assert [
        "\r" + " " * width + "\r",
        "   0:00  done\n",
        "   0:00  next\n",
    ] == screen.written[1:]


def test_terminal_is_written_rarely(screen):
    """Five times a second at most for one thing; another thing shows at once."""
    progress = screen.progress(rewritable=True)
    for done in range(100):
        progress.step("closed", done, 100)
        screen.now_s += 0.01
    told = [text for text in screen.written if "requests" in text]

    # 1 s / 0.2 s
    assert 5 == len(told)

    progress.step("burst", 0, 100)
    assert "burst: 0 of 100" in screen.written[-1]


def test_ci_log_is_written_rarely(screen):
    """Where nothing can be rewritten there is one line every ten seconds at most."""
    progress = screen.progress(rewritable=False)
    for second in range(30):
        progress.step("closed" if second % 2 else "burst", second, 30)
        screen.now_s += 1

    assert [
        "   0:00  burst: 0 of 30 requests\n",
        "   0:10  burst: 10 of 30 requests\n",
        "   0:20  burst: 20 of 30 requests\n",
    ] == screen.written


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_no_line_of_a_terminal_is_wider_than_it(screen, columns):
    """A line that had two rows could not be rewritten; its count is never cut."""
    screen.columns = columns
    progress = screen.progress(rewritable=True)

    progress.step("a-server-with-a-long-name: a workload " * 9, 1234, 5678)
    progress.line("what a server says while it starts, 12 of 34 GB " * 9)

    shown = "".join(screen.written).replace("\r", "\n").split("\n")
    assert max(len(line.rstrip()) for line in shown) <= columns
    assert ": 1234 of 5678 requests" in "".join(screen.written)


def test_a_share_is_a_share(screen):
    """Of what it is one stands beside it."""
    screen.progress(rewritable=False).share("in turns", 0.347, "the time")

    assert ["   0:00  in turns: 35 % of the time\n"] == screen.written
