"""What a task's answer is held against, where that is more than one reference answer."""

from typing import Literal

from pydantic import Field

from .base import Message

LogicQuestion = Literal["value", "satisfiable", "entailed", "table", "equivalent", "proof"]
"""A truth value; whether (and how) it can be true; whether it follows; its truth table; a formula with the
same table; a derivation."""


class LogicSpec(Message):
    """What is asked about a formula of propositional logic."""

    kind: Literal["logic"] = "logic"
    asks: LogicQuestion
    formula: str
    """Such as `p -> (q or not r)`: what is valued, tabulated, or to be shown."""
    premises: tuple[str, ...] = ()
    """What it must follow from, for `entailed` and `proof`; for `satisfiable`, true at the same time."""
    assignment: tuple[tuple[str, bool], ...] = ()
    """Values of the letters, for `value`."""


class CodeTestCase(Message):
    """One hidden test of a function."""

    call: str
    """An expression such as `add(2, 3)`. The answer's code gets to see it."""
    expected: str
    """The value as a Python literal. The answer's code never gets to see it."""
    tolerance: float = Field(default=0.0, ge=0.0)
    """By how much numbers may differ, relative to what is expected where that is more than 1."""


class IoTestCase(Message):
    """One hidden run of a whole program."""

    stdin: str
    stdout: str
    """Compared line by line; spaces at the end of lines and empty lines at the end do not count."""


class CodeSpec(Message):
    """What a piece of code must do, and how it must be written."""

    kind: Literal["code"] = "code"
    function: str = ""
    """Must be defined at the top level; empty where a whole program is asked for."""
    parameters: int | None = Field(default=None, ge=0)
    """How many arguments the function must take; None: not looked at."""
    checks: tuple[CodeTestCase, ...] = ()
    runs: tuple[IoTestCase, ...] = ()
    forbidden: tuple[str, ...] = ()
    """Names that may not be used, and words of syntax: `for`, `while`, `import`, `lambda`, `recursion`."""


class Milestone(Message):
    """One subtask, and the value that shows that it was done."""

    name: str
    value: str


class MilestonesSpec(Message):
    """Intermediate results that must turn up on the way."""

    kind: Literal["milestones"] = "milestones"
    milestones: tuple[Milestone, ...] = Field(min_length=1)
    in_order: bool = True
    """A milestone counts only after those before it."""
