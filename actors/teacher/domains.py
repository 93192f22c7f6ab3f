"""What each domain asks of a task: how to ask for one, and how to check one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from configs.errors import BadInput
from messages.search import Passage
from messages.tasks import ReferenceKind, StoreGoal
from runtime.engines.chat import ChatMessage
from training.tasks import arithmetic, errands
from training.tasks.library import read_library

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


DATA_GUIDE = """\
You write tasks for a student who works with a store of files. Write one task of the asked difficulty
(0 is trivial, 1 is very hard), unlike those that you wrote before, in one of these forms:
Load the folder FOLDER as TAG, then count its files.
Load the file FOLDER/FILE as TAG, then fetch it.
Load the folder FOLDER as TAG, then fetch FILE.
Load the folder FOLDER as TAG and the folder FOLDER as TAG, then fetch FILE of TAG.
A TAG is any short word. These are the folders and their files:
{listing}
Reply with one line:
Task: the task"""
MAX_LISTED = 200


class CheckedTask(NamedTuple):
    """A task that is well formed."""

    description: str
    reference: str | None
    reference_kind: ReferenceKind
    difficulty: float
    held_out: bool
    goal: StoreGoal | None = None


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


class Data:
    """Errands in the data plane. Goal and answer of every task are computed from the library."""

    def __init__(self, library: Path) -> None:
        self._library = read_library(library)

    def prompt(self, difficulty: float, passage: Passage | None = None) -> list[ChatMessage]:
        """Ask for one task, made from the library; a passage has no part in it."""
        files = [f"{folder}/{file}" for folder, files in self._library.items() for file in files]
        return [
            ChatMessage("system", DATA_GUIDE.format(listing="\n".join(files[:MAX_LISTED]))),
            ChatMessage("user", f"Propose a data task of difficulty {difficulty:.2f}."),
        ]

    def check(self, text: str, difficulty: float) -> CheckedTask | None:
        """Accept a `Task:` line about folders and files that there are."""
        found = TASK_LINE.match(text)
        errand = errands.read_errand(found[1], self._library) if found else None
        if found is None or errand is None:
            return None
        return CheckedTask(
            found[1],
            errands.answer_of(errand, self._library),
            "computed",
            errand.difficulty,
            errand.is_held_out,
            errands.goal_of(errand, self._library),
        )


DOMAINS: dict[str, Callable[[Path], Domain]] = {"math": lambda library: Math(), "data": Data}
"""How each domain is made, from the folder of the library."""


def domain_named(name: str, library: Path) -> Domain:
    """The domain of this name. Raises BadInput for an unknown one, and for a library that has nothing."""
    try:
        make = DOMAINS[name]
    except KeyError:
        raise BadInput(f"unknown domain {name!r}; known: {', '.join(sorted(DOMAINS))}") from None
    return make(library)
