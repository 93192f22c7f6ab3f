"""Tokenizer of commands: names in quotes stay whole, markers such as `tag:` stand apart from their names."""

import re
from collections.abc import Container, Iterator, Sequence
from typing import Final, NamedTuple

MAX_CHARACTERS: Final = 4_000
"""A longer command is refused."""
_PIECES: Final = re.compile(
    r"""(?<![^\s,:=/])(?P<quote>["'])(?P<quoted>.*?)(?P=quote)(?=[\s,.;!?/]|$)|(?P<plain>[^\s"',.;!:=/]+|\S)""",
    re.DOTALL,
)
_ENDINGS: Final = ",;.!"
_AND: Final = ("and", "&", ",")
_ASKING: Final = frozenset(
    (
        "can",
        "could",
        "would",
        "will",
        "may",
        "what",
        "what's",
        "whats",
        "which",
        "who",
        "where",
        "is",
        "are",
        "do",
        "does",
        "have",
        "has",
    )
)
"""Words that questions begin with."""
_LETTERS: Final = re.compile(r"[A-Za-z_]+")


class Word(NamedTuple):
    """One word of a command."""

    text: str
    key: str = ""
    """As the language knows it, in lower case. Empty, and so none of its words, where some of it stood in
    quotes: then it is a name, whatever it looks like."""
    ends: bool = False
    """A comma follows."""
    marker: str = ""
    """Text before the colon of a marker, in lower case; the text is that with its colon."""

    @property
    def quoted(self) -> bool:
        """True if some of it stood in quotes."""
        return not self.key and not self.marker

    def among(self, words: Container[str]) -> bool:
        """True if it is one of the language's own words."""
        return self.key in words


def tokenize(text: str, markers: Container[str] = ()) -> list[Word]:
    """Cut a command at its blanks. Punctuation behind a word is dropped, unless it is all there is.

    Letters with a colon behind them are a marker; so is a word of `markers` with `=` or before a URI.

    >>> [word.text for word in tokenize("get 'my file.md' from tag:docs.")]
    ['get', 'my file.md', 'from', 'tag:', 'docs']
    """
    return [word for pieces in _pieces(text) for word in _words(pieces, markers)]


def without_question_mark(words: Sequence[Word]) -> list[Word]:
    """The words of a question without the `?` at its end, which is a pattern's elsewhere."""
    asked, last = bool(words) and words[0].among(_ASKING), words[-1] if words else None
    if last is None or not asked or last.quoted or not last.text.endswith("?"):
        return [*words]
    text = last.text.rstrip("?")
    return [*words[:-1], *([Word(text, text.lower())] if text else [])]


def split_list(words: Sequence[Word]) -> list[list[Word]]:
    """Parts of a list: between commas and `and`; none is empty."""
    groups: list[list[Word]] = [[]]
    for word in words:
        if word.among(_AND):
            groups.append([])
            continue
        groups[-1].append(word)
        if word.ends:
            groups.append([])
    return [group for group in groups if group]


def join_words(words: Sequence[Word]) -> str:
    """The words as one name."""
    return " ".join(word.text for word in words)


def _pieces(text: str) -> Iterator[list[re.Match[str]]]:
    pieces: list[re.Match[str]] = []
    for match in _PIECES.finditer(text):
        if pieces and match.start() > pieces[-1].end():
            yield pieces
            pieces = []
        pieces.append(match)
    if pieces:
        yield pieces


def _words(pieces: list[re.Match[str]], markers: Container[str]) -> Iterator[Word]:
    """One word; two where it is a marker with its name."""
    if _is_marker(pieces, markers):
        name = pieces[0]["plain"]
        yield Word(f"{name}:", marker=name.lower())
        pieces = pieces[2:]
    if pieces:
        yield _word(pieces)


def _is_marker(pieces: list[re.Match[str]], markers: Container[str]) -> bool:
    if len(pieces) < 2 or not _LETTERS.fullmatch(pieces[0]["plain"] or ""):
        return False
    known = pieces[0]["plain"].lower() in markers
    rest = "".join(piece["plain"] or " " for piece in pieces[1:])
    if rest[0] == "=":
        return known
    return rest[0] == ":" and not rest.startswith("::") and (known or "::" not in rest)


def _word(pieces: list[re.Match[str]]) -> Word:
    if len(pieces) == 1 and (plain := pieces[0]["plain"]):
        return Word(plain, plain.lower())
    ends = False
    while len(pieces) > 1 and (last := pieces[-1]["plain"]) and last in _ENDINGS:
        ends = ends or last == ","
        pieces = pieces[:-1]
    text = "".join(match["plain"] or match["quoted"] or "" for match in pieces)
    quoted = any(match["quote"] for match in pieces)
    return Word(text, "" if quoted else text.lower(), ends)
