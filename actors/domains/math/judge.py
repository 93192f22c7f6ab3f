"""Judge of the `math` domain.

Consumes a task with a reference, and an answer; produces a verdict, or raises `GraderTimeout` or
`GraderDied`. What exact arithmetic settles is settled here; the rest goes to grader processes that
hold sympy and math-verify. Where the settings give credit for steps, the steps of a wrong answer's
reasoning are extracted:

    12+34*5 = 12+170 = 182        two steps
    2x+3 = 7                      an equation,
    2x = 4                        and a step from it to this one

A step counts only in a chain that begins with something out of the task, so that `1 = 1` earns nothing;
steps that repeat a term to the letter are no steps. Whether a step follows is for the grader process.
"""

import json
import re
from itertools import pairwise
from typing import Final, NamedTuple

from pydantic import JsonValue, TypeAdapter

from ....messages.episodes import ScoreComponent, Solution, Verdict
from ....messages.tasks import Task
from ..base import JudgeDeps
from ..grader_pool import GraderPool, parse_grader_line
from ..grading import UNREAD, Grade, GraderDied, GraderFailure, NoReference, incorrect, shorten
from .fast_path import grade_fast

MAX_STEPS: Final = 32
_LINE_START: Final = re.compile(r"^\s*(?:[-*•]|\d+[.)]|[Tt]hought:|[Ss]tep \d+:|=>|⇒|so|then|thus|hence)\s*")
_RELATION: Final = re.compile(r"(?<![<>!=:])=(?!=)")
_WORDS: Final = re.compile(r"[A-Za-z]{3,}[ ,:]|[?!;]")
_SPACES: Final = re.compile(r"\s+|[$`]")


class DerivationStep(NamedTuple):
    """From one term to the next (an equality), or from one equation to the next."""

    before: str
    after: str
    equations: bool


def extract_steps(description: str, reasoning: str) -> list[DerivationStep]:
    """The steps that begin with something out of the task's text, at most `MAX_STEPS`.

    >>> extract_steps("Compute 2*3+4.", "2*3+4 = 6+4 = 10")
    [Step(before='2*3+4', after='6+4', equations=False), Step(before='6+4', after='10', equations=False)]
    """
    asked = _squeeze(description)
    steps: list[DerivationStep] = []
    equation = ""
    reached: set[str] = set()
    for line in reasoning.splitlines():
        terms = [term.strip() for term in _RELATION.split(_bare(line))]
        if len(terms) < 2 or not all(terms) or any(_WORDS.search(term) for term in terms):
            continue
        if len(terms) == 2 and _has_unknown("=".join(terms)):
            now = f"{terms[0]} = {terms[1]}"
            if equation and _squeeze(equation) != _squeeze(now):
                steps.append(DerivationStep(equation, now, True))
            if equation or _squeeze(now) in asked:
                equation = now
        elif _squeeze(terms[0]) in asked or _squeeze(terms[0]) in reached:
            pairs = pairwise(terms)
            steps += [DerivationStep(a, b, False) for a, b in pairs if _squeeze(a) != _squeeze(b)]
            reached |= {_squeeze(term) for term in terms}
    return steps[:MAX_STEPS]


def _bare(line: str) -> str:
    """The line without a list's mark, labels, dollar signs and a final period."""
    return _LINE_START.sub("", line.replace("$", "")).strip().rstrip(".,;")


def _has_unknown(text: str) -> bool:
    return re.search(r"(?<![A-Za-z\\])[a-z](?![A-Za-z(])", text) is not None


def _squeeze(text: str) -> str:
    return _SPACES.sub("", text)


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

    def __init__(self, parts: JudgeDeps) -> None:
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
        score, credits = grade.score, [ScoreComponent(name=grade.method, score=grade.score)]
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
            return incorrect(f"longer than {_MAX_CHARACTERS} characters", "exact")
        short = len(answer) <= _SHORT_CHARACTERS
        grade = grade_fast(reference, answer, self._rel_tolerance) if short else None
        if grade is not None:
            return grade
        what = f"{shorten(answer)!r} against {shorten(reference)!r}"
        line = await self._work(["grade", reference, answer, self._rel_tolerance], what, reference)
        if line is None:
            return incorrect("working the answer out takes too much time or memory", "symbolic", UNREAD)
        return parse_grader_line(_GRADE, line, what)

    async def aclose(self) -> None:
        """Stop the graders."""
        await self._graders.aclose()

    async def _judge_steps(self, task: Task, solution: Solution) -> tuple[float, list[ScoreComponent]]:
        """The share of steps up to the first that does not follow, and a line for each step."""
        steps = extract_steps(task.description, solution.reasoning)
        if not steps:
            return 0.0, []
        holds = await self._steps_hold(steps, task.id)
        credits = [ScoreComponent(name=f"step {n}", score=float(held)) for n, held in enumerate(holds, 1)]
        until = holds.index(False) if False in holds else len(holds)
        return until / len(holds), credits

    async def _steps_hold(self, steps: list[DerivationStep], task_id: str) -> list[bool]:
        """For each step, True if it follows. Raises GraderTimeout, GraderDied."""
        what = f"the steps of task {task_id}"
        line = await self._work(["steps", [list(step) for step in steps]], what, "1")
        if line is None:
            return [False] * len(steps)
        holds = parse_grader_line(_STEPS, line, what)
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
