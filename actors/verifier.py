"""The Verifier.

Consumes JudgeSolution and JudgeGroup; produces Verdict and GroupVerdict; waits for its grader
processes and for the Retriever; unblocked by their deadlines.

Invariant: every solution is answered by exactly one verdict or one grader error: a failure is
never a score.
"""

from collections.abc import Sequence

import structlog

from ..configs.errors import AgentFactoryError
from ..configs.roles import VerifierSettings
from ..messages.episodes import GroupVerdict, JudgeGroup, JudgeSolution, Solution, Verdict
from ..messages.tasks import Task
from ..runtime.actor import Actor
from ..runtime.ref import Ref
from ..runtime.tasks import task_group
from .domains import domain_named
from .domains.base import Judge, JudgeDeps
from .domains.grading import majority

log = structlog.get_logger("verifier")


class Verifier(Actor):
    """Judges solutions."""

    concurrency = 1024

    def __init__(
        self,
        settings: VerifierSettings,
        allow_weak: bool = False,
        retriever: Ref | None = None,
        domains: Sequence[str] = ("math",),
    ) -> None:
        """`retriever` shows the store, for tasks of the `data` domain.

        The judges of `domains` are made ready at the start; others are when they are first needed.
        """
        self._parts = JudgeDeps(settings, allow_weak, retriever)
        self._domains = domains
        self._judges: dict[str, Judge] = {}

    async def start(self) -> None:
        """Start the judges that will be needed. Raises BadInput, CannotJudge, SandboxError."""
        for domain in self._domains:
            await self._judge_of(domain).start()

    async def aclose(self) -> None:
        """Stop the judges."""
        for judge in self._judges.values():
            await judge.aclose()

    async def judge(self, message: JudgeSolution) -> Verdict:
        """Judge one solution against the task's reference."""
        return await self._verdict(message.task, message.solution)

    async def judge_group(self, message: JudgeGroup) -> GroupVerdict:
        """Judge siblings together; where the task has no reference, their majority's answer is it."""
        task = message.task
        answer, share = majority([solution.answer for solution in message.solutions])
        if task.reference is None and task.goal is None and answer is not None:
            task = task.model_copy(update={"reference": answer, "reference_kind": "majority"})
        verdicts: dict[str, Verdict] = {}
        failed: list[tuple[str, str]] = []

        async def one(solution: Solution) -> None:
            try:
                verdict = await self._verdict(task, solution)
                if task.reference_kind == "majority":  # no judge can be surer than the vote was
                    verdict = verdict.model_copy(update={"confidence": min(verdict.confidence, share)})
                verdicts[solution.episode_id] = verdict
            except AgentFactoryError as error:
                failed.append((solution.episode_id, str(error)))

        async with task_group() as group:
            for solution in message.solutions:
                group.start_soon(one, solution)
        in_order = [verdicts[s.episode_id] for s in message.solutions if s.episode_id in verdicts]
        right = sum(verdict.correct for verdict in in_order)
        log.info(
            "group judged",
            task=task.id,
            domain=task.domain,
            right=right,
            of=len(in_order),
            failed=len(failed),
        )
        return GroupVerdict(task=task, majority_share=share, verdicts=tuple(in_order), failed=tuple(failed))

    async def _verdict(self, task: Task, solution: Solution) -> Verdict:
        if solution.answer is None:
            return Verdict(
                episode_id=solution.episode_id,
                correct=False,
                score=0.0,
                explanation=f"no answer ({solution.stop_reason})",
            )
        return await self._judge_of(task.domain).judge(task, solution, solution.answer)

    def _judge_of(self, domain: str) -> Judge:
        if domain not in self._judges:
            self._judges[domain] = domain_named(domain).make_judge(self._parts)
        return self._judges[domain]
