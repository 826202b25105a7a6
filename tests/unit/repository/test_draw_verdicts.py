"""The picture of four verdicts shows what the gate says of the stored runs today."""

from tools import draw_verdicts


def test_the_picture_is_up_to_date():
    """Drawn anew it is the stored file: `python -m tools.draw_verdicts` makes it."""
    stored = draw_verdicts.PICTURE.read_text(encoding="utf-8")

    assert draw_verdicts.draw() == stored
    assert 60_000 > len(stored)
    for word in ("PASSED", "REGRESSED", "NOT_EXCLUDED", "IMPROVED"):
        assert f">{word}<" in stored
