r"""Equations and inequalities: the same line, the same set of solutions, the same chain.

2x - y + 1 = 0, y = 2x + 1            the same equation in two unknowns
-2 \le x \le 7, [-2, 7]               the same set
f(2) < f(1) < f(4)                    the same sides with the same signs
\sin(a+b) - \sin(a-b) = 2\sin b\cos a an identity, whose value is its last side
"""

import sympy
from sympy import Expr

from ....runtime.expressions import Unreadable
from ..grading import Grade, right, shorten, wrong
from .equality import grade_expressions, is_zero
from .magnitude import MAX_EXPANDED, expanded_terms
from .quick import Prepared, may_be_same_name
from .reading import read
from .relations import Relation, flipped, is_list, split_relation
from .sets import NamedSet, is_plain_interval, read_set


def grade_relations(expected: Prepared, given: Prepared, rel_tolerance: float) -> Grade | None:
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
        return right("the same equation", "symbolic") if same else wrong(summary, "symbolic")
    if second is not None and first is None and second.is_equality and given.value == given.text:
        return _grade_identity(expected, second, rel_tolerance, summary)
    if first is not None and second is not None and not first.is_equality and not second.is_equality:
        same = (
            _same_chains(first, second) or _same_chains(first, flipped(second)) or _same_halves(first, second)
        )
        return right("the same relation", "symbolic") if same else wrong(summary, "symbolic")
    return None


def _grade_sets(expected: Prepared, given: Prepared) -> Grade | None:
    """Where both are sets of real numbers, and not both may be points."""
    if is_plain_interval(expected.text) and is_plain_interval(given.text):
        return None
    first, second = read_set(expected.text), read_set(given.text)
    if first is None or second is None:
        return None
    if not may_be_same_name(first.name, second.name):
        return wrong(f"expected {first.name}, got {second.name}", "symbolic")
    if _same_sets(first, second):
        return right("the same set", "symbolic")
    return wrong(f"expected {shorten(expected.text)}, got {shorten(given.text)}", "symbolic")


def _same_sets(first: NamedSet, second: NamedSet) -> bool:
    if first.members == second.members:
        return True
    try:
        return bool(first.members.symmetric_difference(second.members).is_empty)
    except (NotImplementedError, TypeError):
        return False


def _are_equations(expected: Prepared, given: Prepared) -> bool:
    """Whether one of them says more than what a name's value is, or the names differ."""
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
    sides = [read(side) for side in relation.sides]
    symbols = [side for side in sides if isinstance(side, sympy.Symbol)]
    return len(symbols) == 1 and len(sides) == 2


def _as_zero(relation: Relation) -> Expr | None:
    """Left side minus right side; None where one is no expression."""
    try:
        left, right_side = (read(side) for side in relation.sides)
    except Unreadable:
        return None
    return left - right_side if isinstance(left, Expr) and isinstance(right_side, Expr) else None


def _grade_identity(expected: Prepared, given: Relation, rel_tolerance: float, summary: str) -> Grade:
    """An equality between expressions that holds for all values states its last side."""
    try:
        sides = [read(side) for side in given.sides]
        wanted = read(expected.value)
    except Unreadable as error:
        return wrong(f"cannot read {summary}: {error}", "symbolic")
    if not all(isinstance(each, Expr) for each in (*sides, wanted)):
        return wrong(summary, "symbolic")
    if not all(is_zero(sides[0] - side) for side in sides[1:]):
        return wrong("an equation, and no value", "symbolic")
    return grade_expressions(wanted, sides[-1], rel_tolerance, summary)


def _same_chains(expected: Relation, given: Relation) -> bool:
    """Side by side, with the same signs."""
    if expected.signs != given.signs:
        return False
    try:
        pairs = [(read(a), read(b)) for a, b in zip(expected.sides, given.sides, strict=True)]
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
