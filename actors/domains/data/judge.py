"""Judge of the `data` domain: compares what the store really holds with the task's goal.

Consumes a task with a goal, and a solution with the namespace that it was worked out in; produces a verdict,
or raises what the data plane fails with: a failure is never a zero. Waits for the Retriever; unblocked by its
deadline. The transcript is not read.
"""

from typing import Final, Self

from ....messages.data import BlobInfo
from ....messages.episodes import ScoreComponent, Solution, Verdict
from ....messages.tasks import StoreSpec, Task
from ....runtime.ref import Ref
from ...namespaces import list_blobs_under
from ..base import CannotJudge, JudgeDeps
from ..grading import NoReference, canonical_words, shorten

ANSWER_ALONE: Final = 0.5
"""Score of a right answer with the store in another state than asked for."""


class DataJudge:
    """Compares the store with the task's goal, and the answer with its reference."""

    def __init__(self, retriever: Ref) -> None:
        self._retriever = retriever

    @classmethod
    def of(cls, parts: JudgeDeps) -> Self:
        """A judge with these parts. Raises CannotJudge where no Retriever is among them."""
        if parts.retriever is None:
            raise CannotJudge("errands are judged by what the store holds: the data plane must be up")
        return cls(parts.retriever)

    async def start(self) -> None:
        """Nothing to do: the Retriever is ready by itself."""

    async def judge(self, task: Task, solution: Solution, answer: str) -> Verdict:
        """Right if the answer is right and the space holds the goal's blobs and no others.

        The state alone scores nothing, since an answer was asked for. Raises NoReference, and what the
        data plane fails with.
        """
        if not isinstance(task.goal, StoreSpec) or task.reference is None or not solution.space:
            raise NoReference(f"task {task.id} has no goal, or was solved in no space of its own")
        blobs = await list_blobs_under(self._retriever, solution.space)
        wrong = difference(task.goal, solution.space, blobs)
        answered = _first_line(answer) == _first_line(task.reference)
        if not answered:
            wrong = f"expected {shorten(task.reference)}, got {shorten(answer)}"
        return Verdict(
            episode_id=solution.episode_id,
            correct=not wrong,
            score=1.0 if not wrong else ANSWER_ALONE if answered else 0.0,
            explanation=wrong or "the answer, and the store as it should be",
            breakdown=(
                ScoreComponent(name="answer", score=float(answered)),
                ScoreComponent(name="store", score=float(not difference(task.goal, solution.space, blobs))),
            ),
        )

    async def aclose(self) -> None:
        """Nothing to let go of."""


def difference(goal: StoreSpec, space: str, blobs: list[BlobInfo]) -> str:
    """Describe what is missing, changed or too much in the space; empty if nothing is."""
    expected = {(blob.tag, blob.name): blob.sha256 for blob in goal.blobs}
    found = {(blob.tag.removeprefix(space), blob.name): blob.sha256 for blob in blobs}
    for what, names in (
        ("is missing", expected.keys() - found.keys()),
        ("is too much", found.keys() - expected.keys()),
        (
            "has other bytes",
            {name for name in expected.keys() & found.keys() if expected[name] != found[name]},
        ),
    ):
        if names:
            tag, name = min(names)
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            return f"the store: {shorten(f'{tag}/{name}')} {what}{more}"
    return ""


def _first_line(text: str) -> str | None:
    """Part of an answer that is compared: a heading's marks, quotes and a final period do not count."""
    lines = text.strip().splitlines()
    return canonical_words(lines[0].strip("#\"'` ")) if lines else None
