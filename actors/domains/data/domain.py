"""Definition of the `data` domain, and its task generator: work in the data plane."""

from pathlib import Path
from typing import Final

from ....messages.search import Passage
from ....runtime.engines.chat.format import ChatMessage
from ....training.tasks import data_tasks
from ....training.tasks.documents import read_library
from ..base import CheckedTask, Domain, TaskGeneratorDeps, read_description
from .judge import DataJudge

MAX_LISTED: Final = 200
"""Files of the library that a prompt names."""


class DataTaskGenerator:
    """Goal and answer of every errand are computed from the library."""

    def __init__(self, parts: TaskGeneratorDeps) -> None:
        self._prompts = parts.prompts
        self._library = read_library(parts.library)

    def prompt(self, difficulty: float, passage: Passage | None = None) -> list[ChatMessage]:
        """Ask for one task, made from the library; a passage has no part in it."""
        files = [f"{folder}/{file}" for folder, files in self._library.items() for file in files]
        return self._prompts.for_teacher(difficulty, files=files[:MAX_LISTED])

    def check(self, text: str, difficulty: float) -> CheckedTask | None:
        """Accept a `Task:` line about folders and files that there are."""
        description = read_description(text)
        errand = data_tasks.parse_data_task(description, self._library) if description else None
        if description is None or errand is None:
            return None
        return self._checked(description, errand, errand.difficulty)

    def held_out(self, count: int, seed: int) -> list[CheckedTask]:
        """Errands of the held-out split. Raises BadInput where the library is too small."""
        return [
            self._checked(task.text, task.errand, task.difficulty)
            for task in data_tasks.held_out_data_tasks(self._library, count, seed)
        ]

    def _checked(self, text: str, errand: data_tasks.DataTask, difficulty: float) -> CheckedTask:
        return CheckedTask(
            text,
            data_tasks.answer_of(errand, self._library),
            "computed",
            difficulty,
            errand.is_held_out,
            data_tasks.goal_of(errand, self._library),
        )


DOMAIN: Final = Domain(
    name="data",
    about="errands in the data plane; judged by the answer and by what the store holds in the end",
    folder=Path(__file__).parent / "prompts",
    make_task_generator=DataTaskGenerator,
    make_judge=DataJudge.of,
    needs_store=True,
)
