"""Sets, intervals, points and lists, taken apart before anything is read as mathematics."""

import re
from typing import Final, Literal, NamedTuple

MAX_ITEMS: Final = 24
_SOLVED: Final = re.compile(r"^\s*([A-Za-z])\s*(?:=|∈|\\in(?![A-Za-z]))\s*(.+)$", re.DOTALL)
_PLUS_MINUS: Final = re.compile(r"^(.*?)\s*(?:±|\+/-|\+-|\\pm(?![A-Za-z]))\s*(.+)$", re.DOTALL)


class Collection(NamedTuple):
    """Several expressions, and what they make together."""

    kind: Literal["set", "list", "range"]
    """A set or a bare list, whose order does not matter; an interval, point or vector, whose order does."""
    brackets: str
    """Of a range, such as `[)`."""
    items: tuple[str, ...]


def read_collection(text: str) -> Collection | None:
    """What the text lists; None where it is one expression, or more than that.

    >>> read_collection("[0, 1)")
    Collection(kind='range', brackets='[)', items=('0', '1'))
    """
    text = text.strip()
    if text[:1] == "{" and text[-1:] == "}":
        inner = _split(text[1:-1])
        return Collection("set", "", inner) if inner is not None and all(inner) else None
    if text[:1] in "([" and text[-1:] in ")]" and text:
        inner = _split(text[1:-1])
        if inner is not None and len(inner) > 1 and all(inner):
            return Collection("range", text[0] + text[-1], inner)
    items = _split(text)
    if items is not None and len(items) > 1 and all(items):
        if len({unknown_of(item) for item in items} - {""}) > 1:
            return None  # x = 1, y = 2 says more than 1, 2
        return Collection("list", "", tuple(right_side(item) for item in items))
    both = _PLUS_MINUS.match(right_side(text))
    if both and not re.search(r"±|\\pm", both[2]):
        return Collection("list", "", (f"{both[1]}+({both[2]})", f"{both[1]}-({both[2]})"))
    return None


def right_side(text: str) -> str:
    """`3` of `x = 3`; any other text as it is."""
    found = _SOLVED.match(text)
    return found[2].strip() if found and "=" not in found[2] else text.strip()


def unknown_of(text: str) -> str:
    """`x` of `x = 3`; empty where there is none."""
    found = _SOLVED.match(text)
    return found[1] if found and "=" not in found[2] else ""


def _split(text: str) -> tuple[str, ...] | None:
    """At the commas that no bracket holds; None where brackets do not match, or there are too many."""
    parts: list[str] = [""]
    depth = 0
    for mark in text:
        depth += (mark in "([{") - (mark in ")]}")
        if depth < 0:
            return None
        if mark in ",;" and depth == 0:
            parts.append("")
        else:
            parts[-1] += mark
    if depth or len(parts) > MAX_ITEMS:
        return None
    stripped = tuple(re.sub(r"^and\s+", "", part.strip()) for part in parts)
    return () if stripped == ("",) else stripped
