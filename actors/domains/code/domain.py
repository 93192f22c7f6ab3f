"""Definition of the `code` domain, and its task generator: programming."""

import ast
import re
from pathlib import Path
from typing import Final

from ....messages.search import Passage
from ....messages.tasks import CodeSpec, CodeTestCase
from ....runtime.engines.chat.format import ChatMessage
from ....training.tasks import code
from ..base import CheckedTask, Domain, TaskGeneratorDeps, read_description
from .judge import CodeJudge

MIN_TESTS: Final = 3
"""Tests of its own that a task in free words must come with."""
_TEST: Final = re.compile(r"^[ \t>*`-]*assert[ \t]+(.+?)`?[ \t]*$", re.MULTILINE)


class CodeTaskGenerator:
    """Tests of a known kind of task are computed; a task in free words brings its own."""

    def __init__(self, parts: TaskGeneratorDeps) -> None:
        self._prompts = parts.prompts

    def prompt(self, difficulty: float, passage: Passage | None = None) -> list[ChatMessage]:
        """Ask for one task, made from the passage if there is one."""
        return self._prompts.for_teacher(difficulty, passage, tests=MIN_TESTS)

    def check(self, text: str, difficulty: float) -> CheckedTask | None:
        """Accept a `Task:` line of the known kind, or any with enough readable tests under it."""
        description = read_description(text)
        if description is None:
            return None
        found = code.find_task(description)
        if found is not None:
            return _checked(description, found, found.difficulty)
        goal = _own_tests(description)
        words = _TEST.sub("", description).strip().rstrip("`").strip()
        if goal is None or len(words.split()) < 4 or goal.function not in words:
            return None
        return CheckedTask(words, None, "given", difficulty, False, goal)

    def held_out(self, count: int, seed: int) -> list[CheckedTask]:
        """Pipelines of the held-out split."""
        found = code.held_out_tasks(count, seed)
        return [_checked(task.text, task.task, task.difficulty) for task in found]


def read_assert(text: str) -> CodeTestCase | None:
    """`f(1, 2) == 3` as a hidden test; None for anything but a call compared with a literal.

    What is compared must be plain: whatever else an assert would compute, it would compute it in the
    process of the code that it tests.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        match tree:
            case ast.Compare(left=ast.Call() as call, ops=[ast.Eq() | ast.Is()], comparators=[expected]):
                return CodeTestCase(call=ast.unparse(call), expected=repr(ast.literal_eval(expected)))
            case ast.Call():
                return CodeTestCase(call=ast.unparse(tree), expected="True")
            case ast.UnaryOp(op=ast.Not(), operand=ast.Call() as call):
                return CodeTestCase(call=ast.unparse(call), expected="False")
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    return None


def _own_tests(description: str) -> CodeSpec | None:
    """Tests of one function that not any constant passes."""
    checks = [check for line in _TEST.findall(description) if (check := read_assert(line)) is not None]
    functions = {check.call.partition("(")[0] for check in checks}
    values = {check.expected for check in checks}
    if len(checks) < MIN_TESTS or len(functions) != 1 or len(values) < 2:
        return None
    (function,) = functions
    return CodeSpec(function=function, checks=tuple(checks)) if function.isidentifier() else None


def _checked(description: str, task: code.CodeTask, difficulty: float) -> CheckedTask:
    return CheckedTask(
        description,
        code.solution(task),
        "computed",
        difficulty,
        code.is_held_out(task),
        code.goal_of(task),
    )


DOMAIN: Final = Domain(
    name="code",
    about="Python functions and programs; judged by hidden tests in the sandbox, and by how they are written",
    folder=Path(__file__).parent / "prompts",
    make_task_generator=CodeTaskGenerator,
    make_judge=CodeJudge,
)
