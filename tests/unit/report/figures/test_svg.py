"""SVG drawings: the reader's theme, and the same output from run to run."""

from perfgate.report.figures import svg


def paint(figure):
    """A line with a legend."""
    axes = svg.axis(figure, "batch", "ms", log_x=True)
    axes.plot([1, 2, 4], [1.0, 2.0, 3.0], label="dense", **svg.style(0))
    svg.legend(figure, axes)


def test_colours_are_the_pages_variables():
    """No stand-in is left; text stays text, with a name and an alternative."""
    drawn = svg.draw("k", "A < B", "one & two", paint)

    assert "#0102" not in drawn
    assert {"var(--s1)", "var(--text)", "var(--grid)"} <= {
        f"var({part.partition(')')[0]})" for part in drawn.split("var(")[1:]
    }
    assert '<title id="k-title">A &lt; B</title>' in drawn
    assert '<desc id="k-description">one &amp; two</desc>' in drawn
    assert ">dense<" in drawn


def test_the_same_drawing_twice():
    """Nothing names the day or the maker; ids of two drawings of a page differ."""
    one, two = (svg.draw(key, "t", "d", paint) for key in ("a", "b"))

    assert one == svg.draw("a", "t", "d", paint)
    assert 'id="a-' in one
    assert 'id="a-' not in two


def test_series_can_be_told_apart_without_colour():
    """Each has its own marker and dashes."""
    looks = [svg.style(number) for number in range(svg.MOST_SERIES)]

    assert svg.MOST_SERIES == len({look["marker"] for look in looks})
    assert svg.MOST_SERIES == len({str(look["linestyle"]) for look in looks})
