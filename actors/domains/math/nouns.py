"""Words behind a number: those that name what is counted, and those that make another number of it."""

import re
from typing import Final, NamedTuple

_CHANGING: Final = frozenset(
    {"about", "above", "after", "almost", "always", "and", "approximately", "around", "backwards",
     "base", "before", "below", "besides", "billion", "binary", "but", "by", "cent", "couple", "crore",
     "cube", "cubed", "debt", "decimal", "deficit", "degree", "divided", "double", "dozen", "eight",
     "eighteen", "eighth", "eighty", "eleven", "factorial", "false", "fewer", "fifteen", "fifth",
     "fifty", "five", "forty", "four", "fourteen", "fourth", "googol", "grand", "gross", "guess",
     "half", "halve", "hex", "hexadecimal", "hundred", "hundredth", "if", "incorrect", "inverse", "ish",
     "lakh", "least", "less", "lies", "loss", "maybe", "milliard", "million", "millionth", "minus",
     "mistake", "mod", "modulo", "more", "most", "multiplied", "myriad", "nd", "nearly", "negative",
     "nine", "nineteen", "ninety", "ninth", "no", "none", "nope", "not", "octal", "of", "one", "ones",
     "opposite", "or", "otherwise", "over", "pair", "pct", "pence", "penny", "per", "percent",
     "percentage", "perhaps", "plural", "plus", "point", "power", "quadrillion", "quarter",
     "quintillion", "radian", "raised", "rd", "reciprocal", "remainder", "root", "roughly", "score",
     "seven", "seventeen", "seventh", "seventy", "short", "six", "sixteen", "sixth", "sixty",
     "sometimes", "square", "squared", "st", "ten", "tenth", "th", "than", "the", "third", "thirteen",
     "thirty", "thousand", "thousandth", "three", "times", "to", "trillion", "triple", "twelfth",
     "twelve", "twenty", "twice", "two", "under", "versus", "with", "without", "wrong", "zero",
     "zillion"}
)  # fmt: skip
_COUNTED: Final = re.compile(
    r"(.*[\d})])\s*(?:\\(?:text|mathrm)\s*\{([A-Za-z -]{3,40})\}|([A-Za-z][A-Za-z -]{3,40}))", re.DOTALL
)
_MEASURED: Final = re.compile(r"(?:square|cubic)\s+(?=[a-z]+\Z)")
_QUALIFIED: Final = re.compile(
    r"\s+(?:old|each|left|total|in\s+total|altogether|(?:of|per|every|an?)\s+([a-z]+))\Z"
)
"""What may stand behind the things: `dollars per day`, `bolts of fabric`."""
_PLURALS: Final = frozenset(
    {"people", "children", "men", "women", "sheep", "fish", "feet", "mice", "geese", "deer", "teeth", "dice"}
)
_MAX_WORDS: Final = 3


class Counted(NamedTuple):
    """The text of a number, and the words that say of what."""

    number: str
    noun: str


def changes_value(word: str) -> bool:
    """Whether the word makes another number of the one before it, such as `dozen`."""
    lower = word.lower()
    return any(lower.removesuffix(ending) in _CHANGING for ending in ("", "s", "es", "th", "ths"))


def split_counted(text: str) -> Counted | None:
    r"""The number and what is counted; None where no plain words for things follow a number.

    >>> split_counted("12 apples"), split_counted("12 dozen")
    (Counted(number='12', noun='apples'), None)
    """
    found = _COUNTED.fullmatch(text)
    if found is None:
        return None
    number, noun = found[1].strip(), (found[2] or found[3]).strip().lower()
    return Counted(number, noun) if _names_things(noun, number) else None


def _names_things(noun: str, number: str) -> bool:
    """Whether it is `apples`, `square feet` or `green bolts of fabric`, and not `dozen` or `probably`."""
    noun = _MEASURED.sub("", noun)
    if qualified := _QUALIFIED.search(noun):
        if qualified[1] and changes_value(qualified[1]):
            return False
        noun = noun[: qualified.start()]
    words = noun.split()
    if not 0 < len(words) <= _MAX_WORDS or any(map(changes_value, words)):
        return False
    is_plural = words[-1] in _PLURALS or (words[-1].endswith("s") and len(words[-1]) > 3)
    return is_plural or ((not number.isdigit() or int(number) == 1) and len(words[-1]) > 3)
