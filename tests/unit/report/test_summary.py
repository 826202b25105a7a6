"""Summary: fits where it is shown, and says where it was cut."""

from perfgate.report import summary


def test_summary_is_cut_with_a_sentence():
    """A summary that does not fit ends at the end of a line and says so; one that fits is whole."""
    text = "line\n" * 1000
    cut = summary.fitted(text, 500)

    assert text == summary.fitted(text, 5000)
    assert len(cut.encode()) <= 500
    assert "the summary has 5,000 bytes, the limit here is 500" in cut


def test_a_cut_leaves_nothing_open():
    """Where a cut falls into a quoted message that ends first, so that the sentence is read."""
    text = (
        "<details><summary>all</summary>\n\n```\n"
        + "line\n" * 1000
        + "```\n\n</details>\n"
    )
    cut = summary.fitted(text, 500)

    assert 2 == cut.count("```")
    assert 1 == cut.count("</details>")
    assert cut.index("</details>") < cut.index("**Truncated:**")
    assert len(cut.encode()) <= 500
