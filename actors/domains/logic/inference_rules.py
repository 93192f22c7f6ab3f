"""Rules of inference by name: what each makes of the lines it is given."""

import re
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from .formulas import Formula, Joined, Not


class Rule(NamedTuple):
    """A rule of inference."""

    name: str
    takes: int
    """Lines that it needs."""
    gives: Callable[[list[Formula], Formula], bool]
    """True if it leads from these lines, in this order, to that one."""


def _modus_ponens(lines: list[Formula], to: Formula) -> bool:
    return lines[0] == Joined("implies", lines[1], to)


def _modus_tollens(lines: list[Formula], to: Formula) -> bool:
    match lines[0]:
        case Joined(how="implies", left=left, right=right):
            return denies(lines[1], right) and denies(to, left)
    return False


def _chain(lines: list[Formula], to: Formula) -> bool:
    match lines[0], lines[1], to:
        case Joined("implies", a, b), Joined("implies", c, d), Joined("implies", e, f):
            return (b, a, d) == (c, e, f)
    return False


def _disjunctive(lines: list[Formula], to: Formula) -> bool:
    match lines[0]:
        case Joined(how="or", left=left, right=right):
            return (denies(lines[1], left) and to == right) or (denies(lines[1], right) and to == left)
    return False


def _conjunction(lines: list[Formula], to: Formula) -> bool:
    return to == Joined("and", lines[0], lines[1])


def _simplification(lines: list[Formula], to: Formula) -> bool:
    match lines[0]:
        case Joined(how="and", left=left, right=right):
            return to in (left, right)
    return False


def _addition(lines: list[Formula], to: Formula) -> bool:
    match to:
        case Joined(how="or", left=left, right=right):
            return lines[0] in (left, right)
    return False


def _double_negation(lines: list[Formula], to: Formula) -> bool:
    return to == Not(Not(lines[0])) or lines[0] == Not(Not(to))


def _contraposition(lines: list[Formula], to: Formula) -> bool:
    match lines[0], to:
        case Joined("implies", a, b), Joined("implies", c, d):
            return denies(c, b) and denies(d, a)
    return False


def _de_morgan(lines: list[Formula], to: Formula) -> bool:
    return _moves_in(lines[0], to) or _moves_in(to, lines[0])


def _moves_in(outer: Formula, inner: Formula) -> bool:
    match outer, inner:
        case Not(Joined("and" | "or" as how, a, b)), Joined("and" | "or" as other, c, d):
            return how != other and denies(c, a) and denies(d, b)
    return False


def _biconditional(lines: list[Formula], to: Formula) -> bool:
    match lines[0], to:
        case Joined("iff", a, b), Joined("implies", c, d):
            return (c, d) in ((a, b), (b, a))
    return False


def _implication(lines: list[Formula], to: Formula) -> bool:
    return _as_or(lines[0], to) or _as_or(to, lines[0])


def _as_or(implication: Formula, disjunction: Formula) -> bool:
    match implication, disjunction:
        case Joined("implies", a, b), Joined("or", c, d):
            return denies(c, a) and d == b
    return False


def _resolution(lines: list[Formula], to: Formula) -> bool:
    match lines[0], lines[1], to:
        case Joined("or", a, b), Joined("or", c, d), Joined("or", e, f):
            ways = ((x, y, u, v) for x, y in ((a, b), (b, a)) for u, v in ((c, d), (d, c)))
            return any(denies(x, u) and {y, v} == {e, f} for x, y, u, v in ways)
    return _disjunctive(lines, to)


def denies(one: Formula, other: Formula) -> bool:
    """True if one is the other with a `not` before it."""
    return one == Not(other) or other == Not(one)


_RULES: Final = {
    "modus ponens": Rule("modus ponens", 2, _modus_ponens),
    "modus tollens": Rule("modus tollens", 2, _modus_tollens),
    "hypothetical syllogism": Rule("hypothetical syllogism", 2, _chain),
    "disjunctive syllogism": Rule("disjunctive syllogism", 2, _disjunctive),
    "resolution": Rule("resolution", 2, _resolution),
    "conjunction": Rule("conjunction", 2, _conjunction),
    "simplification": Rule("simplification", 1, _simplification),
    "addition": Rule("addition", 1, _addition),
    "double negation": Rule("double negation", 1, _double_negation),
    "contraposition": Rule("contraposition", 1, _contraposition),
    "de morgan": Rule("de Morgan", 1, _de_morgan),
    "biconditional elimination": Rule("biconditional elimination", 1, _biconditional),
    "material implication": Rule("material implication", 1, _implication),
}
_SHORT: Final = {
    "mp": "modus ponens", "implication elimination": "modus ponens", "mt": "modus tollens",
    "hs": "hypothetical syllogism", "chain rule": "hypothetical syllogism",
    "transitivity": "hypothetical syllogism", "ds": "disjunctive syllogism", "conj": "conjunction",
    "and introduction": "conjunction", "and intro": "conjunction", "adjunction": "conjunction",
    "simp": "simplification", "and elimination": "simplification", "and elim": "simplification",
    "or introduction": "addition", "or intro": "addition", "dn": "double negation",
    "contrapositive": "contraposition", "transposition": "contraposition", "dm": "de morgan",
    "de morgans law": "de morgan", "demorgan": "de morgan", "demorgans law": "de morgan",
    "impl": "material implication",
}  # fmt: skip
_PREMISES: Final = frozenset({"premise", "given", "assumption", "hypothesis", "prem"})
_NAMES: Final = sorted({*_RULES, *_SHORT, *_PREMISES}, key=len, reverse=True)


def rule_named(reason: str) -> Rule | Literal["premise"] | None:
    """The rule that a line's reason names, whatever lines it points to; None if it names none.

    >>> rule_named("by MP on 1 and 2").name
    'modus ponens'
    """
    words = " ".join(re.findall(r"[a-z]+", re.sub(r"['’]", "", reason.casefold())))
    found = next((name for name in _NAMES if f" {name} " in f" {words} "), "")
    return "premise" if found in _PREMISES else _RULES.get(_SHORT.get(found, found))
