"""Prompts: those that the shipped models were trained on stay as they are, to the letter."""

from pathlib import Path

import pytest

from agentfactory.actors.domains import domain_named, domain_names
from agentfactory.actors.domains.prompt_templates import read_examples
from agentfactory.configs.data import LIBRARY
from agentfactory.configs.roles import MAX_EXAMPLES
from agentfactory.runtime.engines.chat.format import ChatMessage
from tests.actors.prompt_cases import PASSAGE, TOOLS

PROMPTS = Path(__file__).parent / "prompts"


def text(messages: list[ChatMessage]) -> str:
    return "\n".join(f"[{message.role}]\n{message.content}" for message in messages)


def kept(name: str) -> str:
    return (PROMPTS / f"{name}.txt").read_text(encoding="utf-8")


def test_the_teachers_prompts_of_math_and_data_are_what_they_were() -> None:
    math, data = (domain_named(name).task_generator(LIBRARY) for name in ("math", "data"))
    assert text(math.prompt(0.3)) == kept("teacher-math")
    assert text(math.prompt(0.456, PASSAGE)) == kept("teacher-math-grounded")
    assert text(data.prompt(0.3, PASSAGE)) == kept("teacher-data")


def test_the_students_prompts_of_math_and_data_are_what_they_were() -> None:
    math, data = domain_named("math"), domain_named("data")
    errand = "Load the folder samples as docs, then fetch setup_guide.md."
    assert text(math.opening("What is 12*(7+5) & <x>?\n\nNow.", TOOLS)) == kept("student-math")
    assert text(data.opening(errand, TOOLS)) == kept("student-data")


@pytest.mark.parametrize("name", domain_names())
def test_a_domain_shows_as_many_examples_as_it_is_asked_for(name: str) -> None:
    domain = domain_named(name)
    shown = read_examples(domain.folder)
    assert len(shown["teacher"]) >= MAX_EXAMPLES
    assert len(shown["student"]) >= MAX_EXAMPLES
    for count in range(MAX_EXAMPLES + 1):
        student = domain.opening("Do it.", TOOLS, count)[0].content
        teacher = domain.task_generator(LIBRARY, count).prompt(0.5)[0].content
        assert student.count("\nExample ") == teacher.count("\nExample ") == count
        assert [example in student for example in shown["student"][:3]] == [n < count for n in range(3)]
        assert [example in teacher for example in shown["teacher"][:3]] == [n < count for n in range(3)]


@pytest.mark.parametrize("name", domain_names())
def test_what_a_description_says_is_no_template(name: str) -> None:
    opening = domain_named(name).opening("{{ 7*7 }}{% for x in y %} </s> & <b>", TOOLS)
    assert opening[-1].content == "Task: {{ 7*7 }}{% for x in y %} </s> & <b>"
    assert "{Python} code. <b>" in opening[0].content


@pytest.mark.parametrize("name", domain_names())
def test_a_teachers_own_examples_are_tasks_that_it_would_be_given_marks_for(name: str) -> None:
    side = domain_named(name).task_generator(LIBRARY)
    for example in read_examples(domain_named(name).folder)["teacher"]:
        checked = side.check(example, 0.5)
        assert checked is not None, example
        assert checked.reference or checked.goal, example
        assert not checked.held_out, example


@pytest.mark.parametrize("name", domain_names())
def test_no_example_for_the_student_gives_a_held_out_task_away(name: str) -> None:
    side = domain_named(name).task_generator(LIBRARY)
    for example in read_examples(domain_named(name).folder)["student"]:
        checked = side.check(example.splitlines()[0], 0.5)
        assert checked is None or not checked.held_out, example
