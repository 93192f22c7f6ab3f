r"""Sets, intervals, points and lists, taken apart before anything is read as mathematics.

    1, 2 and x = 1, x = 2 and x = \pm 1           lists, whose order does not matter
    x = 1, y = 2                                  assignments: by name, or in this order
    p = 5, q = 2; p = 7, q = 2                    a list of points

Texts are as `notation.normalize` gives them.
"""

import re
from typing import Final, Literal, NamedTuple

from ..numbers import read_number
from .relations import read_value

MAX_ITEMS: Final = 24
_PLUS_MINUS: Final = re.compile(r"±|\+/-|\+-|\\pm(?![A-Za-z])")
_MINUS_PLUS: Final = re.compile(r"\\mp(?![A-Za-z])")
_INDEX: Final = re.compile(r"(.+)_(\w+)")
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
    """What the text lists; None where it is one expression, or more than that.

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
    """Whether the names are x_1, x_2 and so on: one list, numbered."""
    found = [_INDEX.fullmatch(name) for name in names]
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
