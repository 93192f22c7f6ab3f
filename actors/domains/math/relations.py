r"""Comparison of relations and of sets of real numbers: intervals, unions, inequalities, equations, chains.

-2 \le x \le 7, x \in [-2, 7], [-2, 7]                    the same set
x < 1 or x > 3, (-\infty, 1) \cup (3, \infty)             the same set
2x - y + 1 = 0, y = 2x + 1                                the same equation in two unknowns
f(2) < f(1) < f(4)                                        the same sides with the same signs
\sin(a+b) - \sin(a-b) = 2\sin b\cos a                     an identity, whose value is its last side
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import sympy
from sympy import Expr, Interval, Set

from ....runtime.tools.math_parser import Unreadable
from ..grading import Grade, correct, incorrect, shorten
from .answer_structure import Relation, flipped, is_list, read_name, split_items, split_relation
from .equality import grade_expressions, is_zero
from .expression_parser import MAX_EXPANDED, expanded_terms, parse_math
from .fast_path import ParsedAnswer, names_compatible

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
    """True if it may as well be a point: one pair of brackets, and nothing else."""
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
    value = parse_math(text)
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


def grade_relations(expected: ParsedAnswer, given: ParsedAnswer, rel_tolerance: float) -> Grade | None:
    """The grade, where one is a set, or says more than what a name's value is; None for all else."""
    sets = _grade_sets(expected, given)
    if sets is not None:
        return sets
    if is_list(expected.text) or is_list(given.text):
        return None
    first, second = split_relation(expected.text), split_relation(given.text)
    summary = f"expected {shorten(expected.text)}, got {shorten(given.text)}"
    if first is not None and second is not None and _are_equations(expected, given):
        same = _same_equations(first, second)
        return correct("the same equation", "symbolic") if same else incorrect(summary, "symbolic")
    if second is not None and first is None and second.is_equality and given.value == given.text:
        return _grade_identity(expected, second, rel_tolerance, summary)
    if first is not None and second is not None and not first.is_equality and not second.is_equality:
        same = (
            _same_chains(first, second) or _same_chains(first, flipped(second)) or _same_halves(first, second)
        )
        return correct("the same relation", "symbolic") if same else incorrect(summary, "symbolic")
    return None


def _grade_sets(expected: ParsedAnswer, given: ParsedAnswer) -> Grade | None:
    """Grade where both are sets of real numbers, and not both may be points."""
    if is_plain_interval(expected.text) and is_plain_interval(given.text):
        return None
    first, second = read_set(expected.text), read_set(given.text)
    if first is None or second is None:
        return None
    if not names_compatible(first.name, second.name):
        return incorrect(f"expected {first.name}, got {second.name}", "symbolic")
    if _same_sets(first, second):
        return correct("the same set", "symbolic")
    return incorrect(f"expected {shorten(expected.text)}, got {shorten(given.text)}", "symbolic")


def _same_sets(first: NamedSet, second: NamedSet) -> bool:
    if first.members == second.members:
        return True
    try:
        return bool(first.members.symmetric_difference(second.members).is_empty)
    except (NotImplementedError, TypeError):
        return False


def _are_equations(expected: ParsedAnswer, given: ParsedAnswer) -> bool:
    """True if one of them says more than what a name's value is, or the names differ."""
    is_value = [bool(each.name) for each in (expected, given)]
    same_name = all(is_value) and expected.name == given.name
    relations = split_relation(expected.text), split_relation(given.text)
    equalities = all(each is not None and each.signs == ("=",) for each in relations)
    return equalities and not same_name


def _same_equations(expected: Relation, given: Relation) -> bool:
    """The same up to a factor; in one unknown, a solved equation is not one that is still to be solved."""
    first, second = _as_zero(expected), _as_zero(given)
    if first is None or second is None or first.free_symbols != second.free_symbols:
        return False
    if len(first.free_symbols) < 2 and _is_solved(expected) != _is_solved(given):
        return False
    if first.is_number or max(map(expanded_terms, (first, second))) > MAX_EXPANDED:
        return False
    first, second = (sympy.fraction(sympy.together(each))[0] for each in (first, second))
    if first == 0 or second == 0:
        return bool(first == second)
    leading = [
        sympy.Poly(each, *sorted(each.free_symbols, key=str)).LC() for each in _polynomials(first, second)
    ]
    if len(leading) == 2 and leading[1].is_number:
        return is_zero(first * leading[1] - second * leading[0])
    return is_zero(first - second) or is_zero(first + second)


def _polynomials(*expressions: Expr) -> list[Expr]:
    return [each for each in expressions if each.is_polynomial(*each.free_symbols)]


def _is_solved(relation: Relation) -> bool:
    """`x = 3`, and not `2x = 6`."""
    sides = [parse_math(side) for side in relation.sides]
    symbols = [side for side in sides if isinstance(side, sympy.Symbol)]
    return len(symbols) == 1 and len(sides) == 2


def _as_zero(relation: Relation) -> Expr | None:
    """Left side minus right side; None where one is no expression."""
    try:
        left, right_side = (parse_math(side) for side in relation.sides)
    except Unreadable:
        return None
    return left - right_side if isinstance(left, Expr) and isinstance(right_side, Expr) else None


def _grade_identity(expected: ParsedAnswer, given: Relation, rel_tolerance: float, summary: str) -> Grade:
    """An equality between expressions that holds for all values states its last side."""
    try:
        sides = [parse_math(side) for side in given.sides]
        wanted = parse_math(expected.value)
    except Unreadable as error:
        return incorrect(f"cannot read {summary}: {error}", "symbolic")
    if not all(isinstance(each, Expr) for each in (*sides, wanted)):
        return incorrect(summary, "symbolic")
    if not all(is_zero(sides[0] - side) for side in sides[1:]):
        return incorrect("an equation, and no value", "symbolic")
    return grade_expressions(wanted, sides[-1], rel_tolerance, summary)


def _same_chains(expected: Relation, given: Relation) -> bool:
    """Side by side, with the same signs."""
    if expected.signs != given.signs:
        return False
    try:
        pairs = [(parse_math(a), parse_math(b)) for a, b in zip(expected.sides, given.sides, strict=True)]
    except Unreadable:
        return False
    return all(a == b or (isinstance(a, Expr) and isinstance(b, Expr) and is_zero(a - b)) for a, b in pairs)


def _same_halves(expected: Relation, given: Relation) -> bool:
    """Of two sides each, with all brought to one of them: `x < 1` and `-x > -1`."""
    first, second = _as_negative(expected), _as_negative(given)
    if first is None or second is None or first[0] != second[0]:
        return False
    if is_zero(first[1] - second[1]):
        return True
    many = len(first[1].free_symbols) > 1 and first[1].free_symbols == second[1].free_symbols
    ratio = (
        sympy.cancel(first[1] / second[1]) if many and len(_polynomials(first[1], second[1])) == 2 else None
    )
    return ratio is not None and ratio.is_number and bool(ratio.is_positive)


def _as_negative(relation: Relation) -> tuple[str, Expr] | None:
    """`<` or `<=` or `!=`, and the expression that has this relation to 0."""
    if len(relation.signs) != 1:
        return None
    turned = relation if relation.signs[0] in ("<", "<=", "!=") else flipped(relation)
    difference = _as_zero(turned)
    if turned.signs[0] not in ("<", "<=", "!=") or difference is None:
        return None
    return turned.signs[0], difference
