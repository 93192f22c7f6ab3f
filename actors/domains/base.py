"""Interface of a domain: its prompts, its task generator, and its judge."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from ...configs.errors import AgentFactoryError
from ...configs.roles import LogicForm, VerifierSettings
from ...messages.episodes import Solution, Verdict
from ...messages.search import Passage
from ...messages.tasks import Goal, ReferenceKind, Task
from ...runtime.engines.chat.format import ChatMessage
from ...runtime.ref import Ref
from ...runtime.tools.base import ToolSpec
from .prompt_templates import Prompts

TASK_LINE: Final = re.compile(r"\s*(?:\*\*)?Task:(?:\*\*)?\s*(\S.*?)\s*\Z", re.IGNORECASE | re.DOTALL)
MAX_DESCRIPTION: Final = 4000


class CannotJudge(AgentFactoryError):
    """This domain's judge needs something that is not there."""


class CheckedTask(NamedTuple):
    """A task that is well formed."""

    description: str
    reference: str | None
    reference_kind: ReferenceKind
    difficulty: float
    held_out: bool
    goal: Goal | None = None

    @property
    def can_be_judged(self) -> bool:
        """True if there is something to hold an answer against."""
        return self.reference is not None or self.goal is not None


class TaskGenerator(Protocol):
    """Generator of a domain's tasks, from the replies of the Teacher's model."""

    def prompt(self, difficulty: float, passage: Passage | None = None) -> list[ChatMessage]:
        """Ask for one task, made from the passage if there is one."""

    def check(self, text: str, difficulty: float) -> CheckedTask | None:
        """Read the task out of the model's reply; None where it is not well formed."""

    def held_out(self, count: int, seed: int) -> list[CheckedTask]:
        """The fixed evaluation set: distinct tasks, the same for every run, never trained on."""


class Judge(Protocol):
    """Judges the solutions of one domain."""

    async def start(self) -> None:
        """Make ready; without it, the first solution has to wait until the judge is."""

    async def judge(self, task: Task, solution: Solution, answer: str) -> Verdict:
        """Judge a solution that has an answer. Raises AgentFactoryError where that fails."""

    async def aclose(self) -> None:
        """Let go of everything."""


class TaskGeneratorDeps(NamedTuple):
    """Dependencies of a task generator."""

    prompts: Prompts
    library: Path
    """Folders of files that tasks may be about."""
    logic: LogicForm = "letters"
    """Form of held-out tasks in logic."""


class JudgeDeps(NamedTuple):
    """Dependencies of a judge."""

    settings: VerifierSettings
    allow_weak: bool = False
    """Go on where the kernel offers grader processes no isolation beyond resource limits."""
    retriever: Ref | None = None
    """Shows the store; None where there is no data plane."""


class Domain(NamedTuple):
    """One domain of tasks."""

    name: str
    about: str
    """One line: what its tasks are, and what judges them."""
    folder: Path
    """Of its prompts."""
    make_task_generator: Callable[[TaskGeneratorDeps], TaskGenerator]
    make_judge: Callable[[JudgeDeps], Judge]
    """Raises CannotJudge without a part that it needs."""
    needs_store: bool = False
    """Its tasks act on the data plane: the run opens one, each attempt gets a namespace of its own there, the
    Student the data plane's actions for tools, and the judge its Retriever."""

    def task_generator(self, library: Path, examples: int = 0, logic: LogicForm = "letters") -> TaskGenerator:
        """Create the task generator. Raises BadInput for a library that has nothing."""
        return self.make_task_generator(
            TaskGeneratorDeps(Prompts(self.name, self.folder, examples), library, logic)
        )

    def opening(self, description: str, tools: Sequence[ToolSpec], examples: int = 0) -> list[ChatMessage]:
        """The conversation as it stands before the Student's first turn."""
        return Prompts(self.name, self.folder, examples).for_student(description, tools)


def read_description(text: str) -> str | None:
    """Text behind `Task:` in a Teacher's reply; None where it is missing or too long."""
    found = TASK_LINE.match(text)
    return found[1] if found and len(found[1]) <= MAX_DESCRIPTION else None
