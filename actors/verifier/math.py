"""The pool of math graders.

Consumes a reference and an answer; produces one `Grade`, or raises `GraderTimeout` or `GraderDied`:
a failure is never a zero. Waits for a free grader, then for its grade; unblocked by the deadline.

Each grade is worked out in a fresh fork of one warm process that holds sympy and math-verify, behind
the same walls as the python tool (`runtime.sandbox`): killed at its deadline, limited in memory, with
nothing to recycle since it never does a second job. A fork costs milliseconds, a new process with
these imports a second. `anyio.to_process` would import the parent's `__main__`, in a Ray worker
Ray's own script, and would lose its imports with every kill.
"""

import json
from typing import Final

from actors.verifier.grading import (
    Grade,
    GraderDied,
    GraderTimeout,
    NoReference,
    grade_plainly,
    shorten,
)
from configs.roles import VerifierSettings
from messages.episodes import Solution
from messages.judging import Credit, Verdict
from messages.tasks import Task
from runtime.sandbox.errors import SandboxError
from runtime.sandbox.forkserver import ForkServer, Outcome

_MODULE: Final = "actors.verifier.domains.algebra"
_ATTEMPTS: Final = 2
_OUTPUT_BYTES: Final = 65536
_MAX_CHARACTERS: Final = 20_000


class MathJudge:
    """Compares an answer with the task's reference."""

    def __init__(self, settings: VerifierSettings, allow_weak: bool = False) -> None:
        self._graders = GraderPool(settings, allow_weak)

    async def start(self) -> None:
        """Start the graders."""
        await self._graders.start()

    async def judge(self, task: Task, solution: Solution, answer: str) -> Verdict:
        """Is the answer right? Raises NoReference, GraderTimeout, GraderDied."""
        if task.reference is None:
            raise NoReference(f"task {task.id} has no reference answer to compare with")
        grade = await self._graders.grade(task.reference, answer)
        return Verdict(
            episode_id=solution.episode_id,
            correct=grade.correct,
            score=grade.score,
            explanation=grade.explanation,
            breakdown=(Credit(name=grade.method, score=grade.score),),
        )

    async def aclose(self) -> None:
        """Stop the graders."""
        await self._graders.aclose()


class GraderPool:
    """Grades math answers in killable processes; plain numbers and words at once, without one."""

    def __init__(self, settings: VerifierSettings, allow_weak: bool = False) -> None:
        self._timeout_s = settings.timeout_s
        self._rel_tolerance = settings.rel_tolerance
        self._server = ForkServer(
            _MODULE,
            {
                "modules": [],
                "memory_mb": settings.memory_mb,
                "output_bytes": _OUTPUT_BYTES,
                "reads": True,
                "allow_weak": allow_weak,
            },
            settings.graders,
        )

    def __repr__(self) -> str:
        return f"<GraderPool {self._server!r}>"

    async def start(self) -> None:
        """Start the warm process (seconds). Raises SandboxError if it cannot be confined here."""
        await self._server.start()

    async def grade(self, reference: str, answer: str) -> Grade:
        """Is the answer right? Raises GraderTimeout or GraderDied where that was not found out."""
        reference, answer = reference[:_MAX_CHARACTERS], answer[:_MAX_CHARACTERS]
        grade = grade_plainly(reference, answer, self._rel_tolerance)
        if grade is not None:
            return grade
        job = json.dumps([reference, answer, self._rel_tolerance])
        what = f"{shorten(answer)!r} against {shorten(reference)!r}"
        outcome = Outcome("crashed", "")
        for _ in range(_ATTEMPTS):
            try:
                outcome = await self._server.call(job, self._timeout_s)
            except SandboxError as error:
                raise GraderDied(f"no grader for {what}: {error}") from error
            if outcome.ending == "ok":
                return _read_grade(outcome.output, what)
            if outcome.ending == "timeout":
                raise GraderTimeout(f"grading {what} took longer than {self._timeout_s:g} s")
        raise GraderDied(f"the grader ended twice ({outcome.ending}) on {what}: {outcome.output}")

    async def aclose(self) -> None:
        """Kill all graders."""
        await self._server.aclose()


def _read_grade(output: str, what: str) -> Grade:
    try:
        correct, score, explanation, method = json.loads(output)
        return Grade(bool(correct), float(score), str(explanation), method)
    except (ValueError, TypeError) as error:
        raise GraderDied(f"the grader said {shorten(output)!r} on {what}") from error
