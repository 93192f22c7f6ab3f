"""Programming tasks and tasks of many steps: what is written is read back; what is held out stays apart."""

import ast
import random
import statistics
from types import ModuleType

import pytest

from agentfactory.training.tasks import code
from agentfactory.training.tasks import multi_step as long


def drawn(count: int, difficulty: float | None = None) -> list[code.CodeTask]:
    rng = random.Random(7)
    return [code.sample_task(rng, rng.random() if difficulty is None else difficulty) for _ in range(count)]


def chains(count: int, difficulty: float | None = None) -> list[long.Steps]:
    rng = random.Random(7)
    return [long.sample_steps(rng, rng.random() if difficulty is None else difficulty) for _ in range(count)]


def test_a_task_is_read_back_as_it_was_written() -> None:
    for task in drawn(300):
        assert code.find_task(code.phrase(task)) == task
    for steps in chains(300):
        assert long.find_steps(long.phrase(steps)) == steps


def test_the_known_solution_does_what_the_task_says() -> None:
    for task in drawn(100):
        scope: dict[str, object] = {}
        exec(code.solution(task), scope)
        function = scope["f"]
        assert callable(function)
        for check in code.goal_of(task).checks:
            (argument,) = ast.parse(check.call, mode="eval").body.args  # type: ignore[attr-defined]
            assert function(ast.literal_eval(argument)) == ast.literal_eval(check.expected)


def test_a_task_has_the_same_hidden_tests_every_time_and_no_constant_passes_more_than_half() -> None:
    for task in drawn(100):
        goal = code.goal_of(task)
        assert goal == code.goal_of(task)
        assert goal.checks[0].call == "f([])"
        values = [check.expected for check in goal.checks]
        assert max(map(values.count, values)) <= len(values) / 2


def test_every_step_of_a_chain_has_a_result_of_its_own() -> None:
    for steps in chains(200):
        values = long.results(steps)
        assert len(set(values)) == len(values) == len(steps)
        assert [m.value for m in long.goal_of(steps).milestones] == long.answer_of(steps).split(", ")


def test_results_are_those_of_the_words() -> None:
    twice = (
        "Work these steps out one after the other, each with a tool call of its own. Step 1: 17*23. "
        "Step 2: the remainder of the result of step 1 by 7. Step 3: the larger of the results of step 1 and "
        "step 2. Answer with the results of all steps in order, separated by commas."
    )
    assert long.find_steps(twice) is None, "steps 1 and 3 have the same result"
    steps = (
        long.TaskStep("product", k=17, m=23),
        long.TaskStep("subtract", a=1, k=400),
        long.TaskStep("digits", a=2),
    )
    assert long.results((*steps, long.TaskStep("both", a=3, b=1))) == [391, -9, 9, 400]


@pytest.mark.parametrize("tasks", [code, long])
def test_difficulty_moves_the_number_of_steps(tasks: ModuleType) -> None:
    sizes = [
        statistics.mean(len(task.steps) for task in drawn(60, d))
        if tasks is code
        else statistics.mean(len(steps) for steps in chains(60, d))
        for d in (0.0, 0.5, 1.0)
    ]
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[0] == (1 if tasks is code else 2)
    with pytest.raises(ValueError, match=r"difficulty must lie in \[0, 1\]"):
        (code.sample_task if tasks is code else long.sample_steps)(random.Random(0), 1.5)


def test_about_one_in_eight_is_held_out_and_the_evaluation_set_is_made_of_those() -> None:
    assert 0.05 < statistics.mean(map(code.is_held_out, drawn(600))) < 0.25
    assert 0.05 < statistics.mean(map(long.is_held_out, chains(600))) < 0.25
    held_out_code, held_out_long = code.held_out_tasks(60, seed=1), long.held_out_tasks(60, seed=1)
    assert held_out_code == code.held_out_tasks(60, seed=1)
    assert held_out_long == long.held_out_tasks(60, seed=1)
    assert len({task.text for task in held_out_code}) == len({task.text for task in held_out_long}) == 60
    assert all(code.is_held_out(task.task) for task in held_out_code)
    assert all(long.is_held_out(task.steps) for task in held_out_long)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Write a Python function f(xs) that takes a list of integers, and returns their sum.",
        "Write a Python function f(xs) that takes a list of integers, eats them, and returns their sum.",
        "Write a Python function f(xs) that takes a list of integers, takes the remainder of each by 0, and "
        "returns their sum.",
        "Write a Python function f(xs) that takes a list of integers, squares each of them, and returns a.",
        # Half of all lists would have the same result:
        "Write a Python function f(xs) that takes a list of integers, keeps those less than 0, keeps those "
        "greater than 0, and returns their sum.",
    ],
)
def test_what_cannot_be_tested_is_no_programming_task(text: str) -> None:
    assert code.find_task(text) is None


@pytest.mark.parametrize(
    "middle",
    [
        "Step 1: 17*23.",
        "Step 1: 17*23. Step 3: add 5 to the result of step 1.",
        "Step 1: 17*23. Step 2: add 5 to the result of step 2.",
        "Step 1: 17*23. Step 2: add 5 to the result of step 9.",
        "Step 1: 17*23. Step 2: the remainder of the result of step 1 by 0.",
        "Step 1: 17*23. Step 2: sing.",
        "Step 1: 17*23. Step 2: add 0 to the result of step 1.",
        "Step 1: add 5 to the result of step 0. Step 2: 3*4.",
    ],
)
def test_a_chain_that_does_not_hold_together_is_no_task(middle: str) -> None:
    opening = "Work these steps out one after the other, each with a tool call of its own. "
    closing = " Answer with the results of all steps in order, separated by commas."
    assert long.find_steps(f"{opening}{middle}{closing}") is None
