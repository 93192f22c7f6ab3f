"""Reads formulas of propositional logic in many notations; nothing is evaluated as code.

    not p or (q and r)      ¬p ∨ (q ∧ r)      !p || (q && r)      \\lnot p \\lor (q \\land r)

From what binds tightest: not, and, xor, or, implies (to the right), iff. Letters are single, with an
index if need be (`p`, `Q`, `x1`); `T`, `F`, `true`, `false`, `⊤`, `⊥`, `1` and `0` are constants.
"""

import re
from typing import Final, NamedTuple, TypeAlias

MAX_CHARACTERS: Final = 2000
MAX_DEPTH: Final = 100
MAX_LETTERS: Final = 12
"""Of one question: a truth table has two to this power rows."""

_SPELLINGS: Final = {
    "iff": (
        "<->", "<=>", "⟷", "↔", "⇔", "≡", "\\leftrightarrow", "\\Leftrightarrow", "\\iff", "\\equiv", "iff",
    ),
    "implies": (
        "->", "=>", "→", "⇒", "⊃", "\\rightarrow", "\\Rightarrow", "\\implies", "\\to", "\\supset", "implies",
    ),
    "xor": ("⊕", "⊻", "^", "\\oplus", "\\veebar", "xor"),
    "or": ("||", "|", "∨", "\\lor", "\\vee", "or"),
    "and": ("&&", "&", "∧", "\\land", "\\wedge", "and"),
    "not": ("!", "~", "¬", "\\lnot", "\\neg", "not"),
    "true": ("⊤", "\\top", "true", "T", "1"),
    "false": ("⊥", "\\bot", "false", "F", "0"),
    "(": ("(", "[", "\\left(", "\\left["),
    ")": (")", "]", "\\right)", "\\right]"),
}  # fmt: skip
_MEANING: Final = {text: token for token, texts in _SPELLINGS.items() for text in texts}
_TOKEN: Final = re.compile(
    r"\s*(\\left[(\[]|\\right[)\]]|\\[A-Za-z]+|<->|<=>|->|=>|\|\||&&|[A-Za-z]+_?\{?\d*\}?|[^\sA-Za-z\\])"
)
_LETTER: Final = re.compile(r"([A-Za-z])_?\{?(\d*)\}?")
_BINARY: Final = {"iff": 1, "implies": 2, "or": 3, "xor": 4, "and": 5}
"""Precedence of each connective."""


class UnreadableFormula(ValueError):
    """The text is no formula."""


class Letter(NamedTuple):
    """A statement that is true or false."""

    name: str


class Constant(NamedTuple):
    """True or false."""

    value: bool


class Not(NamedTuple):
    """The negation."""

    inner: "Formula"


class Joined(NamedTuple):
    """Two formulas joined by `and`, `or`, `xor`, `implies` or `iff`."""

    how: str
    left: "Formula"
    right: "Formula"


Formula: TypeAlias = Letter | Constant | Not | Joined


def read_formula(text: str) -> Formula:
    """Parse the whole text. Raises Unreadable.

    >>> read_formula("not p or q") == read_formula("¬p ∨ q")
    True
    """
    if len(text) > MAX_CHARACTERS:
        raise UnreadableFormula(f"longer than {MAX_CHARACTERS} characters")
    reader = _Reader(_tokens(text.strip().strip("$`").rstrip(".")))
    formula = reader.formula(0, 0)
    if reader.peek():
        raise UnreadableFormula(f"{reader.peek()!r} is out of place")
    return formula


def letters_of(formula: Formula) -> set[str]:
    """The letters that occur in it."""
    match formula:
        case Letter(name=name):
            return {name}
        case Not(inner=inner):
            return letters_of(inner)
        case Joined(left=left, right=right):
            return letters_of(left) | letters_of(right)
    return set()


def value_of(formula: Formula, assignment: dict[str, bool]) -> bool:
    """Its value. Raises Unreadable for a letter without one."""
    match formula:
        case Letter(name=name):
            if name not in assignment:
                raise UnreadableFormula(f"{name} has no value")
            return assignment[name]
        case Constant(value=value):
            return value
        case Not(inner=inner):
            return not value_of(inner, assignment)
        case Joined(how=how, left=left, right=right):
            return join(how, value_of(left, assignment), value_of(right, assignment))


def join(how: str, left: bool, right: bool) -> bool:
    """The truth table of a connective."""
    if how == "and":
        return left and right
    if how == "or":
        return left or right
    if how == "implies":
        return right or not left
    return (left == right) == (how == "iff")


class _Reader:
    """Precedence climbing over tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> str:
        """The next token; empty at the end."""
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def formula(self, above: int, depth: int) -> Formula:
        """An operand and all that binds it tighter than `above`."""
        if depth > MAX_DEPTH:
            raise UnreadableFormula(f"nested more than {MAX_DEPTH} deep")
        left = self._operand(depth + 1)
        while (tightness := _BINARY.get(self.peek(), 0)) > above:
            how = self.peek()
            self._at += 1
            to_the_right = tightness - 1 if how == "implies" else tightness
            left = Joined(how, left, self.formula(to_the_right, depth + 1))
        return left

    def _operand(self, depth: int) -> Formula:
        token = self.peek()
        self._at += 1
        if token == "not":
            if depth > MAX_DEPTH:
                raise UnreadableFormula(f"nested more than {MAX_DEPTH} deep")
            return Not(self._operand(depth + 1))
        if token == "(":
            inner = self.formula(0, depth + 1)
            if self.peek() != ")":
                raise UnreadableFormula("a parenthesis is not closed")
            self._at += 1
            return inner
        if token in ("true", "false"):
            return Constant(token == "true")
        found = _LETTER.fullmatch(token)
        if found is None:
            raise UnreadableFormula(f"{token!r} is out of place" if token else "it ends too early")
        return Letter(found[1] + found[2])


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise UnreadableFormula(f"{text[at]!r} is out of place")
        token = found[1]
        tokens.append(_MEANING.get(token) or _MEANING.get(token.lower()) or token)
        at = found.end()
    return tokens
