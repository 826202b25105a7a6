"""Rules for pages: short sentences, one a line, and links that lead somewhere."""

import pytest

from tools import check_docs

PAGES = {
    page.relative_to(check_docs.ROOT).as_posix(): page
    for page in check_docs.pages(check_docs.ROOT)
}
LONG = "These words are " + "so " * 22 + "many."


@pytest.fixture
def page(tmp_path):
    """Writes a page; the faults that are found in it."""

    def faults(text, name="docs/page.md"):
        path = tmp_path / "page.md"
        path.write_text(text)
        return list(check_docs.faults(path, name))

    return faults


@pytest.mark.parametrize("name", PAGES)
def test_a_page_keeps_the_rules(name):
    """Neither too long, nor with a long sentence, two on a line, or a broken link."""
    assert [] == list(check_docs.faults(PAGES[name], name))


def test_pages_with_a_limit_exist():
    """A page that is renamed takes its limit along."""
    assert set() == check_docs.MOST_WORDS_OF_A_PAGE.keys() - PAGES.keys()


def test_a_long_sentence_is_found(page):
    """25 words are allowed; the 26th is a fault, with line and number."""
    short = LONG.replace("so ", "", 1)

    assert [] == page(f"# Title\n\n{short}\n")
    assert [f"3: 26 words: {LONG}"] == page(f"# Title\n\n{LONG}\n")


def test_a_sentence_goes_over_lines_and_items(page):
    """It counts whole, also in an item of a list."""
    words = LONG.split()
    broken = f"* {' '.join(words[:12])}\n  {' '.join(words[12:])}\n"

    assert [f"1: 26 words: {LONG}"] == page(broken)


def test_code_tables_and_links_do_not_lengthen_a_sentence(page):
    """Code is a word, a link its text; blocks and tables are no prose."""
    code = f"`{'a ' * 30}`"
    link = f"[text](https://example.org/{'a' * 300})"
    text = f"Look at {code}.\n\n| {LONG} |\n|---|\n\n    {LONG}\n"

    assert [] == page(f"{text}\n```text\n{LONG}\n```\n")
    assert 4 == next(check_docs.sentences(f"Look at the {link}.")).words


def test_each_sentence_has_its_line(page):
    """The second one on a line is a fault; a heading before the first is none."""
    assert [] == page("**One.** Only this.\nAnd this (vLLM 0.26. no end).\n")
    assert ["1: not on a line of its own: Two."] == page("One. Two.\n")
    assert ["1: not on a line of its own: `two` too."] == page(
        '"One." `two` too.\n'
    )


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("page.md", None),
        ("https://example.org/x#y", None),
        ("#a-title", None),
        ("page.md#modelsname", None),
        ("none.md", "no file none.md"),
        ("#none", "no heading #none"),
        ("page.md#none", "no heading page.md#none"),
    ],
)
def test_links_lead_to_files_and_headings(page, link, fault):
    """Within the page too, and to headings with code in them."""
    text = f"# A title\n\n## `[models.NAME]`\n\n[text]({link})\n"

    assert ([f"5: {fault}"] if fault else []) == page(text)


def test_a_heading_in_code_is_none(page):
    """A comment of a shell script is no heading."""
    assert ["1: no heading #comment"] == page(
        "[text](#comment)\n\n```sh\n# comment\n```\n"
    )


def test_long_pages_are_found(page):
    """Words of code and tables count."""
    name = next(iter(check_docs.MOST_WORDS_OF_A_PAGE))
    most = check_docs.MOST_WORDS_OF_A_PAGE[name]

    assert [] == page("| a |\n" * most, name)
    assert [f"{most + 1} words, {most} at most"] == page(
        "| a |\n" * (most + 1), name
    )
