"""Chunking of a text into passages of bounded length, at the borders that its author set.

A passage ends before a heading if there is one in reach, else at the end of a paragraph, of a sentence,
of a line, of a word, and only then in the midst of one.

Invariants:
  - a passage has at most `size` characters, and is the text between its `start` and `end`;
  - every character that is no white space is in some passage;
  - starts only grow, so it ends; it takes time linear in the text.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

_MARK: Final = re.compile(
    r"^(?: {0,3}(?P<fence>```+|~~~+)|(?P<hashes>#{1,6})[ \t]+(?P<title>[^\n]*))", re.MULTILINE
)
_PARAGRAPH: Final = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE: Final = re.compile(r"[.!?…][\"')\]»”]*\s+|[。！？]")
_LINE: Final = re.compile(r"\n")
_SPACE: Final = re.compile(r"\s")
_BORDERS: Final = (_PARAGRAPH, _SENTENCE, _LINE, _SPACE)
_MAX_TITLE: Final = 120


class PassageSpan(NamedTuple):
    """One passage, by its place in the text."""

    start: int
    end: int
    heading: str
    """The headings above it or at its start, outermost first: `Setup > Ports`."""


class _Heading(NamedTuple):
    at: int
    path: str


def split_passages(text: str, size: int, overlap: int, *, markdown: bool) -> Iterator[PassageSpan]:
    """The passages of a text, in order. A passage repeats at most `overlap` (≤ size/3) characters of
    the one before it, and none across a heading.

    >>> text = "# A\\nOne two. Three four."
    >>> [text[s.start:s.end] for s in cut(text, 15, 0, markdown=True)]
    ['# A\\nOne two.', 'Three four.']
    """
    headings = list(_headings(text)) if markdown else []
    places = [heading.at for heading in headings]
    at = 0
    while at < len(text):
        end = _end(text, at, size, places)
        start, stop = _stripped(text, at, end)
        if start < stop:
            above = bisect_right(places, start)
            yield PassageSpan(start, stop, headings[above - 1].path if above else "")
        if end == len(text):
            return
        above = bisect_right(places, end)
        at = max(_resume(text, end, overlap), places[above - 1] if above else 0)


def _headings(text: str) -> Iterator[_Heading]:
    """Markdown's headings that no code fence encloses."""
    fence = ""
    above: list[tuple[int, str]] = []
    for mark in _MARK.finditer(text):
        if mark["fence"]:
            if not fence:
                fence = mark["fence"]
            elif mark["fence"].startswith(fence):
                fence = ""
        elif not fence:
            level = len(mark["hashes"])
            above = [known for known in above if known[0] < level]
            above.append((level, mark["title"].strip(" \t#")[:_MAX_TITLE]))
            yield _Heading(mark.start(), " > ".join(title for _, title in above))


def _end(text: str, at: int, size: int, places: list[int]) -> int:
    """End of the passage that begins at `at`."""
    limit = at + size
    next_heading = bisect_left(places, at + max(1, size // 3))
    if next_heading < len(places) and places[next_heading] <= limit:
        return places[next_heading]
    if limit >= len(text):
        return len(text)
    for border in _BORDERS:
        found = _last(border, text, at + size // 2, limit)
        if found:
            return found
    return limit


def _resume(text: str, end: int, overlap: int) -> int:
    """Start of the next passage: at a sentence or a line of the last `overlap` characters."""
    for border in (_SENTENCE, _LINE, _SPACE):
        found = border.search(text, end - overlap, end)
        if found and found.end() <= end:
            return found.end()
    return end


def _last(border: re.Pattern[str], text: str, low: int, high: int) -> int:
    """The end of the last border within; 0 if there is none."""
    last = 0
    for found in border.finditer(text, low, high):
        last = found.end()
    return last


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
