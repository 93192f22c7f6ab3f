"""Words behind a number: those that name what is counted, and those that make another number of it."""

import re
from typing import Final, NamedTuple

_CHANGING: Final = frozenset(
    {"about", "above", "after", "almost", "and", "approximately", "around", "base", "before", "below",
     "billion", "binary", "but", "by", "cent", "couple", "cube", "cubed", "decimal", "degree", "divided",
     "double", "dozen", "eight", "eighth", "eighty", "factorial", "false", "fewer", "fifth", "fifty",
     "five", "forty", "four", "fourth", "gross", "half", "halve", "hex", "hexadecimal", "hundred",
     "hundredth", "if", "incorrect", "ish", "least", "less", "maybe", "million", "millionth", "minus",
     "mod", "modulo", "more", "most", "multiplied", "nd", "nearly", "negative", "nine", "ninety", "ninth",
     "no", "none", "not", "octal", "of", "one", "or", "over", "pair", "pct", "pence", "penny", "per",
     "percent", "percentage", "plural", "plus", "point", "power", "quarter", "radian", "raised", "rd",
     "remainder", "root", "roughly", "score", "seven", "seventh", "seventy", "short", "six", "sixth",
     "sixty", "square", "squared", "st", "ten", "tenth", "th", "than", "the", "third", "thirty",
     "thousand", "thousandth", "three", "times", "to", "trillion", "triple", "twelfth", "twenty", "twice",
     "two", "under", "with", "without", "wrong", "zero"}
)  # fmt: skip
_COUNTED: Final = re.compile(
    r"(.*[\d})])\s*(?:\\(?:text|textbf|textit|textnormal|mathrm|mbox)\s*\{\s*([A-Za-z]{3,})(?:\s+([a-z]{3,}))?\s*\}"
    r"|([A-Za-z]{4,})(?:\s+([a-z]{4,}))?)",
    re.DOTALL,
)


class Counted(NamedTuple):
    """The text of a number, and the words that say of what."""

    number: str
    noun: str


def changes_value(word: str) -> bool:
    """Whether the word makes another number of the one before it, such as `dozen`."""
    lower = word.lower()
    return lower in _CHANGING or lower.removesuffix("s") in _CHANGING or lower.removesuffix("es") in _CHANGING


def split_counted(text: str) -> Counted | None:
    r"""The number and what is counted; None where no plain word follows a number.

    >>> split_counted("12 apples"), split_counted("12 dozen")
    (Counted(number='12', noun='apples'), None)
    """
    found = _COUNTED.fullmatch(text)
    if found is None:
        return None
    words = [word for word in found.groups()[1:] if word]
    return None if any(map(changes_value, words)) else Counted(found[1].strip(), " ".join(words).lower())
