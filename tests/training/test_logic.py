import itertools
import random

import pytest

from agentfactory.training.tasks.logic import (
    HELD_OUT_ONE_IN,
    HELD_OUT_SPREAD,
    ROWS_FROM,
    LogicTask,
    answer_of,
    count_rows,
    estimate_difficulty,
    evaluate,
    find_task,
    held_out_tasks,
    is_held_out,
    letters_of,
    phrase,
    sample_task,
)

LEVELS = (0.0, 0.15, 0.29, ROWS_FROM, 0.65, 1.0)


def draw(difficulty: float, count: int) -> list[LogicTask]:
    rng = random.Random(7)
    return [sample_task(rng, difficulty) for _ in range(count)]


@pytest.mark.parametrize("difficulty", LEVELS)
def test_python_agrees_with_every_answer(difficulty: float) -> None:
    for task in draw(difficulty, 200):
        names = letters_of(task.formula)
        rows = [dict(zip(names, row, strict=True)) for row in itertools.product((0, 1), repeat=len(names))]
        cases = rows if task.counts_rows else [dict(task.assignment)]
        values = [bool(eval(task.formula, {}, case) & 1) for case in cases]  # noqa: S307 - our own letters
        assert answer_of(task) == (str(sum(values)) if task.counts_rows else str(values[0]))


def test_easy_tasks_ask_for_a_value_and_harder_ones_for_a_number_of_rows() -> None:
    assert not any(task.counts_rows for task in draw(ROWS_FROM - 0.01, 100))
    assert all(task.counts_rows for task in draw(ROWS_FROM, 100))


def test_the_hardest_formulas_stay_short_enough_to_copy() -> None:
    assert 15 <= max(len(task.formula) for task in draw(1.0, 2000)) <= 24


def test_no_answer_is_right_for_more_than_a_third_of_the_hard_tasks() -> None:
    answers = [answer_of(task) for task in draw(0.9, 1000)]
    assert max(map(answers.count, set(answers))) <= 333


@pytest.mark.parametrize("difficulty", [-0.1, 1.1])
def test_a_difficulty_outside_the_unit_interval_is_refused(difficulty: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        sample_task(random.Random(0), difficulty)


@pytest.mark.parametrize("difficulty", LEVELS)
def test_the_estimate_meets_the_difficulty_asked_for_on_average(difficulty: float) -> None:
    estimates = [estimate_difficulty(task) for task in draw(difficulty, 2000)]
    assert sum(estimates) / len(estimates) == pytest.approx(difficulty, abs=0.02)


@pytest.mark.parametrize("difficulty", LEVELS)
def test_every_task_text_gives_its_task_back(difficulty: float) -> None:
    rng = random.Random(3)
    for _ in range(300):
        task = sample_task(rng, difficulty)
        text = phrase(rng, task)
        assert find_task(text) == task, text


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("p is true, q is false. What is not p or q?", LogicTask("~p|q", (("p", True), ("q", False)))),
        ("Let q = false and p = True. What is (p and q)?", LogicTask("(p&q)", (("p", True), ("q", False)))),
        ("What is (k | ~ m) & a for a = 1, k = 0, m = 0?",
         LogicTask("(k|~m)&a", (("k", False), ("m", False), ("a", True)))),
        ("The truth table of p or not (q and r): how many rows are true?", LogicTask("p|~(q&r)")),
    ],
)  # fmt: skip
def test_a_task_is_found_in_other_words_too(text: str, task: LogicTask) -> None:
    assert find_task(text) == task


@pytest.mark.parametrize(
    "text",
    [
        "What is p&q?",  # no values
        "Let p=1. What is p&q?",  # one value is missing
        "Let p=1, q=0, r=1. What is p&q?",  # one too many
        "Let p=1, p=0. What is p|p?",  # against itself
        "Let p=1, q=1. What is p&q, and what is p|q?",  # two questions
        "Let p=1, q=0. How many rows of the truth table of p|q are true?",  # two kinds
        "Let p=1, q=0. What is p&&q?",
        "Let p=1, q=0. What is (p&q?",
        "Let p=1, q=0. What is p&q)?",
        "Let p=1, q=0. What is p&(q?",
        "Let p=1, x1=0. What is p&x1?",
        "Let p=1. What is p?",
        "How many rows are there?",
        "",
    ],
)
def test_a_text_without_exactly_one_whole_question_has_no_task(text: str) -> None:
    assert find_task(text) is None


@pytest.mark.parametrize(
    "formula",
    [
        "",
        "p q",
        "p (q)",
        "()",
        "(p or q)()",
        "p and",
        "(p or q",
        "p + q",
        "p|Q",
        "pq|r",
        "p&" * 200 + "q",
    ],
)
def test_what_is_no_formula_is_refused(formula: str) -> None:
    with pytest.raises(ValueError, match=r"formula"):
        evaluate(formula, {"p": True, "q": True})
    with pytest.raises(ValueError, match=r"formula"):
        is_held_out(formula)


def test_a_letter_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="assigned"):
        evaluate("p&q", {"p": True})


def test_rows_are_counted_over_the_letters_that_occur() -> None:
    assert count_rows("p and s") == count_rows("p&s") == 1
    assert count_rows("p|~p") == 2
    assert count_rows("(p|q)|r") == 7


def test_spaces_and_brackets_do_not_move_a_formula_across_the_split() -> None:
    for task in draw(0.8, 100):
        assert is_held_out(f"( {task.formula.replace('&', ' and ')} )") == is_held_out(task.formula)


def test_about_one_formula_in_eight_is_held_out() -> None:
    formulas = {task.formula for task in draw(1.0, 6000)}
    share = sum(map(is_held_out, formulas)) / len(formulas)
    assert share == pytest.approx(1 / HELD_OUT_ONE_IN, abs=0.02)


def test_the_evaluation_set_is_held_out_distinct_and_the_same_each_time() -> None:
    tasks = held_out_tasks(120, seed=1)
    assert tasks == held_out_tasks(120, seed=1)
    assert len({task.task for task in tasks}) == 120
    assert all(is_held_out(task.task.formula) for task in tasks)
    assert all(find_task(task.text) == task.task and answer_of(task.task) == task.answer for task in tasks)
    assert min(task.difficulty for task in tasks) >= HELD_OUT_SPREAD[0]
