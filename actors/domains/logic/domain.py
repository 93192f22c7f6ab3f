"""Definition of the `logic` domain, and its task generator: propositional logic."""

from pathlib import Path
from typing import Final

from ....messages.search import Passage
from ....messages.tasks import LogicSpec
from ....runtime.engines.chat.format import ChatMessage
from ....training.tasks import logic
from ....training.tasks import truth_tables as columns
from ..base import CheckedTask, Domain, TaskGeneratorDeps, read_description
from .judge import LogicJudge


class LogicTaskGenerator:
    """Values, true rows and columns are computed; other tasks go without a reference."""

    def __init__(self, parts: TaskGeneratorDeps) -> None:
        self._prompts = parts.prompts
        self._form = parts.logic

    def prompt(self, difficulty: float, passage: Passage | None = None) -> list[ChatMessage]:
        """Ask for one task, made from the passage if there is one."""
        return self._prompts.for_teacher(difficulty, passage)

    def check(self, text: str, difficulty: float) -> CheckedTask | None:
        """Accept a `Task:` line; compute its reference where it asks for a value, true rows or a column."""
        description = read_description(text)
        if description is None:
            return None
        if formula := columns.find_formula(description):
            level = columns.estimate_difficulty(formula)
            return _column_task(description, formula, level, columns.is_held_out(formula))
        found = logic.find_task(description)
        if found is None:
            wordy = len(description.split()) >= 4 and description[-1] in ".?!"
            return CheckedTask(description, None, "none", difficulty, False) if wordy else None
        held_out = logic.is_held_out(found.formula)
        return _checked(description, found, logic.estimate_difficulty(found), held_out)

    def held_out(self, count: int, seed: int) -> list[CheckedTask]:
        """Formulas of the held-out split."""
        if self._form == "columns":
            drawn = columns.held_out_tasks(count, seed)
            return [_column_task(task.text, task.formula, task.difficulty, True) for task in drawn]
        found = logic.held_out_tasks(count, seed)
        return [_checked(task.text, task.task, task.difficulty, True) for task in found]


def _checked(description: str, task: logic.LogicTask, difficulty: float, held_out: bool) -> CheckedTask:
    goal = None
    if not task.counts_rows:
        goal = LogicSpec(asks="value", formula=task.formula, assignment=task.assignment)
    return CheckedTask(description, logic.answer_of(task), "computed", difficulty, held_out, goal)


def _column_task(description: str, formula: str, difficulty: float, held_out: bool) -> CheckedTask:
    return CheckedTask(description, str(columns.evaluate(formula)), "computed", difficulty, held_out)


DOMAIN: Final = Domain(
    name="logic",
    about="propositional logic; values, tables, entailment and derivations are judged by a solver",
    folder=Path(__file__).parent / "prompts",
    make_task_generator=LogicTaskGenerator,
    make_judge=LogicJudge,
)
