"""Grader process of the `math` domain: grades answers and checks steps of a calculation."""

import json
import sys
from typing import Final, NoReturn

import sympy
from pydantic import JsonValue

from ....runtime.tools.math_parser import Unreadable
from ..grader_process import GradeFunction, serve_grader
from ..grading import UNREAD, incorrect
from .equality import is_zero
from .expression_parser import parse_math
from .symbolic_grading import check_reference, grade_math

_MAX_DIGITS: Final = 20_000
_WARM_UP: Final = (
    (r"\frac{1}{2}", "1/2+0"), (r"\sqrt{2}", "2^(1/2)"), (r"x^2+2x+1", r"(x+1)^{2}"),
    (r"\{1,2,3\}", "{3,2,1}"), ("[0,1)", r"[0,1)"), (r"(-\infty, 3]", "(-oo,3]"), ("(1,2)", "(1,2)"),
    (r"x=3", "3"), (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}"),
    (r"(0,1) \cup [2,3]", "(0,1) U [2,3]"), (r"3\times10^{5}", "300000+0"), (r"e^{i\pi}", "cos(pi)"),
    (r"\frac{\sqrt{3}}{2}", "sin(pi/3)"), (r"\log_2{8}", "3x/x"), (r"5!", "100+20"), (r"1,2", "2,1"),
    (r"\pm 2", r"\{-2,2\}"), (r"x \le 3", "x<=3"), (r"2\pi r", "2 pi r"), (r"\binom{4}{2}", "2*3"),
    (r"\frac{x+1}{x-1}", "(1+x)/(x-1)"), (r"\left(\frac{1}{3}, 2\right)", "(1/3,2)"), (r"45^\circ", "1*x"),
    (r"x \le 3", "x>=3"), ("x_1", "x_{1}"), (r"(0,1) \cup [2,3]", "(0,3]"),
)  # fmt: skip
"""Graded before the first fork: children then share the grammar's tables and loaded modules."""


def grade_job(text: str) -> JsonValue:
    """One job: `["grade", reference, answer, tolerance]`, `["steps", [[before, after, equations], …]]` or
    `["check", reference]`.

    Gives the grade's fields, or for each step whether it follows, or true for a reference that can be read.
    """
    kind, *job = json.loads(text)
    if kind == "steps":
        return [step_holds(*step) for step in job[0]]
    if kind == "check":
        check_reference(job[0])
        return True
    reference, answer, rel_tolerance = job
    try:
        return list(grade_math(reference, answer, rel_tolerance))
    except MemoryError:
        raise
    except Exception as error:
        # Libraries fail in many ways on what a model writes. Ours it is where the reference does the same.
        check_reference(reference)
        return list(incorrect(_reason(error), "symbolic", UNREAD))


def _reason(error: Exception) -> str:
    if isinstance(error, Unreadable):
        return str(error)
    return (
        "nested too deeply"
        if isinstance(error, RecursionError)
        else f"it cannot be compared: {error!r}"[:200]
    )


def step_holds(before: str, after: str, equations: bool) -> bool:
    """True if a term equals the one before it, or an equation has the same solutions."""
    try:
        if equations:
            return _same_solutions(before, after)
        return grade_math(before, after, 0.0).correct
    except MemoryError:
        raise
    except Exception:
        return False  # a step that sympy fails on in whatever way is not shown to hold


def _same_solutions(before: str, after: str) -> bool:
    first, second = _as_zero(before), _as_zero(after)
    if is_zero(first - second) or is_zero(first + second):
        return True
    unknowns = first.free_symbols | second.free_symbols
    if len(unknowns) != 1:
        return False
    (unknown,) = unknowns
    return bool(sympy.solveset(first, unknown) == sympy.solveset(second, unknown))


def _as_zero(equation: str) -> sympy.Expr:
    """Left side minus right side. Raises Unreadable."""
    left, right = (parse_math(side) for side in equation.split("=", 1))
    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        raise Unreadable("a side of the equation is no expression")
    return left - right


def prepare() -> GradeFunction:
    """Warm up on samples of our own."""
    sys.set_int_max_str_digits(_MAX_DIGITS)  # sympy prints numbers while it sorts terms
    for reference, answer in _WARM_UP:
        grade_math(reference, answer, 1e-6)
    return grade_job


def main() -> NoReturn:
    """Be the grader's server."""
    serve_grader(prepare)
