"""Definition of the `math` domain, and its task generator: arithmetic."""

from pathlib import Path
from typing import Final

from ....messages.search import Passage
from ....runtime.engines.chat.format import ChatMessage
from ....training.tasks import arithmetic
from ..base import CheckedTask, Domain, TaskGeneratorDeps, read_description
from .judge import MathJudge


class MathTaskGenerator:
    """The answer of an arithmetic task is computed; others go without a reference."""

    def __init__(self, parts: TaskGeneratorDeps) -> None:
        self._prompts = parts.prompts

    def prompt(self, difficulty: float, passage: Passage | None = None) -> list[ChatMessage]:
        """Ask for one task, made from the passage if there is one."""
        return self._prompts.for_teacher(difficulty, passage)

    def check(self, text: str, difficulty: float) -> CheckedTask | None:
        """Accept a `Task:` line; compute its reference where the task is one expression."""
        description = read_description(text)
        if description is None:
            return None
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

    def held_out(self, count: int, seed: int) -> list[CheckedTask]:
        """Expressions of the held-out split."""
        return [
            CheckedTask(task.text, task.answer, "computed", task.difficulty, True)
            for task in arithmetic.held_out_tasks(count, seed)
        ]


DOMAIN: Final = Domain(
    name="math",
    about="mathematics; answers are compared exactly, numerically, as quantities and by computer algebra",
    folder=Path(__file__).parent / "prompts",
    make_task_generator=MathTaskGenerator,
    make_judge=MathJudge,
)
