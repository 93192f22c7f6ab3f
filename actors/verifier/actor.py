"""The Verifier.

Consumes JudgeSolution and JudgeGroup; produces Verdict and GroupVerdict; waits for its grader
processes; unblocked by their deadline.

Invariant: every solution is answered by exactly one verdict or one grader error: a failure is
never a score.
"""

from typing import Protocol

from actors.verifier.grading import Grade, majority
from actors.verifier.math import GraderPool
from configs.errors import AgentFactoryError
from configs.roles import VerifierSettings
from messages.episodes import Solution
from messages.judging import Credit, GroupVerdict, JudgeGroup, JudgeSolution, Verdict
from messages.tasks import Task
from runtime.actor import Actor
from runtime.groups import task_group


class NoReference(AgentFactoryError):
    """The task has no answer to compare with."""


class UnknownDomain(AgentFactoryError):
    """There is no grader for the task's domain."""


class Grader(Protocol):
    """Judges the answers of one domain."""

    async def start(self) -> None:
        """Make ready."""

    async def grade(self, reference: str, answer: str) -> Grade:
        """Compare an answer with the reference. Raises AgentFactoryError where that fails."""

    async def aclose(self) -> None:
        """Let go of everything."""


class Verifier(Actor):
    """Judges solutions."""

    concurrency = 1024

    def __init__(self, settings: VerifierSettings, allow_weak: bool = False) -> None:
        self._graders: dict[str, Grader] = {"math": GraderPool(settings, allow_weak)}

    async def start(self) -> None:
        """Start the graders."""
        for grader in self._graders.values():
            await grader.start()

    async def aclose(self) -> None:
        """Stop the graders."""
        for grader in self._graders.values():
            await grader.aclose()

    async def judge(self, message: JudgeSolution) -> Verdict:
        """Judge one solution against the task's reference."""
        return await self._verdict(message.task, message.solution)

    async def judge_group(self, message: JudgeGroup) -> GroupVerdict:
        """Judge siblings together; where the task has no reference, their majority's answer is it."""
        task = message.task
        answer, share = majority([solution.answer for solution in message.solutions])
        if task.reference is None and answer is not None:
            task = task.model_copy(update={"reference": answer, "reference_kind": "majority"})
        verdicts: dict[str, Verdict] = {}
        failed: list[tuple[str, str]] = []

        async def one(solution: Solution) -> None:
            try:
                verdicts[solution.episode_id] = await self._verdict(task, solution)
            except AgentFactoryError as error:
                failed.append((solution.episode_id, str(error)))

        async with task_group() as group:
            for solution in message.solutions:
                group.start_soon(one, solution)
        in_order = [verdicts[s.episode_id] for s in message.solutions if s.episode_id in verdicts]
        return GroupVerdict(task=task, majority_share=share, verdicts=tuple(in_order), failed=tuple(failed))

    async def _verdict(self, task: Task, solution: Solution) -> Verdict:
        if solution.answer is None:
            return Verdict(
                episode_id=solution.episode_id,
                correct=False,
                score=0.0,
                explanation=f"no answer ({solution.stop_reason})",
            )
        grader = self._graders.get(task.domain)
        if grader is None:
            raise UnknownDomain(f"no grader for domain {task.domain!r}; known: {', '.join(self._graders)}")
        if task.reference is None:
            raise NoReference(f"task {task.id} has no reference answer to compare with")
        grade = await grader.grade(task.reference, solution.answer)
        return Verdict(
            episode_id=solution.episode_id,
            correct=grade.correct,
            score=grade.score,
            explanation=grade.explanation,
            breakdown=(Credit(name=grade.method, score=grade.score),),
        )
