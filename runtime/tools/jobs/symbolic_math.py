"""Mathematics with sympy: what a process of the math tool does.

Only for `runtime.tools.builtin.math`, which runs it in killable, memory-limited processes. No text is
evaluated as code: `runtime.tools.math_parser` reads it.
"""

import json
import os
import re
from collections.abc import Callable
from typing import Final, NoReturn

import sympy
from sympy import Expr

from ...sandbox.inside.fork_server import Job, serve
from ...sandbox.inside.protocol import Ending, Setup
from ..math_parser import Unreadable, read_expression

_DIGITS: Final = 15
_SEPARATOR: Final = re.compile(r"[,;\n]")
_RELATION: Final = re.compile(r"<=|>=|==|!=|[<>=≤≥≠]")
_RELATIONS: Final[dict[str, Callable[[Expr, Expr], object]]] = {
    "<": sympy.Lt, ">": sympy.Gt, "<=": sympy.Le, ">=": sympy.Ge, "≤": sympy.Le, "≥": sympy.Ge,
    "!=": sympy.Ne, "≠": sympy.Ne,
}  # fmt: skip
_WARM_UP: Final = (
    ("parse", "2x(x+1)", ""), ("simplify", "(x^2-1)/(x-1)", ""), ("simplify", "sin(x)^2+cos(x)^2", ""),
    ("solve", "x^2=4", ""), ("solve", "x+y=3, x-y=1", ""), ("solve", "x^2<4", ""), ("solve", "sin(x)=1", ""),
    ("solve", "exp(x)=2", ""), ("evaluate", "sqrt(2)*x", "x=3"),
)  # fmt: skip
"""Worked out before the first fork: children then share the modules that sympy loads late."""


class _Relation:
    """Two sides and what stands between them."""

    def __init__(self, text: str) -> None:
        parts = _RELATION.split(text)
        if len(parts) > 2:
            raise Unreadable(f"{text.strip()!r} has more than one relation")
        self.sign = _RELATION.findall(text)[0] if len(parts) == 2 else "="
        self.left = read_expression(parts[0])
        self.right = read_expression(parts[1]) if len(parts) == 2 else sympy.S.Zero

    @property
    def is_equation(self) -> bool:
        return self.sign in ("=", "==")


def parse(text: str, symbols: str) -> str:
    """How the text is understood."""
    relations = [_Relation(part) for part in _SEPARATOR.split(text)]
    if len(relations) == 1 and not _RELATION.search(text):
        return _described(relations[0].left)
    return "; ".join(f"{each.left} {each.sign} {each.right}" for each in relations)


def simplify(text: str, symbols: str) -> str:
    """The simplest form that is found."""
    return str(sympy.simplify(_one(text)))


def evaluate(text: str, symbols: str) -> str:
    """The value: exactly, and as a decimal where that says more."""
    value = _one(text).xreplace(_values(symbols)).doit()
    if value.free_symbols:
        return _described(sympy.simplify(value))
    if value.has(sympy.nan, sympy.zoo):
        raise Unreadable("it has no value")
    exact = sympy.simplify(value) if not value.is_Rational else value
    decimal = sympy.N(exact, _DIGITS)
    if exact.is_Integer or exact.is_Float or not decimal.is_number:
        return str(exact)
    return f"{exact} = {_trimmed(decimal)}" if exact.is_Rational else f"{exact} ≈ {_trimmed(decimal)}"


def solve(text: str, symbols: str) -> str:
    """What the unknowns are: `x = -2; x = 2`."""
    relations = [_Relation(part) for part in _SEPARATOR.split(text) if part.strip()]
    if not relations:
        raise Unreadable("there is no equation")
    found = set().union(*(each.left.free_symbols | each.right.free_symbols for each in relations))
    unknowns = _unknowns(symbols) or sorted(found, key=str)
    if not unknowns:
        return _decided(relations)
    if all(each.is_equation for each in relations):
        return _solve_equations([each.left - each.right for each in relations], unknowns)
    if len(relations) > 1 or len(unknowns) > 1:
        raise Unreadable("an inequality is solved alone, and for one unknown")
    (relation,) = relations
    claim = _RELATIONS[relation.sign](relation.left, relation.right)
    return f"{unknowns[0]} in {sympy.solveset(claim, unknowns[0], sympy.S.Reals)}"


def _solve_equations(zeros: list[Expr], unknowns: list[Expr]) -> str:
    if all(sympy.simplify(zero) == 0 for zero in zeros):
        return f"true for every {', '.join(map(str, unknowns))}"
    # A single equation is solved as one: as a system, some polynomials come out without their roots.
    solutions = sympy.solve(zeros[0] if len(zeros) == 1 else zeros, unknowns, dict=True)
    if not solutions:
        return "no solution was found"
    return "; ".join(
        ", ".join(f"{name} = {_named(value)}" for name, value in each.items()) for each in solutions
    )


def _decided(relations: list[_Relation]) -> str:
    """Whether relations between numbers hold."""
    holds = [
        sympy.simplify(each.left - each.right) == 0
        if each.is_equation
        else bool(_RELATIONS[each.sign](each.left, each.right))
        for each in relations
    ]
    return "true" if all(holds) else "false"


def _one(text: str) -> Expr:
    if _RELATION.search(text):
        raise Unreadable("this is a relation, not an expression; use the action solve")
    return read_expression(text)


def _values(symbols: str) -> dict[Expr, Expr]:
    values: dict[Expr, Expr] = {}
    for part in filter(str.strip, _SEPARATOR.split(symbols)):
        relation = _Relation(part)
        if not relation.left.is_Symbol or "=" not in part:
            raise Unreadable(f"{part.strip()!r} gives no symbol a value; write x=2")
        values[relation.left] = relation.right
    return values


def _unknowns(symbols: str) -> list[Expr]:
    unknowns = [read_expression(part) for part in _SEPARATOR.split(symbols) if part.strip()]
    wrong = next((each for each in unknowns if not each.is_Symbol), None)
    if wrong is not None:
        raise Unreadable(f"{wrong} is not an unknown; write x, or x, y")
    return unknowns


def _described(value: Expr) -> str:
    names = ", ".join(sorted(map(str, value.free_symbols)))
    return f"{value} (in {names})" if names else str(value)


def _named(value: Expr) -> str:
    """A root that has no name but "the third root of that" is given as a number."""
    return _trimmed(sympy.N(value, _DIGITS)) if value.has(sympy.CRootOf) else str(value)


def _trimmed(value: Expr) -> str:
    text = str(value)
    return text.rstrip("0").rstrip(".") if re.fullmatch(r"-?\d+\.\d+", text) else text


ACTIONS: Final = {"parse": parse, "simplify": simplify, "evaluate": evaluate, "solve": solve}


def calculate(text: str) -> Ending:
    """One job in a child: a JSON list [action, expression, symbols] in, a line out."""
    action, expression, symbols = json.loads(text)
    try:
        line = ACTIONS[action](expression, symbols)
    except Unreadable as error:
        return _complain(str(error))
    except MemoryError:
        return "memory"
    except RecursionError:
        return _complain("nested too deeply")
    except NotImplementedError:
        return _complain("there is no known way to do that")
    except (ArithmeticError, ValueError, TypeError, AttributeError) as error:
        return _complain(f"{type(error).__name__}: {error}"[:300])
    os.write(1, line.encode())
    return "ok"


def _complain(line: str) -> Ending:
    os.write(1, line.encode())
    return "error"


def prepare(_: Setup) -> Job:
    """Warm up on samples of our own."""
    for action, expression, symbols in _WARM_UP:
        ACTIONS[action](expression, symbols)
    return calculate


def main() -> NoReturn:
    """Be the math tool's server."""
    serve(prepare)
