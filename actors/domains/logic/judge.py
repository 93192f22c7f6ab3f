"""Judging answers in logic.

Consumes a task with a goal, or with a reference that is a truth value, a number or a formula; produces a
verdict, or raises `GraderTimeout` or `GraderDied`. z3 works in grader processes; what equal text settles
is settled here.
"""

import json
from typing import Final, NamedTuple

from pydantic import TypeAdapter

from ....messages.episodes import ScoreComponent, Solution, Verdict
from ....messages.tasks import LogicSpec, Task
from ..base import JudgeDeps
from ..grader_pool import GraderPool, parse_grader_line
from ..grading import NoReference, Share, grade_exact, shorten
from .answer_parser import read_value
from .formulas import UnreadableFormula, read_formula

_MODULE: Final = "agentfactory.actors.domains.logic.grader"
_MAX_CHARACTERS: Final = 20_000


class _Finding(NamedTuple):
    """A grader's line."""

    correct: bool
    score: Share
    explanation: str
    credits: tuple[tuple[str, float], ...]


_FINDING: Final = TypeAdapter(_Finding)


class LogicJudge:
    """Holds an answer against what follows from the task's formulas."""

    def __init__(self, parts: JudgeDeps) -> None:
        self._graders = GraderPool(_MODULE, parts.settings, parts.allow_weak)

    def __repr__(self) -> str:
        return f"<LogicJudge {self._graders!r}>"

    async def start(self) -> None:
        """Start the graders. Raises SandboxError if they cannot be confined here."""
        await self._graders.start()

    async def judge(self, task: Task, solution: Solution, answer: str) -> Verdict:
        """Is the answer right? Raises NoReference, GraderTimeout, GraderDied."""
        if isinstance(task.goal, LogicSpec):
            return await self._judge(task.goal, solution, answer)
        if task.reference is None:
            raise NoReference(f"task {task.id} has neither a goal nor a reference answer")
        expected = read_value(task.reference)
        if expected is not None and task.reference not in ("0", "1"):
            right = read_value(answer) is expected
            return _verdict(solution, right, f"expected {task.reference}, got {shorten(answer)}")
        if _is_formula(task.reference):
            return await self._judge(LogicSpec(asks="equivalent", formula=task.reference), solution, answer)
        grade = grade_exact(task.reference, answer, 0.0)
        right = grade is not None and grade.correct
        return _verdict(solution, right, f"expected {task.reference}, got {shorten(answer)}")

    async def aclose(self) -> None:
        """Stop the graders."""
        await self._graders.aclose()

    async def _judge(self, goal: LogicSpec, solution: Solution, answer: str) -> Verdict:
        what = f"{shorten(answer)!r} against {goal.asks} {shorten(goal.formula)!r}"
        job = json.dumps([goal.model_dump(mode="json"), answer[:_MAX_CHARACTERS]])
        found = parse_grader_line(_FINDING, await self._graders.work(job, what), what)
        return Verdict(
            episode_id=solution.episode_id,
            correct=found.correct,
            score=found.score,
            explanation=found.explanation,
            breakdown=tuple(ScoreComponent(name=name, score=part) for name, part in found.credits),
        )


def _is_formula(text: str) -> bool:
    """True if it is one, and no number of rows."""
    if text.strip() in ("0", "1"):
        return False
    try:
        read_formula(text)
    except UnreadableFormula:
        return False
    return True


def _verdict(solution: Solution, right: bool, explanation: str) -> Verdict:
    return Verdict(
        episode_id=solution.episode_id,
        correct=right,
        score=float(right),
        explanation="as expected" if right else explanation,
        breakdown=(ScoreComponent(name="answer", score=float(right)),),
    )
