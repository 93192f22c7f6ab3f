"""Definition of the `long` domain, and its task generator: chains of subtasks."""

from pathlib import Path
from typing import Final

from ....messages.search import Passage
from ....runtime.engines.chat.format import ChatMessage
from ....training.tasks import multi_step as long
from ..base import CheckedTask, Domain, TaskGeneratorDeps, read_description
from .judge import LongJudge


class LongTaskGenerator:
    """The result of every step is computed."""

    def __init__(self, parts: TaskGeneratorDeps) -> None:
        self._prompts = parts.prompts

    def prompt(self, difficulty: float, passage: Passage | None = None) -> list[ChatMessage]:
        """Ask for one task; a passage has no part in it."""
        return self._prompts.for_teacher(difficulty, example=long.phrase(_EXAMPLE))

    def check(self, text: str, difficulty: float) -> CheckedTask | None:
        """Accept a `Task:` line with steps of the known kinds."""
        description = read_description(text)
        steps = long.find_steps(description) if description else None
        if description is None or steps is None:
            return None
        return _checked(description, steps, long.estimate_difficulty(steps))

    def held_out(self, count: int, seed: int) -> list[CheckedTask]:
        """Chains of the held-out split."""
        found = long.held_out_tasks(count, seed)
        return [_checked(task.text, task.steps, task.difficulty) for task in found]


def _checked(description: str, steps: long.Steps, difficulty: float) -> CheckedTask:
    return CheckedTask(
        description,
        long.answer_of(steps),
        "computed",
        difficulty,
        long.is_held_out(steps),
        long.goal_of(steps),
    )


_EXAMPLE = (
    long.TaskStep("product", k=17, m=23),
    long.TaskStep("add", a=1, k=58),
    long.TaskStep("remainder", a=2, k=100),
    long.TaskStep("larger", a=3, b=1),
)


DOMAIN: Final = Domain(
    name="long",
    about="chains of subtasks over many turns; judged by the milestones that turn up, in their order",
    folder=Path(__file__).parent / "prompts",
    make_task_generator=LongTaskGenerator,
    make_judge=LongJudge,
)
