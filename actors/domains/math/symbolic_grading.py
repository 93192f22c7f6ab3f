"""Symbolic grading path: expressions, quantities, lists, sets and equations compared by computer algebra.

Only for `actors.domains.math.grader`, which runs in killable, memory-limited processes: simplifying
may take for ever, and neither sympy nor math-verify can be stopped from inside.
"""

import re
from functools import partial
from itertools import combinations

import sympy
from sympy import Expr

from ....runtime.tools.math_parser import Unreadable, check_size, read_expression
from ..grading import UNREAD, Grade, correct, incorrect, shorten
from .answer_structure import (
    Collection,
    has_letters,
    is_indexed,
    read_collection,
    read_tight_list,
    same_function,
    split_relation,
)
from .equality import MATH_VERIFY_CONFIDENCE, grade_expressions, math_verify_accepts
from .expression_parser import Value, parse_math
from .fast_path import grade_fast, grade_values, names_compatible, parse_answer
from .notation import latex_to_plain
from .quantities import Quantity, split_counted, split_quantity
from .relations import grade_relations, read_set


def grade_math(reference: str, answer: str, rel_tolerance: float) -> Grade:
    """Compare as text, numbers and quantities, as lists and sets of such, then as mathematics."""
    quick = grade_fast(reference, answer, rel_tolerance)
    if quick is not None:
        return quick
    expected, given = parse_answer(reference), parse_answer(answer)
    check_size(given.text)
    related = grade_relations(expected, given, rel_tolerance)
    if related is not None:
        return related
    values = expected.value, given.value
    named = names_compatible(expected.name, given.name)
    if not named and not (same_function(expected.name, given.name) and not any(map(has_letters, values))):
        return incorrect(f"expected {expected.name}, got {given.name}", "symbolic")
    return _grade_values(*values, rel_tolerance)


def check_reference(reference: str) -> None:
    """Read the reference alone; what cannot be read is text. Raises whatever else goes wrong."""
    prepared = parse_answer(reference)
    collection = read_collection(prepared.value)
    for item in collection.items if collection is not None else (prepared.value,):
        value = _read_or_none(item)
        if isinstance(value, Expr):
            grade_expressions(value, value, 0.0, "")
    read_set(prepared.text)


def _grade_values(expected: str, given: str, rel_tolerance: float) -> Grade:
    quick = grade_values(expected, given, rel_tolerance)
    if quick is not None:
        return quick
    quantities = split_quantity(expected), split_quantity(given)
    if quantities[0] is not None and quantities[1] is not None:
        return _grade_quantities(quantities[0], quantities[1], rel_tolerance)
    first, second = split_counted(expected), split_counted(given)
    if (first is None) != (second is None):
        bare = (first.number if first else expected), (second.number if second else given)
        return _grade_values(*bare, rel_tolerance)
    if _has_degrees(expected) != _has_degrees(given):
        return incorrect("one is in degrees, the other is not", "symbolic")
    listed = _grade_collections(expected, given, rel_tolerance)
    return listed if listed is not None else _grade_read(expected, given, rel_tolerance)


def _grade_read(expected_text: str, given_text: str, rel_tolerance: float) -> Grade:
    """As mathematical objects; what is no expression is left to math-verify."""
    summary = f"expected {shorten(expected_text)}, got {shorten(given_text)}"
    if split_relation(given_text) is not None or split_relation(expected_text) is not None:
        return incorrect(summary, "symbolic")
    given = _read_or_none(given_text)
    if isinstance(given, Unreadable):
        return incorrect(f"cannot read {shorten(given_text)}: {given}", "symbolic", UNREAD)
    expected = _read_or_none(expected_text)
    if isinstance(expected, Unreadable):
        return incorrect(
            f"cannot read the reference {shorten(expected_text)}: {expected}", "symbolic", UNREAD
        )
    if isinstance(expected, Expr) and isinstance(given, Expr):
        return grade_expressions(expected, given, rel_tolerance, summary)
    if math_verify_accepts(expected_text, given_text, expected, given):
        return correct("mathematically the same", "symbolic", MATH_VERIFY_CONFIDENCE)
    return incorrect(summary, "symbolic")


def _read_or_none(text: str) -> Value | Unreadable:
    try:
        return parse_math(text)
    except Unreadable as error:
        return error


def _grade_quantities(expected: Quantity, given: Quantity, rel_tolerance: float) -> Grade:
    """Of the same dimension, their numbers being expressions."""
    values = []
    for number, unit in (expected, given):
        value = parse_math(number)
        if not isinstance(value, Expr):
            raise Unreadable("the quantity's number is no expression")
        factor = sympy.Rational(unit.factor.numerator, unit.factor.denominator) * sympy.pi**unit.pi
        values.append(value * factor + sympy.Rational(unit.offset.numerator, unit.offset.denominator))
    return grade_expressions(values[0], values[1], rel_tolerance, "another quantity")


def _grade_collections(expected_text: str, given_text: str, rel_tolerance: float) -> Grade | None:
    """Lists of expressions, item by item; None where either is no such list."""
    expected, given = read_collection(expected_text), read_collection(given_text)
    if expected is None and given is not None:
        expected = read_tight_list(expected_text)
    if expected is None or given is None:
        return _grade_number_of_items(expected, given, expected_text, given_text)
    summary = f"expected {shorten(expected_text)}, got {shorten(given_text)}"
    found = _same_collections(expected, given, rel_tolerance)
    return correct("the same, item by item", "symbolic") if found else incorrect(summary, "symbolic")


def _same_collections(expected: Collection, given: Collection, rel_tolerance: float) -> bool:
    same = partial(_same_item, rel_tolerance=rel_tolerance)
    kinds = {expected.kind, given.kind}
    if kinds == {"assignments"}:
        return _same_assignments(expected, given, rel_tolerance)
    if kinds == {"set", "range"} or kinds == {"set", "assignments"}:
        return False
    if kinds == {"range"} and not _same_brackets(expected, given):
        return False
    if "range" in kinds and len(kinds) > 1 and "()" not in (expected.brackets, given.brackets):
        return False
    if kinds == {"list", "range"} and (expected.names or given.names):
        return False  # x = 2, x = 3 is no point
    if kinds == {"list"} and not _may_share_name(expected, given):
        return False
    if "range" in kinds or "assignments" in kinds:
        in_order = len(expected.items) == len(given.items) and all(map(same, expected.items, given.items))
        numbered = "range" not in kinds and is_indexed(expected.names or given.names)
        return in_order or (numbered and _same_items(expected, given, rel_tolerance, counted=True))
    return _same_items(expected, given, rel_tolerance, counted=kinds == {"list"})


def _same_brackets(expected: Collection, given: Collection) -> bool:
    """The same ones; of more than two items, `(1, 2, 3)` may also be written `[1, 2, 3]`."""
    vectors = {"()", "[]"}
    return expected.brackets == given.brackets or (
        len(expected.items) > 2 and {expected.brackets, given.brackets} <= vectors
    )


def _may_share_name(expected: Collection, given: Collection) -> bool:
    first, second = "".join(expected.names), "".join(given.names)
    return names_compatible(first, second) or (
        same_function(first, second) and not any(map(has_letters, (*expected.items, *given.items)))
    )


def _same_assignments(expected: Collection, given: Collection, rel_tolerance: float) -> bool:
    first, second = (dict(zip(each.names, each.items, strict=True)) for each in (expected, given))
    sizes = {len(first), len(second), len(expected.items), len(given.items)}
    return len(sizes) == 1 and all(
        name in second and _same_item(value, second[name], rel_tolerance) for name, value in first.items()
    )


def _same_items(expected: Collection, given: Collection, rel_tolerance: float, counted: bool) -> bool:
    """In any order; where they are counted and some are there twice, each as often."""
    counted = counted and any(_same_item(a, b, rel_tolerance) for a, b in combinations(expected.items, 2))
    if counted and len(expected.items) != len(given.items):
        return False
    left = list(given.items)
    for item in expected.items:
        found = next((each for each in left if _same_item(item, each, rel_tolerance)), None)
        if found is None:
            return False
        if counted:
            left.remove(found)
    return counted or all(
        any(_same_item(item, each, rel_tolerance) for item in expected.items) for each in given.items
    )


def _grade_number_of_items(
    expected: Collection | None, given: Collection | None, expected_text: str, given_text: str
) -> Grade | None:
    """Several items are not one plain expression; None for all that is not so plain."""
    several, one = (expected, given_text) if expected is not None else (given, expected_text)
    if several is None or len(several.items) < 2:
        return None
    try:
        read_expression(latex_to_plain(one) or one)
    except Unreadable:
        return None
    return incorrect(f"expected {shorten(expected_text)}, got {shorten(given_text)}", "symbolic")


def _same_item(expected: str, given: str, rel_tolerance: float) -> bool:
    """One item against another; items are not answers in sentences any more."""
    return _grade_values(expected, given, rel_tolerance).correct


def _has_degrees(text: str) -> bool:
    return re.search(r"\\circ(?![A-Za-z])|°", text) is not None
