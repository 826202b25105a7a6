"""Words of causes: a change with both values, and a few of several."""

from perfgate.judge.causes.symptoms import Choice, Moved
from perfgate.judge.causes.words import MOST_LINES, change, choice, lines

ROW = Moved(
    case="s/batch-32/itl_median_ms",
    metric="itl_median_ms",
    load="batch-32",
    streams=32,
    together=False,
    before=5.0,
    now=20.0,
    loss=1.4,
    noise=None,
    is_red=True,
)


def test_change_has_both_values():
    """With the name that people use."""
    assert "ITL of batch-32 +300.0 % (5 ms -> 20 ms)" == change(ROW)


def test_few_of_many_changes():
    """In one sentence; none where nothing changed."""
    (text,) = lines([ROW] * 9)

    assert MOST_LINES == text.count("ITL of")
    assert () == lines([])


def test_choice_has_both_values():
    """From the baseline to the run."""
    assert "graphs on -> off" == choice(Choice("graphs", "on", "off"))
