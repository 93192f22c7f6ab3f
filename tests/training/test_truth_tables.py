import random

import pytest

from agentfactory.training.tasks import arithmetic, logic
from agentfactory.training.tasks.truth_tables import (
    HELD_OUT_ONE_IN,
    HELD_OUT_SPREAD,
    estimate_difficulty,
    evaluate,
    find_formula,
    held_out_tasks,
    is_held_out,
    phrase,
    sample_formula,
)

LEVELS = (0.0, 0.3, 0.6, 1.0)


def draw(difficulty: float, count: int) -> list[str]:
    rng = random.Random(7)
    return [sample_formula(rng, difficulty) for _ in range(count)]


@pytest.mark.parametrize("difficulty", LEVELS)
def test_python_agrees_with_every_column(difficulty: float) -> None:
    for formula in draw(difficulty, 200):
        assert evaluate(formula) == eval(formula)  # noqa: S307 - our own numbers and signs


def test_a_column_is_the_formula_with_letters_valued_row_by_row() -> None:
    p, q, r = 0b11110000, 0b11001100, 0b10101010
    column = evaluate(f"({p}&{q})|{r}")
    for row in range(8):
        values = {name: bool(bits >> row & 1) for name, bits in (("p", p), ("q", q), ("r", r))}
        assert logic.evaluate("(p&q)|r", values) == bool(column >> row & 1)


@pytest.mark.parametrize("difficulty", LEVELS)
def test_every_task_text_gives_its_formula_back_and_is_neither_a_sum_nor_in_letters(
    difficulty: float,
) -> None:
    rng = random.Random(3)
    for formula in draw(difficulty, 300):
        text = phrase(rng, formula)
        assert find_formula(text) == formula, text
        assert arithmetic.find_expression(text) is None
        assert logic.find_task(text) is None


@pytest.mark.parametrize("difficulty", LEVELS)
def test_the_estimate_meets_the_difficulty_asked_for_on_average(difficulty: float) -> None:
    estimates = [estimate_difficulty(formula) for formula in draw(difficulty, 2000)]
    assert sum(estimates) / len(estimates) == pytest.approx(difficulty, abs=0.03)


def test_no_answer_is_right_for_more_than_a_sixth_of_the_tasks() -> None:
    answers = [evaluate(formula) for level in LEVELS for formula in draw(level, 500)]
    assert max(map(answers.count, set(answers))) <= len(answers) / 6


@pytest.mark.parametrize(
    "text",
    [
        "What is 12+5?",
        "What is 12?",
        "What is (12)?",
        "Is 1 in 3&5?",
        "What is 12&&3?",
        "What is 12&(3|4?",
        "What is 3&5 and 5|6?",
        "What is 3&5+6?",
        "What is 12&70000?",
        "Let p=1, q=0. What is p&q?",
        "",
    ],
)
def test_a_text_without_exactly_one_whole_formula_has_none(text: str) -> None:
    assert find_formula(text) is None


@pytest.mark.parametrize("formula", ["", "12&", "(12&3", "12+3", "p&3", "12 3", "3(5)", "1&" * 200 + "1"])
def test_what_is_no_formula_is_refused(formula: str) -> None:
    with pytest.raises(ValueError, match=r"formula|column"):
        evaluate(formula)
    with pytest.raises(ValueError, match=r"formula|column"):
        is_held_out(formula)


@pytest.mark.parametrize("difficulty", [-0.1, 1.1])
def test_a_difficulty_outside_the_unit_interval_is_refused(difficulty: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        sample_formula(random.Random(0), difficulty)


def test_spaces_and_brackets_do_not_move_a_formula_across_the_split() -> None:
    for formula in draw(0.8, 100):
        assert is_held_out(f"( {formula.replace('&', ' & ')} )") == is_held_out(formula)


def test_about_one_formula_in_eight_is_held_out() -> None:
    formulas = set(draw(1.0, 6000))
    share = sum(map(is_held_out, formulas)) / len(formulas)
    assert share == pytest.approx(1 / HELD_OUT_ONE_IN, abs=0.02)


def test_the_evaluation_set_is_held_out_distinct_and_the_same_each_time() -> None:
    tasks = held_out_tasks(120, seed=1)
    assert tasks == held_out_tasks(120, seed=1)
    assert len({task.formula for task in tasks}) == 120
    assert all(is_held_out(task.formula) for task in tasks)
    assert all(find_formula(task.text) == task.formula for task in tasks)
    assert all(str(evaluate(task.formula)) == task.answer for task in tasks)
    assert min(task.difficulty for task in tasks) >= HELD_OUT_SPREAD[0]
