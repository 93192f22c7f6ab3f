"""The held-out tasks before and after, from the stored `eval-v*` trajectories.

One pass over the segments; only lines of the two evaluations are parsed. Whole trajectories are kept
for `SAMPLE` tasks, those with the smallest hash of their id: the same tasks in both evaluations,
whatever their order, and the same each time the report is written.
"""

import hashlib
import heapq
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, NamedTuple

from ..actors.sink.segments import parse, read_lines
from ..configs.errors import BadInput
from ..messages.trajectories import Trajectory
from ..training.calibration import Calibration, ScoredAnswer, calibrate
from ..training.statistics import wilson_interval

SEED: Final = 2026
SAMPLE: Final = 128
BANDS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
EXAMPLES: Final = (("learned", 3), ("forgotten", 1), ("never", 1), ("always", 1))
HEAD_BYTES: Final = 400
"""Where a line's group id is looked for before the line is parsed."""

Change = Literal["learned", "forgotten", "never", "always"]


class Share(NamedTuple):
    """Correct answers among those judged."""

    right: int = 0
    n: int = 0

    def plus(self, correct: bool) -> "Share":
        """With one more."""
        return Share(self.right + correct, self.n + 1)

    @property
    def value(self) -> float:
        """The share; 0 where nothing was judged."""
        return self.right / self.n if self.n else 0.0

    @property
    def ci95(self) -> tuple[float, float]:
        """Wilson score interval."""
        return wilson_interval(self.right, self.n)


class HeldOutExample(NamedTuple):
    """One held-out task, before and after."""

    change: Change
    before: Trajectory
    after: Trajectory


@dataclass(slots=True)
class VersionScore:
    """One evaluation."""

    version: int
    bands: list[Share] = field(default_factory=lambda: [Share()] * (len(BANDS) - 1))
    correct: dict[str, bool] = field(default_factory=dict)
    """By the task's id."""
    judged: list[ScoredAnswer] = field(default_factory=list)
    """How sure each answer was, and whether it was right; only of what was stored with a confidence."""
    sample: list[tuple[int, str, Trajectory]] = field(default_factory=list)
    """A heap of the trajectories with the smallest hashes; the largest of them on top."""

    def add(self, trajectory: Trajectory) -> None:
        """Count one episode, and keep it if it belongs to the sample."""
        task = trajectory.task
        if trajectory.verdict is None or task.id in self.correct:
            return
        right = trajectory.verdict.correct
        self.correct[task.id] = right
        if trajectory.confidence is not None and trajectory.answer is not None:
            self.judged.append(ScoredAnswer(trajectory.confidence, right))
        band = band_of(task.difficulty)
        self.bands[band] = self.bands[band].plus(right)
        entry = (-_hash(task.id), task.id, _without_tokens(trajectory))
        if len(self.sample) < SAMPLE:
            heapq.heappush(self.sample, entry)
        else:
            heapq.heappushpop(self.sample, entry)


@dataclass(slots=True)
class HeldOut:
    """Both evaluations, and what lies between them."""

    before: VersionScore
    after: VersionScore
    unreadable: int = 0
    """Lines that could not be read."""
    problem: str = ""
    """Why there is nothing to compare; empty where there is."""

    @property
    def compares(self) -> bool:
        """True if these are two different versions."""
        return self.before is not self.after

    @property
    def changes(self) -> dict[Change, int]:
        """Tasks by what became of them."""
        counts: dict[Change, int] = {"learned": 0, "forgotten": 0, "always": 0, "never": 0}
        for task_id, right in self.before.correct.items():
            if task_id in self.after.correct:
                counts[_change(right, self.after.correct[task_id])] += 1
        return counts

    @property
    def examples(self) -> list[HeldOutExample]:
        """A few tasks of each kind, in the order of their hashes."""
        after = {task_id: trajectory for _, task_id, trajectory in self.after.sample}
        pairs = [
            HeldOutExample(_change(_right(t), _right(after[task_id])), t, after[task_id])
            for _, task_id, t in sorted(self.before.sample, reverse=True)
            if task_id in after
        ]
        return [
            example
            for change, wanted in EXAMPLES
            for example in [pair for pair in pairs if pair.change == change][:wanted]
        ]


def compare_held_out(folder: Path, before: int, after: int) -> HeldOut:
    """Read the evaluations of two versions; what is missing or damaged is said, not raised."""
    first = VersionScore(before)
    found = HeldOut(first, first if after == before else VersionScore(after))
    sides = {f"eval-v{side.version}": side for side in (found.before, found.after)}
    marks = tuple(f'"{name}"'.encode() for name in sides)
    if not folder.is_dir():
        found.problem = f"the folder {folder.name}/ is missing"
        return found
    try:
        for place, line in read_lines(folder):
            if not any(mark in line[:HEAD_BYTES] for mark in marks):
                continue
            try:
                trajectory = parse(place, line)
            except BadInput:
                found.unreadable += 1
                continue
            if trajectory.group_id in sides:
                sides[trajectory.group_id].add(trajectory)
    except OSError as error:
        found.problem = f"the folder {folder.name}/ could not be read to its end ({error.strerror})"
    missing = [name for name, side in sides.items() if not side.correct]
    if missing and not found.problem:
        found.problem = f"no trajectories of {' and '.join(sorted(missing))} are stored"
    return found


def band_of(difficulty: float) -> int:
    """Index of the band of a difficulty; a bound belongs to the band above it.

    >>> band_of(0.0), band_of(0.25), band_of(1.0)
    (0, 1, 3)
    """
    return min(sum(difficulty >= bound for bound in BANDS[1:]), len(BANDS) - 2)


def band_names() -> list[str]:
    """The bands' bounds, easiest first."""
    return [f"{low:.2f} – {high:.2f}" for low, high in pairwise(BANDS)]


def _change(before: bool, after: bool) -> Change:
    if before:
        return "always" if after else "forgotten"
    return "learned" if after else "never"


def _right(trajectory: Trajectory) -> bool:
    return trajectory.verdict is not None and trajectory.verdict.correct


def _without_tokens(trajectory: Trajectory) -> Trajectory:
    """Only what is shown: a long episode's tokens take a megabyte."""
    none: dict[str, object] = {"prompt_ids": (), "completion_ids": (), "logprobs": (), "loss_mask": ()}
    turns = tuple(turn.model_copy(update=none) for turn in trajectory.turns)
    return trajectory.model_copy(update={"turns": turns})


def _hash(task_id: str) -> int:
    digest = hashlib.blake2b(f"{SEED}:{task_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def calibrations(held_out: HeldOut | None) -> list[tuple[int, Calibration]]:
    """Of each of the two versions that has answers with a confidence."""
    if held_out is None:
        return []
    sides = (held_out.before, held_out.after) if held_out.compares else (held_out.after,)
    return [(side.version, calibrate(side.judged)) for side in sides if side.judged]
