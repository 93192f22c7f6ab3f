import random
from fractions import Fraction

import pytest

from agentfactory.training.tasks.arithmetic import (
    HELD_OUT_ONE_IN,
    HELD_OUT_SPREAD,
    MAX_CHARACTERS,
    MAX_DIGITS,
    estimate_difficulty,
    evaluate,
    find_expression,
    held_out_tasks,
    is_held_out,
    phrase,
    sample_expression,
)

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)


def draw(difficulty: float, count: int) -> list[str]:
    rng = random.Random(7)
    return [sample_expression(rng, difficulty) for _ in range(count)]


@pytest.mark.parametrize("difficulty", LEVELS)
def test_a_drawn_expression_has_a_value_that_python_agrees_with(difficulty: float) -> None:
    for expression in draw(difficulty, 200):
        assert evaluate(expression) == eval(expression)  # noqa: S307 - our own digits and signs


def test_the_easiest_expressions_join_two_digits() -> None:
    assert all(len(expression) == 3 for expression in draw(0.0, 100))


def test_the_hardest_expressions_stay_short_enough_to_copy() -> None:
    longest = max(map(len, draw(1.0, 2000)))
    assert 19 <= longest <= 22


def test_the_same_seed_draws_the_same_expressions() -> None:
    assert draw(0.5, 50) == draw(0.5, 50)


@pytest.mark.parametrize("difficulty", [-0.1, 1.1])
def test_a_difficulty_outside_the_unit_interval_is_refused(difficulty: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        sample_expression(random.Random(0), difficulty)


@pytest.mark.parametrize("difficulty", LEVELS)
def test_the_estimate_meets_the_difficulty_asked_for_on_average(difficulty: float) -> None:
    estimates = [estimate_difficulty(expression) for expression in draw(difficulty, 2000)]
    assert sum(estimates) / len(estimates) == pytest.approx(difficulty, abs=0.02)


def test_an_estimate_never_leaves_the_unit_interval() -> None:
    assert estimate_difficulty("7") == 0.0
    assert estimate_difficulty("12345+12345*12345-12345+12345-12345") == 1.0


@pytest.mark.parametrize("difficulty", LEVELS)
def test_every_task_text_gives_its_expression_back(difficulty: float) -> None:
    rng = random.Random(3)
    for _ in range(200):
        expression = sample_expression(rng, difficulty)
        assert find_expression(phrase(rng, expression)) == expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("Compute 12+34*5.", "12+34*5"),
        ("What is 7*(3-9)?", "7*(3-9)"),
        ("3 + 4 * 5", "3+4*5"),
        ("Task: Find (1+2)*3.", "(1+2)*3"),
        ("Compute `8/3`, exactly.", "8/3"),
        ("What is -3+4?", "-3+4"),
    ],
)
def test_the_one_expression_of_a_text_is_found(text: str, expression: str) -> None:
    assert find_expression(text) == expression


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Compute something.",
        "Compute 12.",
        "Compute 3+4 and 5+6.",
        "In 2 steps, compute 3+4.",
        "Compute 3+4x.",
        "Compute x3+4.",
        "Compute 12.5+3.",
        "Compute 3++4.",
        "Compute 3**4.",
        "Compute 3//4.",
        "Compute 1/0.",
        "Compute 12 34+5.",
        "Compute (3+4.",
        "Compute 007+1.",
        "A list - 3+4",
        "3+4=7",
        "5!+3",
        "Compute 1+" + "2" * 300 + ".",
    ],
)
def test_a_text_without_exactly_one_expression_gives_none(text: str) -> None:
    assert find_expression(text) is None


def test_a_division_is_exact() -> None:
    assert evaluate("1/3+1/6") == Fraction(1, 2)
    whole = evaluate("6/3")
    assert whole == 2
    assert isinstance(whole, int)


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("1/0", "divides by zero"),
        ("2**9", "has a value here"),
        ("7//2", "has a value here"),
        ("+3", "has a value here"),
        ("3(4)", "has a value here"),
        ("1+", "well-formed"),
        ("(" * 150, "well-formed"),
        ("", "only digits"),
        ("__import__('os')", "only digits"),
        ("1\n+2", "only digits"),
        ("1+" * MAX_CHARACTERS + "1", "characters"),
        ("9" * (MAX_DIGITS + 1), "digits"),
    ],
)
def test_what_is_not_plain_arithmetic_is_refused_with_a_reason(expression: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        evaluate(expression)


def test_the_longest_expressions_are_still_valued() -> None:
    assert evaluate("-" * (MAX_CHARACTERS - 1) + "1") in (-1, 1)
    assert evaluate("1+" * (MAX_CHARACTERS // 2 - 1) + "1") == MAX_CHARACTERS // 2


def test_about_one_expression_in_sixteen_is_held_out() -> None:
    expressions = set(draw(0.6, 4000))
    share = sum(map(is_held_out, expressions)) / len(expressions)
    assert share == pytest.approx(1 / HELD_OUT_ONE_IN, abs=0.015)


def test_spaces_and_outer_brackets_do_not_change_the_side_of_the_split() -> None:
    for expression in draw(0.4, 300):
        spaced = expression.replace("+", " + ").replace("*", " * ")
        assert is_held_out(spaced) == is_held_out(expression) == is_held_out(f"({expression})")


def test_the_evaluation_set_is_fixed_distinct_and_held_out() -> None:
    tasks = held_out_tasks(300, seed=0)
    assert tasks == held_out_tasks(300, seed=0)
    assert len({task.expression for task in tasks}) == 300
    assert all(is_held_out(task.expression) for task in tasks)
    assert all(find_expression(task.text) == task.expression for task in tasks)
    assert all(str(evaluate(task.expression)) == task.answer for task in tasks)


def test_the_evaluation_set_spreads_its_difficulties_evenly() -> None:
    difficulties = [task.difficulty for task in held_out_tasks(300, seed=1)]
    lowest, highest = HELD_OUT_SPREAD
    assert difficulties == sorted(difficulties)
    assert difficulties[0] == pytest.approx(lowest, abs=0.02)
    assert difficulties[-1] == pytest.approx(highest, abs=0.02)
    assert sum(difficulties) / 300 == pytest.approx((lowest + highest) / 2, abs=0.02)


def test_a_large_evaluation_set_never_runs_dry() -> None:
    assert len({task.expression for task in held_out_tasks(3000, seed=0)}) == 3000
