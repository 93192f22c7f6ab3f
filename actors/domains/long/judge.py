"""Judge of the `long` domain: milestones that turn up along a task of many steps.

Consumes a task with milestones, and a solution; produces a verdict. Evidence, in the order in which it came:
what each tool call answered (not what the policy said about it), then the parts of the answer. Nothing is
waited for.
"""

import re
from collections.abc import Sequence
from typing import Final

from ....messages.episodes import ScoreComponent, Solution, Verdict
from ....messages.tasks import Milestone, MilestonesSpec, Task
from ..base import JudgeDeps
from ..grading import NoReference, canonical_words, clean, grade_exact, shorten

MAX_PARTIAL_SCORE: Final = 0.9
"""Score of all milestones with a wrong answer."""
_PARTS: Final = (re.compile(r"[;,\n]"), re.compile(r"[;\n]|,(?!\d{3}(?!\d))"))
"""At every comma, or at those that do not group digits."""
_LABEL: Final = re.compile(
    r"^(?:(?:and\s+)?(?:step|result|results)\s*\d*\s*[:=)]|\d{1,2}[.)]\s+|and\s+)\s*", re.IGNORECASE
)


class LongJudge:
    """Follows the milestones through an episode."""

    def __init__(self, parts: JudgeDeps) -> None:
        self._rel_tolerance = parts.settings.rel_tolerance

    async def start(self) -> None:
        """Nothing to do: judging needs no process."""

    async def judge(self, task: Task, solution: Solution, answer: str) -> Verdict:
        """Right if all milestones were reached, in order where that is asked, and the answer is right.

        The score is the share of milestones reached, at most 0.9 without the right answer. The right
        answer is the reference, or the last milestone. Raises NoReference.
        """
        goal = task.goal
        if not isinstance(goal, MilestonesSpec):
            raise NoReference(f"task {task.id} has no milestones")
        said = parts_of(answer, len(goal.milestones))
        reached = follow(goal, [*observed(solution), *said])
        answered = self._is_right(task, goal, answer, said)
        share = sum(reached) / len(reached)
        correct = answered and all(reached)
        return Verdict(
            episode_id=solution.episode_id,
            correct=correct,
            score=1.0 if correct else MAX_PARTIAL_SCORE * share,
            explanation=_explanation(goal.milestones, reached, answered, answer),
            breakdown=(
                *(
                    ScoreComponent(name=m.name, score=float(r))
                    for m, r in zip(goal.milestones, reached, strict=True)
                ),
                ScoreComponent(name="answer", score=float(answered)),
            ),
        )

    async def aclose(self) -> None:
        """Nothing to let go of."""

    def _is_right(self, task: Task, goal: MilestonesSpec, answer: str, said: Sequence[str]) -> bool:
        """All results, or the last of them alone where the reference does not ask for all."""
        expected = [goal.milestones[-1].value]
        if task.reference is not None:
            expected = parts_of(task.reference, len(goal.milestones))
        if len(said) != len(expected):
            return False
        return all(self._is_same(*pair) for pair in zip(expected, said, strict=True))

    def _is_same(self, expected: str, said: str) -> bool:
        if canonical_words(expected) == canonical_words(said):
            return True
        grade = grade_exact(expected, said, self._rel_tolerance)
        return grade is not None and grade.correct


def observed(solution: Solution) -> list[str]:
    """Outputs of the tool calls, in their order; a call that failed shows nothing."""
    return [result.output for turn in solution.turns for result in turn.results if result.ok]


def follow(goal: MilestonesSpec, evidence: Sequence[str]) -> list[bool]:
    """Milestones reached. In order, one counts only from where the one before it turned up.

    A piece of evidence shows one value: a call that prints many numbers shows nothing.
    """
    seen = [canonical_words(text) for text in evidence]
    reached: list[bool] = []
    at = 0
    for milestone in goal.milestones:
        wanted = canonical_words(milestone.value)
        start = at if goal.in_order else 0
        found = next((place for place in range(start, len(seen)) if seen[place] == wanted), None)
        reached.append(found is not None)
        if found is not None:
            at = found + 1
    return reached


def parts_of(answer: str, count: int) -> list[str]:
    """The parts of an answer that lists `count` results; commas may part them or group their digits.

    >>> parts_of("Step 1: 391, step 2: 1,449; 49", 3), parts_of("391,449", 2)
    (['391', '1,449', '49'], ['391', '449'])
    """
    whole = clean(answer)
    if whole[:1] in ("(", "[", "{") and whole[-1:] in (")", "]", "}"):
        whole = whole[1:-1]
    found: list[list[str]] = []
    for pattern in _PARTS:
        pieces = (_LABEL.sub("", piece.strip()) for piece in pattern.split(whole))
        found.append([piece for piece in pieces if piece])
    return next((parts for parts in found if len(parts) == count), found[0])


def _explanation(
    milestones: Sequence[Milestone], reached: Sequence[bool], answered: bool, answer: str
) -> str:
    missed = [m.name for m, r in zip(milestones, reached, strict=True) if not r]
    if missed:
        return f"{len(missed)} of {len(reached)} milestones missed, the first is {shorten(missed[0])}"
    return (
        "all milestones, and the answer"
        if answered
        else f"all milestones, but the answer is {shorten(answer)!r}"
    )
