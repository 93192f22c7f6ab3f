"""Judging answers in mathematics.

Consumes a task with a reference, and an answer; produces a verdict, or raises `GraderTimeout` or
`GraderDied`. What exact arithmetic settles is settled here; the rest goes to grader processes that
hold sympy and math-verify. Where the settings give credit for steps, a wrong answer's reasoning is
read as well.
"""

import json
from typing import Final

from pydantic import JsonValue, TypeAdapter

from ....messages.episodes import Solution
from ....messages.judging import Credit, Verdict
from ....messages.tasks import Task
from ..base import JudgeParts
from ..graders import GraderPool, read_line
from ..grading import UNREAD, Grade, GraderDied, GraderFailure, NoReference, shorten, wrong
from .quick import grade_quickly
from .steps import Step, read_steps

_MODULE: Final = "agentfactory.actors.domains.math.grader"
_MAX_CHARACTERS: Final = 20_000
_SHORT_CHARACTERS: Final = 1_000
"""A longer answer is read by graders alone, since 20,000 characters take up to 0.1 s."""
_ATTEMPTS: Final = 2
"""Before a candidate's text is to blame for what happens to its grader."""
_GRADE: Final = TypeAdapter(Grade)
_STEPS: Final = TypeAdapter(list[bool])


class MathJudge:
    """Compares an answer with the task's reference."""

    def __init__(self, parts: JudgeParts) -> None:
        self._rel_tolerance = parts.settings.rel_tolerance
        self._step_credit = parts.settings.step_credit
        self._graders = GraderPool(_MODULE, parts.settings, parts.allow_weak)

    def __repr__(self) -> str:
        return f"<MathJudge {self._graders!r}>"

    async def start(self) -> None:
        """Start the graders (seconds). Raises SandboxError if they cannot be confined here."""
        await self._graders.start()

    async def judge(self, task: Task, solution: Solution, answer: str) -> Verdict:
        """Is the answer right? Raises NoReference, GraderTimeout, GraderDied."""
        if task.reference is None:
            raise NoReference(f"task {task.id} has no reference answer to compare with")
        grade = await self.grade(task.reference, answer)
        score, credits = grade.score, [Credit(name=grade.method, score=grade.score)]
        if self._step_credit and not grade.correct:
            share, steps = await self._judge_steps(task, solution)
            score = self._step_credit * share
            credits += steps
        return Verdict(
            episode_id=solution.episode_id,
            correct=grade.correct,
            score=score,
            confidence=grade.confidence,
            explanation=grade.explanation,
            breakdown=tuple(credits),
        )

    async def grade(self, reference: str, answer: str) -> Grade:
        """Is the answer right? Raises GraderTimeout or GraderDied where that was not found out."""
        if len(answer) > _MAX_CHARACTERS:
            return wrong(f"longer than {_MAX_CHARACTERS} characters", "exact")
        short = len(answer) <= _SHORT_CHARACTERS
        grade = grade_quickly(reference, answer, self._rel_tolerance) if short else None
        if grade is not None:
            return grade
        what = f"{shorten(answer)!r} against {shorten(reference)!r}"
        line = await self._work(["grade", reference, answer, self._rel_tolerance], what, reference)
        if line is None:
            return wrong("working the answer out takes too much time or memory", "symbolic", UNREAD)
        return read_line(_GRADE, line, what)

    async def aclose(self) -> None:
        """Stop the graders."""
        await self._graders.aclose()

    async def _judge_steps(self, task: Task, solution: Solution) -> tuple[float, list[Credit]]:
        """The share of steps up to the first that does not follow, and a line for each step."""
        steps = read_steps(task.description, solution.reasoning)
        if not steps:
            return 0.0, []
        holds = await self._steps_hold(steps, task.id)
        credits = [Credit(name=f"step {n}", score=float(held)) for n, held in enumerate(holds, 1)]
        until = holds.index(False) if False in holds else len(holds)
        return until / len(holds), credits

    async def _steps_hold(self, steps: list[Step], task_id: str) -> list[bool]:
        """Whether each follows. Raises GraderTimeout, GraderDied."""
        what = f"the steps of task {task_id}"
        line = await self._work(["steps", [list(step) for step in steps]], what, "1")
        if line is None:
            return [False] * len(steps)
        holds = read_line(_STEPS, line, what)
        if len(holds) != len(steps):
            raise GraderDied(f"the grader said {shorten(line)!r} on {what}, of which there are {len(steps)}")
        return holds

    async def _work(self, job: list[JsonValue], what: str, reference: str) -> str | None:
        """The grader's line; None where the candidate's text ended it twice, and the reference does not.

        Raises GraderTimeout or GraderDied where the reference, or the pool itself, is what fails.
        """
        failure: GraderFailure | None = None
        for _ in range(_ATTEMPTS):
            try:
                return await self._graders.work(json.dumps(job), what)
            except GraderFailure as error:
                failure = error
        try:
            await self._graders.work(
                json.dumps(["check", reference]), f"the reference {shorten(reference)!r}"
            )
        except GraderFailure:
            assert failure is not None
            raise failure from None
        return None
