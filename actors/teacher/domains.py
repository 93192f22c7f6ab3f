"""What each domain asks of a task: how to ask for one, and how to check one."""

import re
from typing import NamedTuple, Protocol

from configs.errors import BadInput
from messages.search import Passage
from messages.tasks import ReferenceKind
from runtime.engines.chat import ChatMessage
from training.tasks import arithmetic

TASK_LINE = re.compile(r"\s*(?:\*\*)?Task:(?:\*\*)?\s*(\S.*?)\s*\Z", re.IGNORECASE | re.DOTALL)
MAX_DESCRIPTION = 4000

GUIDE = """\
You write tasks for a student who has tools. Write one {domain} task of the asked difficulty
(0 is trivial, 1 is very hard). It must have a single answer that can be checked, and be unlike
tasks that you wrote before. Reply with one line:
Task: the task"""


GROUNDING = """

Make the task from this passage of {blob}. The student cannot see the passage: say in the task all that
is needed to solve it.
<passage>
{text}
</passage>"""


class CheckedTask(NamedTuple):
    """A task that is well formed."""

    description: str
    reference: str | None
    reference_kind: ReferenceKind
    difficulty: float
    held_out: bool


class Domain(Protocol):
    """One domain of tasks."""

    def prompt(self, difficulty: float, passage: Passage | None = None) -> list[ChatMessage]:
        """Ask for one task, made from the passage if there is one."""

    def check(self, text: str, difficulty: float) -> CheckedTask | None:
        """Read the task out of the model's reply; None where it is not well formed."""


class Math:
    """Mathematics. The answer of an arithmetic task is computed; others go without a reference."""

    def prompt(self, difficulty: float, passage: Passage | None = None) -> list[ChatMessage]:
        """Ask for one task, made from the passage if there is one."""
        return [
            ChatMessage("system", GUIDE.format(domain="math")),
            ChatMessage("user", f"Propose a math task of difficulty {difficulty:.2f}.{_grounding(passage)}"),
        ]

    def check(self, text: str, difficulty: float) -> CheckedTask | None:
        """Accept a `Task:` line; compute its reference where the task is one expression."""
        found = TASK_LINE.match(text)
        if found is None or len(found[1]) > MAX_DESCRIPTION:
            return None
        description = found[1]
        expression = arithmetic.find_expression(description)
        if expression is None:
            wordy = len(description.split()) >= 4 and description[-1] in ".?!"
            return CheckedTask(description, None, "none", difficulty, False) if wordy else None
        try:
            answer = str(arithmetic.evaluate(expression))
        except ValueError:
            return None  # such as a division by zero
        return CheckedTask(
            description,
            answer,
            "computed",
            arithmetic.estimate_difficulty(expression),
            arithmetic.is_held_out(expression),
        )


def _grounding(passage: Passage | None) -> str:
    """The passage as a prompt holds it; what looks like a chat template's markup is broken up."""
    if passage is None:
        return ""
    return GROUNDING.format(blob=passage.blob, text=passage.text.replace("<|", "< |"))


DOMAINS: dict[str, Domain] = {"math": Math()}


def domain_named(name: str) -> Domain:
    """The domain of this name. Raises BadInput for an unknown one."""
    try:
        return DOMAINS[name]
    except KeyError:
        raise BadInput(f"unknown domain {name!r}; known: {', '.join(sorted(DOMAINS))}") from None
