"""Foreign text as it may stand on a terminal, in a table or in a sentence."""

import unicodedata
from typing import Final

_HARMFUL: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of what moves a cursor, turns writing around, is no character, or breaks lines."""
_JOINERS: Final = "\u200c\u200d"
"""Format characters that names in some scripts are spelt with."""


def printable(text: str, *, lines: bool = False) -> str:
    """The text with control characters escaped as Python writes them; `lines` keeps line ends and tabs.

    File names, titles and what servers say are written by others: a newline in one would begin a row of its
    own, and an escape sequence would rule the terminal. A backslash that was there stays one backslash.

    >>> printable("a\\nb\\x1b[31m"), printable("a\\nb", lines=True), printable("naïve 日本 😀")
    ('a\\\\nb\\\\x1b[31m', 'a\\nb', 'naïve 日本 😀')
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _is_harmless(character, lines) else _escaped(character) for character in text)


def _is_harmless(character: str, lines: bool) -> bool:
    if lines and character in "\n\t":
        return True
    return character in _JOINERS or unicodedata.category(character) not in _HARMFUL


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
