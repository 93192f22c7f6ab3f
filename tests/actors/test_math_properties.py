"""Mathematics drawn at random: equal things are right, unequal ones wrong, as sympy itself has it."""

import random
from fractions import Fraction

import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from agentfactory.actors.domains.math.fast_path import grade_fast
from agentfactory.actors.domains.math.quantities import read_unit
from agentfactory.actors.domains.math.symbolic_grading import grade_math
from agentfactory.runtime.tools.math_parser import Unreadable

TOLERANCE = 1e-6
X, Y = sympy.symbols("x y")
NUMBERS = st.integers(-9, 9).map(sympy.Integer)
LEAVES = st.one_of(NUMBERS, st.sampled_from([X, Y]))
UNITS = st.sampled_from(["mm", "cm", "m", "km", "in", "ft", "mi"])
QUIET = settings(max_examples=120, deadline=None)


def joined(children: st.SearchStrategy[sympy.Expr]) -> st.SearchStrategy[sympy.Expr]:
    pairs = st.tuples(children, children)
    return st.one_of(
        pairs.map(lambda ab: ab[0] + ab[1]),
        pairs.map(lambda ab: ab[0] - ab[1]),
        pairs.map(lambda ab: ab[0] * ab[1]),
        children.map(lambda a: a**2),
        st.tuples(children, st.integers(2, 9)).map(lambda ak: ak[0] / ak[1]),
    )


EXPRESSIONS = st.recursive(LEAVES, joined, max_leaves=6)


def written(expression: sympy.Expr, seed: int) -> str:
    """In one of the notations that an answer may come in."""
    rng = random.Random(seed)
    way = rng.randrange(4)
    if way == 0:
        return str(sympy.latex(expression))
    text = str(expression)
    if way == 1:
        return text.replace("**", "^")
    if way == 2:
        return f"${text.replace('**', '^').replace('*', ' ')}$"
    return f"\\boxed{{{text}}}"


@QUIET
@given(EXPRESSIONS, st.integers(0, 10**6))
def test_an_expression_is_equal_to_itself_in_other_words(expression: sympy.Expr, seed: int) -> None:
    for other in (expression, sympy.expand(expression), sympy.factor(expression)):
        reference, answer = written(expression, seed), written(other, seed + 1)
        assert grade_math(reference, answer, TOLERANCE).correct, (reference, answer)


@QUIET
@given(EXPRESSIONS, EXPRESSIONS, st.integers(0, 10**6))
def test_the_verdict_on_two_expressions_is_sympys(one: sympy.Expr, other: sympy.Expr, seed: int) -> None:
    same = sympy.expand(one - other) == 0
    reference, answer = written(one, seed), written(other, seed + 1)
    assert grade_math(reference, answer, 0.0).correct is bool(same), (reference, answer)


@QUIET
@given(EXPRESSIONS, st.integers(1, 9), st.integers(0, 10**6))
def test_an_expression_that_is_off_by_a_little_is_wrong(expression: sympy.Expr, by: int, seed: int) -> None:
    for off in (expression + by, expression + X * by, expression + sympy.Rational(by, 97)):
        reference, answer = written(expression, seed), written(off, seed + 1)
        assert not grade_math(reference, answer, TOLERANCE).correct, (reference, answer)


@QUIET
@given(st.lists(st.integers(-99, 99), min_size=1, max_size=6, unique=True), st.randoms())
def test_a_set_is_the_same_in_any_order_and_no_other_set(values: list[int], rng: random.Random) -> None:
    shuffled = rng.sample(values, len(values))
    reference = "\\{" + ", ".join(map(str, values)) + "\\}"
    assert grade_math(reference, "{" + ",".join(f"{v}.0" for v in shuffled) + "}", TOLERANCE).correct
    other = [*shuffled[1:], max(values) + 1]
    assert not grade_math(reference, "{" + ",".join(map(str, other)) + "}", TOLERANCE).correct


@QUIET
@given(st.fractions(-50, 50, max_denominator=40), UNITS, UNITS)
def test_a_length_is_the_same_in_every_unit(value: Fraction, here: str, there: str) -> None:
    first, second = read_unit(here), read_unit(there)
    assert first is not None
    assert second is not None
    converted = value * first.factor / second.factor
    grade = grade_fast(f"{value} {here}", f"{converted} {there}", TOLERANCE)
    assert grade is not None
    assert grade.correct
    off = grade_fast(f"{value} {here}", f"{converted + Fraction(1, 1000)} {there}", TOLERANCE)
    assert off is not None
    assert not off.correct


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="0123456789.,/+-*^(){}[]\\ xyπ°$=<>%cmskfraqt", max_size=24))
def test_any_text_gets_a_grade(text: str) -> None:
    for reference in ("x^2+1", "5 cm", "[0,1)"):
        try:
            found = grade_math(reference, text, TOLERANCE)
        except Unreadable:
            continue  # the grader process makes a wrong answer of it
        assert found.score == float(found.correct)
        assert 0.0 < found.confidence <= 1.0
