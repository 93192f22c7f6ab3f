r"""Sets of real numbers: intervals, their unions, and inequalities in one unknown.

-2 \le x \le 7, x \in [-2, 7], [-2, 7]                    the same set
x < 1 or x > 3, (-\infty, 1) \cup (3, \infty)             the same set
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import sympy
from sympy import Expr, Interval, Set

from ....runtime.expressions import Unreadable
from .collections import split_items
from .reading import read
from .relations import Relation, flipped, read_name, split_relation

_UNION: Final = re.compile(r"\\cup(?![A-Za-z])")
_WITHOUT: Final = re.compile(r"\\setminus(?![A-Za-z])")
_REALS: Final = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?|\(\s*-\s*\\infty\s*,\s*\+?\s*\\infty\s*\)")
_BRACKETS: Final = re.compile(r"([(\[\]])(.*)([)\]\[])", re.DOTALL)
_FINITE: Final = re.compile(r"\\?\{(.*?)\\?\}", re.DOTALL)
_MAX_PARTS: Final = 8


class NamedSet(NamedTuple):
    """A set, and the name of what lies in it; the name is empty where it is left out."""

    name: str
    members: Set


def read_set(text: str) -> NamedSet | None:
    """The set that an interval, a union or an inequality is; None for anything else."""
    try:
        relation = split_relation(text)
        if relation is not None and relation.signs[0] == "in" and len(relation.signs) == 1:
            name = read_name(relation.sides[0])
            return None if name is None else NamedSet(name, _read_union(relation.sides[1]))
        return _read_inequalities(text) if relation is not None else NamedSet("", _read_union(text))
    except (Unreadable, TypeError, ValueError):
        return None  # no set of real numbers


def is_plain_interval(text: str) -> bool:
    """Whether it may as well be a point: one pair of brackets, and nothing else."""
    return _UNION.search(text) is None and split_relation(text) is None


def _read_union(text: str) -> Set:
    """Intervals and finite sets, joined, and less others. Raises Unreadable."""
    whole, *less = _WITHOUT.split(text)
    parts = _UNION.split(whole)
    if len(parts) > _MAX_PARTS or len(less) > 1:
        raise Unreadable("a union of too many parts")
    union = sympy.Union(*(_read_part(part.strip()) for part in parts))
    return union - _read_union(less[0]) if less else union


def _read_part(text: str) -> Set:
    if _REALS.fullmatch(text):
        return sympy.S.Reals
    if text.strip() == "\\emptyset":
        return sympy.S.EmptySet
    if found := _FINITE.fullmatch(text):
        return sympy.FiniteSet(*(_number(item) for item in split_items(found[1]) or ()))
    brackets = _BRACKETS.fullmatch(text)
    ends = split_items(brackets[2]) if brackets else None
    if brackets is None or ends is None or len(ends) != 2:
        raise Unreadable("no interval")
    return _interval(_number(ends[0]), _number(ends[1]), brackets[1] != "[", brackets[3] != "]")


def _interval(start: Expr, end: Expr, left_open: bool, right_open: bool) -> Set:
    return Interval(start, end, left_open, right_open)


def _number(text: str) -> Expr:
    value = read(text)
    if not isinstance(value, Expr) or not value.is_number or value.is_extended_real is not True:
        raise Unreadable("no real number")
    return value


def _read_inequalities(text: str) -> NamedSet | None:
    """`or` between them is a union, a comma or `and` an intersection."""
    union: Set = sympy.S.EmptySet
    names: set[str] = set()
    groups = split_items(text, ";") or ()
    for group in groups[:_MAX_PARTS]:
        common: Set = sympy.S.Reals
        for item in (split_items(group, ",") or ())[:_MAX_PARTS]:
            relation = split_relation(item)
            found = _read_inequality(relation) if relation is not None else None
            if found is None:
                return None
            names.add(found.name)
            common = sympy.Intersection(common, found.members)
        union = sympy.Union(union, common)
    return NamedSet(names.pop(), union) if len(names) == 1 and groups else None


def _read_inequality(relation: Relation) -> NamedSet | None:
    """`a < x`, `x \\ge b`, `a < x \\le b` or `x \\ne a`; None for anything else."""
    if len(relation.sides) == 3:
        name = read_name(relation.sides[1])
        relation = relation if relation.signs[0] in ("<", "<=") else flipped(relation)
        if name is None or not set(relation.signs) <= {"<", "<="}:
            return None
        ends = _number(relation.sides[0]), _number(relation.sides[2])
        return _named(name, _interval(*ends, relation.signs[0] == "<", relation.signs[1] == "<"))
    if len(relation.sides) != 2:
        return None
    name = read_name(relation.sides[0])
    if name is None:
        relation = flipped(relation)
        name = read_name(relation.sides[0])
    half = _HALVES.get(relation.signs[0])
    if name is None or half is None:
        return None
    return _named(name, half(_number(relation.sides[1])))


def _named(name: str, members: Set) -> NamedSet:
    """Of `x` itself, where an absolute value is what lies in the set."""
    if not (name.startswith("|") and name.endswith("|")):
        return NamedSet(name, members)
    positive = sympy.Intersection(members, Interval(0, sympy.oo))
    return NamedSet(name.strip("|"), sympy.Union(positive, _negated(positive)))


def _negated(members: Set) -> Set:
    if isinstance(members, Interval):
        return Interval(-members.end, -members.start, members.right_open, members.left_open)
    if isinstance(members, sympy.Union):
        return sympy.Union(*map(_negated, members.args))
    if isinstance(members, sympy.FiniteSet):
        return sympy.FiniteSet(*(-each for each in members))
    if members == sympy.S.EmptySet:
        return members
    raise Unreadable("no union of intervals")


_HALVES: Final[dict[str, Callable[[Expr], Set]]] = {
    "<": lambda end: Interval.open(-sympy.oo, end),
    "<=": lambda end: Interval(-sympy.oo, end),
    ">": lambda start: Interval.open(start, sympy.oo),
    ">=": lambda start: Interval(start, sympy.oo),
    "!=": lambda hole: sympy.S.Reals - sympy.FiniteSet(hole),
}
