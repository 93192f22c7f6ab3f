r"""Structure of an answer as text: relations with their sides and names, and collections with their items.

    x = 5+5+1 = 11                names x, 11
    5+6 = 11                      11
    (p, q) = (3, 2)               names (p,q), (3, 2)
    2x - y + 1 = 0                an equation, and no value
    1, 2 and x = 1, x = 2 and x = \pm 1           lists, whose order does not matter
    x = 1, y = 2                                  assignments: by name, or in this order
    p = 5, q = 2; p = 7, q = 2                    a list of points

Nothing is read as mathematics here. Texts are as `notation.normalize` gives them.
"""

import re
from typing import Final, Literal, NamedTuple

from ..number_parser import read_number

_SIGN: Final = re.compile(r"=\\?/=|=\\=|/=|<>|<=|>=|!=|==|=|<|>|\\(le|ge|ne|in|approx|equiv|sim)(?![A-Za-z])")
_SIGNS: Final = {
    "==": "=",
    "=/=": "!=",
    "=\\/=": "!=",
    "=\\=": "!=",
    "/=": "!=",
    "<>": "!=",
    "\\le": "<=",
    "\\ge": ">=",
    "\\ne": "!=",
    "\\in": "in",
    "\\approx": "~",
    "\\sim": "~",
}
_FLIPPED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_INDEX: Final = r"(?:_(?:\{[^{}]*\}|[A-Za-z0-9]))?"
_SYMBOL: Final = (
    r"(?:[A-Za-z]|[A-Z]{2,6}|\\(?:vec|mathrm|text|overline|angle|triangle)\s*\{?[A-Za-z ]+\}?|\\[A-Za-z]+)"
    rf"{_INDEX}'*"
)
_CALL: Final = rf"{_SYMBOL}(?:\s*\^\s*\{{\s*-1\s*\}})?(?:\s*\([^()=<>]*\))?"
_NAME: Final = re.compile(
    rf"\s*(?:{_CALL}|[A-Za-z]{{3,20}}|\|\s*{_CALL}\s*\||\\frac\s*\{{\s*[A-Z]{{2}}\s*\}}\s*\{{\s*[A-Z]{{2}}\s*\}}"
    r"|\\frac\s*\{\s*d[A-Za-z]?\s*\}\s*\{\s*d[A-Za-z]\s*\}"
    r"|[A-Za-z](?:\s*\+\s*[A-Za-z]){1,4}"
    rf"|{_CALL}(?:\s*:\s*{_CALL})+|\(\s*{_CALL}(?:\s*,\s*{_CALL})+\s*\))\s*"
)
_NO_NAME: Final = re.compile(
    r"\\(?:pi|infty|emptyset|pm|mp|a?sin|a?cos|a?tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|lg|exp"
    r"|det|gcd|lcm|max|min)(?![A-Za-z])|(?:sin|cos|tan|log|ln|exp|sqrt|gcd|lcm|max|min|abs)\s*\("
)
_SINGLE_INDEX: Final = re.compile(r"_\{(\w)\}")
_LETTERS: Final = re.compile(
    r"\\(?!sqrt|frac|cdot|times|div|pi|binom|left|right|log|ln|sin|cos|tan|circ)[A-Za-z]+|(?<![A-Za-z\\])(?!e(?![A-Za-z])|sqrt|pi|sin|cos|tan|log|ln|exp)[A-Za-z]"
)
_UNKNOWN: Final = re.compile(
    r"(?<![A-Za-z\\])(?!e(?![A-Za-z]))(?:[a-z](?![A-Za-z(])|[A-Za-z]{3,}(?![A-Za-z(]))"
)
"""A symbol by itself, or a word: the side is part of an equation, or of a sentence."""
_FUNCTION: Final = re.compile(r"([A-Za-z]\w*)\(([A-Za-z])\)")


class Relation(NamedTuple):
    """Sides with the signs between them."""

    sides: tuple[str, ...]
    signs: tuple[str, ...]
    """Of `=`, `<`, `>`, `<=`, `>=`, `!=`, `in` and `~`."""

    @property
    def is_equality(self) -> bool:
        """True if nothing but equal signs stands between them."""
        return set(self.signs) <= {"=", "~"}


def split_relation(text: str) -> Relation | None:
    """The sides of all relations outside of brackets; None where there is none, or a side is empty.

    >>> split_relation(r"-2 \\le x < 7")
    Relation(sides=('-2', 'x', '7'), signs=('<=', '<'))
    """
    sides, signs, depth, start = [], [], 0, 0
    for at, mark, end in _marks(text):
        if mark in ("(", "[", "{"):
            depth += 1
        elif mark in (")", "]", "}"):
            depth -= 1
        elif depth == 0:
            sides.append(text[start:at].strip())
            signs.append(_SIGNS.get(mark, mark))
            start = end
    sides.append(text[start:].strip())
    return Relation(tuple(sides), tuple(signs)) if signs and all(sides) else None


_MARK: Final = re.compile(rf"[()\[\]{{}}]|{_SIGN.pattern}")


def _marks(text: str) -> list[tuple[int, str, int]]:
    return [(found.start(), found[0], found.end()) for found in _MARK.finditer(text)]


def read_name(text: str) -> str | None:
    r"""The name of something that can be asked for, without its spaces; None for anything else.

    >>> read_name("f( x )"), read_name("x_{1}"), read_name("x + 1")
    ('f(x)', 'x_1', None)
    """
    if len(text) > 60 or not _NAME.fullmatch(text) or _NO_NAME.match(text.strip()):
        return None
    return _SINGLE_INDEX.sub(r"_\1", re.sub(r"\s+", "", text))


def read_value(text: str) -> tuple[str, str]:
    r"""The name and the value of `x = 3`; no name and the whole text where it does not name a value.

    >>> read_value("x = 5+6 = 11"), read_value("5+6 = 11"), read_value("2x = 6")
    (('x', '11'), ('', '11'), ('', '2x = 6'))
    """
    relation = split_relation(text)
    if relation is None or is_list(text):
        return "", text
    if relation.signs == ("in",):
        name = read_name(relation.sides[0])
        return (name, relation.sides[1]) if name else ("", text)
    if not relation.is_equality:
        return "", text
    return _read_chain(relation) or ("", text)


def _read_chain(relation: Relation) -> tuple[str, str] | None:
    sides = relation.sides
    if "~" in relation.signs[1:] or (relation.signs[0] == "~" and read_name(sides[0]) is None):
        if relation.signs.count("~") > 1 or relation.signs[-1] != "~" or has_letters(sides[-1]):
            return None
        sides = sides[:-1]  # what is about equal comes after the value
        if len(sides) == 1:
            return "", sides[0]
    if _contradicts_itself(sides):
        return None
    first, last = sides[0], sides[-1]
    name = read_name(first)
    if name is None and len(sides) == 2 and (name := read_name(last)) is not None and not has_letters(first):
        return name, first
    if name is not None:
        return name, last
    is_calculation = not has_letters(first) and not has_letters(last)
    is_chain = len(sides) > 2 and _UNKNOWN.search(first) is None
    return ("", last) if is_chain or is_calculation else None


def _contradicts_itself(sides: tuple[str, ...]) -> bool:
    """True if two of the sides are different numbers, neither of which may be rounded: `12 = 13`."""
    numbers = [
        number for side in sides if (number := read_number(side)) is not None and not number.is_decimal
    ]
    return any(number.value != numbers[0].value for number in numbers)


def has_letters(text: str) -> bool:
    """True if there are symbols in it, besides constants and functions."""
    return _LETTERS.search(text) is not None


def same_function(expected: str, given: str) -> bool:
    """True if two names differ in nothing but the letter that a function is written of: `W(n)` and `W(x)`."""
    first, second = _FUNCTION.fullmatch(expected), _FUNCTION.fullmatch(given)
    return first is not None and second is not None and first[1] == second[1]


def flipped(relation: Relation) -> Relation:
    """The same, read from right to left."""
    signs = tuple(_FLIPPED.get(sign, sign) for sign in reversed(relation.signs))
    return Relation(relation.sides[::-1], signs)


def is_list(text: str) -> bool:
    """True if a comma outside of brackets separates items."""
    depth = 0
    for mark in text:
        depth += (mark in "([{") - (mark in ")]}")
        if mark in ",;" and depth == 0:
            return True
    return False


MAX_ITEMS: Final = 24
_PLUS_MINUS: Final = re.compile(r"±|\+/-|\+-|\\pm(?![A-Za-z])")
_MINUS_PLUS: Final = re.compile(r"\\mp(?![A-Za-z])")
_INDEXED_NAME: Final = re.compile(r"(.+)_(\w+)")
_TIGHT_LIST: Final = re.compile(r"[1-9]\d{0,2}(?:,[1-9]\d{2})+")
_SET: Final = re.compile(r"\\?\{(.*?)\\?\}", re.DOTALL)

Kind = Literal["set", "list", "range", "assignments"]


class Collection(NamedTuple):
    """Several expressions, and what they make together."""

    kind: Kind
    """A set or a bare list, whose order does not matter; an interval, point or vector, whose order does; or
    values of different names."""
    brackets: str
    """Of a range, such as `[)`."""
    items: tuple[str, ...]
    names: tuple[str, ...] = ()
    """Of assignments, one an item; the one name of a list, if it has one."""


def read_collection(text: str) -> Collection | None:
    """Parse what the text lists; None where it is one expression, or more than that.

    >>> read_collection("[0, 1)")
    Collection(kind='range', brackets='[)', items=('0', '1'), names=())
    """
    text = text.strip()
    if not text or read_number(text) is not None:
        return None
    if braces := _SET.fullmatch(text):
        inner = split_items(braces[1])
        return Collection("set", "", _expanded(inner)) if inner and all(inner) else None
    if text[0] in "([" and text[-1] in ")]":
        inner = split_items(text[1:-1])
        if inner is not None and len(inner) > 1 and all(inner):
            return Collection("range", text[0] + text[-1], inner)
    return _read_points(text) or _read_list(text)


def read_tight_list(text: str) -> Collection | None:
    """`100,200,300` as three items, which is one number as well."""
    return Collection("list", "", tuple(text.split(","))) if _TIGHT_LIST.fullmatch(text.strip()) else None


def _read_list(text: str) -> Collection | None:
    """Items without brackets, each perhaps with a name."""
    items = split_items(text)
    if items is None or not all(items) or (len(items) < 2 and not _PLUS_MINUS.search(text)):
        return None
    pairs = [read_value(item) for item in items]
    names = [name for name, _ in pairs if name]
    values = tuple(value for _, value in pairs)
    if len(set(names)) > 1:
        return Collection("assignments", "", values, tuple(names)) if len(names) == len(items) else None
    if names and not pairs[0][0]:
        return None  # 1, x = 2
    return Collection("list", "", _expanded(values), tuple(names[:1]))


def _read_points(text: str) -> Collection | None:
    """Groups of assignments to the same names: `p=5,q=2; p=7,q=2`."""
    groups = split_items(text, ";")
    if groups is None or len(groups) < 2:
        return None
    read = [_read_list(group) for group in groups]
    if any(each is None or each.kind != "assignments" for each in read):
        return None
    points = [each for each in read if each is not None]
    if len({each.names for each in points}) != 1:
        return None
    return Collection("list", "", tuple(f"({', '.join(each.items)})" for each in points))


def is_indexed(names: tuple[str, ...]) -> bool:
    """True if the names are x_1, x_2 and so on: one list, numbered."""
    found = [_INDEXED_NAME.fullmatch(name) for name in names]
    heads = {each[1] for each in found if each}
    return (
        all(found)
        and len(heads) == 1
        and {each[2] for each in found if each} == {str(number) for number in range(1, len(names) + 1)}
    )


def _expanded(items: tuple[str, ...]) -> tuple[str, ...]:
    r"""`1 \pm 2` as the two that it stands for."""
    both: list[str] = []
    for item in items:
        if _PLUS_MINUS.search(item):
            both.append(_MINUS_PLUS.sub("-", _PLUS_MINUS.sub("+", item)))
            both.append(_MINUS_PLUS.sub("+", _PLUS_MINUS.sub("-", item)))
        else:
            both.append(item)
    return tuple(both)


def split_items(text: str, separators: str = ",;") -> tuple[str, ...] | None:
    """At the separators that no bracket holds; None where brackets do not match, or there are too many."""
    parts: list[str] = [""]
    depth = 0
    for mark in text:
        depth += (mark in "([{") - (mark in ")]}")
        if depth < 0:
            return None
        if mark in separators and depth == 0:
            parts.append("")
        else:
            parts[-1] += mark
    if depth or len(parts) > MAX_ITEMS:
        return None
    stripped = tuple(part.strip() for part in parts)
    return () if stripped == ("",) else stripped
