"""Which runs of letters are products of one-letter symbols, and which are words."""

from typing import Final

_VOWELS: Final = frozenset("aeiou")
_WORDS: Final = frozenset(
    {"ad", "am", "an", "as", "at", "be", "by", "do", "go", "ha", "he", "hi", "if", "in", "is", "it", "me",
     "my", "no", "of", "oh", "ok", "on", "oo", "or", "ox", "pi", "so", "to", "uh", "um", "up", "us", "we"}
)  # fmt: skip
"""Of two letters, and two constants."""
_ALPHABET: Final = "abcdef"
_MAX_LETTERS: Final = 6


def is_product(text: str) -> bool:
    """Whether letters without a space are symbols side by side: `xy`, `pqr` and `abc`, not `no` or `yes`.

    Two letters are, unless they are a word; more of them are where there is no vowel among them, or where
    they are the first of the alphabet.
    """
    if not (text.isascii() and text.isalpha() and len(text) <= _MAX_LETTERS):
        return False
    lower = text.lower()
    if len(text) == 2:
        return lower not in _WORDS
    return _VOWELS.isdisjoint(lower) or _ALPHABET.startswith("".join(sorted(lower)))
