"""Checks the documentation: words of a page, length of its sentences, links and headings.

    python -m tools.check_docs      # words and longest sentence of each page, then what is wrong

Words are counted in the whole page, with code and tables; sentences in its prose alone.
Parts that mkdocs generates are in neither.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from markdown.extensions.toc import slugify

ROOT = Path(__file__).resolve().parent.parent
MOST_WORDS_OF_A_SENTENCE = 25
# Pages that a newcomer reads first, in words.
MOST_WORDS_OF_A_PAGE: Mapping[str, int] = {
    "README.md": 900,
    "docs/how-a-verdict-is-made.md": 900,
    "docs/vllm-branch.md": 600,
    "docs/sglang-branch.md": 600,
    "docs/tutorial.md": 700,
}
MOST_COLUMNS = 120

FENCE = re.compile(r"^ *(```|~~~)")
HEADING = re.compile(r"^#{1,6} (?P<text>.*)$")
ITEM = re.compile(r"^ *(?:[*-]|\d+\.) (?P<text>.*)$")
LINK = re.compile(
    r"!?\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<to>[^)\s]+)[^)]*\)"
)
SENTENCE_END = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\")]))\s+(?=[\"(*`\[]*[A-Z0-9`])"
)
# A heading at the beginning of a paragraph.
LEAD = re.compile(r"^\*\*[^*]+[.?:]\*\* ")
WORD = re.compile(r"[^\W_]")
CODE = re.compile(r"`[^`]+`")


@dataclass(frozen=True)
class Line:
    """A line of a page's prose.

    Attributes:
        number: counted from 1.
        text: without the mark of a list.
        begins: whether a paragraph or an item of a list begins here.
    """

    number: int
    text: str
    begins: bool


@dataclass(frozen=True)
class Sentence:
    """A sentence of a page's prose.

    Attributes:
        number: of the line that it begins on.
        text: in one line.
        begins_a_line: whether it does.
    """

    number: int
    text: str
    begins_a_line: bool

    @property
    def words(self) -> int:
        """Its words; code, and the target of a link, count once and not at all."""
        text = LINK.sub(lambda link: link["text"], LEAD.sub("", self.text))
        text = CODE.sub("code", text)
        return sum(bool(WORD.search(word)) for word in text.split())


def pages(root: Path) -> list[Path]:
    """The pages of a project that people write: README, CONTRIBUTING, documentation."""
    docs = [
        page
        for page in sorted((root / "docs").rglob("*.md"))
        if page.parent.name != "tables"
    ]
    return [root / "README.md", root / "CONTRIBUTING.md", *docs]


def outside_fences(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are in no block of code."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield number, line


def prose(text: str) -> Iterator[Line]:
    """The lines of prose: no code, table, heading, picture or comment."""
    begins, indent = True, 0
    for number, line in outside_fences(text):
        stripped = line.strip()
        item = ITEM.match(line)
        if not stripped or stripped.startswith(("|", "#", "<", "![")):
            begins = True
            continue
        depth = len(line) - len(line.lstrip())
        if begins and depth >= indent + 4:
            continue
        if item is not None:
            yield Line(number, item["text"], begins=True)
            indent = len(line) - len(item["text"])
        else:
            indent = indent if depth else 0
            yield Line(number, stripped, begins)
        begins = False


def sentences(text: str) -> Iterator[Sentence]:
    """The sentences of a page."""
    paragraph: list[Line] = []
    for line in prose(text):
        if line.begins:
            yield from _split(paragraph)
            paragraph = []
        paragraph.append(line)
    yield from _split(paragraph)


def _split(paragraph: list[Line]) -> Iterator[Sentence]:
    """The sentences of one paragraph, which may go over several lines."""
    number, open_text = 0, ""
    for line in paragraph:
        for place, part in enumerate(SENTENCE_END.split(line.text)):
            if not open_text:
                number, begins_a_line = line.number, place == 0
            open_text = f"{open_text} {part}".strip()
            last = place == len(SENTENCE_END.findall(line.text))
            if not last or re.search(r"[.!?:][*\")]*$", open_text):
                yield Sentence(number, open_text, begins_a_line)
                open_text = ""
    if open_text:
        yield Sentence(number, open_text, begins_a_line)


def words(text: str) -> int:
    """Words of a page, with its code and tables."""
    shown = LINK.sub(lambda link: link["text"], text)
    return sum(bool(WORD.search(word)) for word in shown.split())


def headings(text: str) -> set[str]:
    """The anchors of a page's headings."""
    anchors: set[str] = set()
    for _, line in outside_fences(text):
        heading = HEADING.match(line)
        if heading is None:
            continue
        shown = LINK.sub(lambda link: link["text"], heading["text"])
        anchor = base = slugify(shown.replace("`", ""), "-")
        count = 0
        while anchor in anchors:
            count += 1
            anchor = f"{base}_{count}"
        anchors.add(anchor)
    return anchors


def broken_links(page: Path) -> Iterator[str]:
    """Links of a page to files and headings that are not there."""
    for number, line in outside_fences(page.read_text(encoding="utf-8")):
        for link in LINK.finditer(CODE.sub("", line)):
            address, _, anchor = unquote(link["to"]).partition("#")
            if re.match(r"[a-z]+:", address):
                continue
            target = page.parent / address if address else page
            if not target.exists():
                yield f"{number}: no file {address}"
            elif anchor and anchor not in headings(
                target.read_text(encoding="utf-8")
            ):
                yield f"{number}: no heading {link['to']}"


def faults(page: Path, name: str) -> Iterator[str]:
    """What is wrong with a page, each with its line."""
    text = page.read_text(encoding="utf-8")
    most = MOST_WORDS_OF_A_PAGE.get(name)
    if most is not None and words(text) > most:
        yield f"{words(text)} words, {most} at most"
    for sentence in sentences(text):
        if sentence.words > MOST_WORDS_OF_A_SENTENCE:
            yield f"{sentence.number}: {sentence.words} words: {sentence.text}"
        if not sentence.begins_a_line:
            yield f"{sentence.number}: not on a line of its own: {sentence.text}"
    for line in prose(text):
        if len(line.text) > MOST_COLUMNS:
            yield f"{line.number}: longer than {MOST_COLUMNS} columns"
    yield from broken_links(page)


def main() -> int:
    """Print the words of each page and what is wrong; the exit status is 1 if anything is."""
    wrong: list[str] = []
    total = 0
    for page in pages(ROOT):
        name = page.relative_to(ROOT).as_posix()
        text = page.read_text(encoding="utf-8")
        longest = max((each.words for each in sentences(text)), default=0)
        total += words(text)
        print(f"{words(text):6,} words, longest sentence {longest:2}  {name}")
        wrong += [f"{name}:{fault}" for fault in faults(page, name)]
    print(f"{total:6,} words\n")
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
