"""A run's story for the report: its journal, streamed into sums whose size does not grow with it.

Groups are kept as at most `Bins.limit` averages, shares as counts, rounds and steps one a version.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from ..actors.coordinator.curriculum import Curriculum
from ..actors.coordinator.journal import FILE, read_journal
from ..configs.errors import BadInput
from ..configs.roles import CurriculumSettings
from ..messages.runs import (
    GroupDropped,
    GroupFinished,
    JournalEntry,
    RoundFinished,
    RunFailed,
    RunFinished,
    RunResumed,
    RunStarted,
    StepFinished,
    TasksRewarded,
)

Fate = Literal["accepted", "filtered", "failed"]
KEPT_FAILURES: Final = 20


class GroupMeans(NamedTuple):
    """Sums over groups while they are gathered; means once divided by their number."""

    groups: float = 0.0
    success: float = 0.0
    difficulty: float = 0.0
    curriculum: float = 0.0
    """The difficulty that the curriculum asked for."""
    tool_calls: float = 0.0
    uncertainty: float = 0.0
    tool_use: float = 0.0
    novelty: float = 0.0
    correctness: float = 0.0
    total: float = 0.0

    def plus(self, other: "GroupMeans") -> "GroupMeans":
        """The sums of both."""
        return GroupMeans(*(a + b for a, b in zip(self, other, strict=True)))

    def means(self) -> "GroupMeans":
        """Each sum over the number of groups, which stays as it is."""
        return GroupMeans(self.groups, *(value / max(1.0, self.groups) for value in self[1:]))


class Bins:
    """Averages of consecutive groups. When there are too many bins, neighbours merge.

    >>> bins = Bins(limit=4)
    >>> for success in (0.0, 1.0, 1.0, 1.0, 0.5): bins.add(GroupMeans(groups=1, success=success))
    >>> bins.width, [mean.success for mean in bins.means()]
    (2, [0.5, 1.0, 0.5])
    """

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self.width = 1
        self._sums: list[GroupMeans] = []

    def add(self, one: GroupMeans) -> None:
        """Take the next group into the last bin, or into a new one when that is full."""
        if self._sums and self._sums[-1].groups < self.width:
            self._sums[-1] = self._sums[-1].plus(one)
            return
        if len(self._sums) == self.limit:
            self.width *= 2
            self._sums = [a.plus(b) for a, b in zip(self._sums[::2], self._sums[1::2], strict=True)]
        self._sums.append(one)

    def means(self) -> list[GroupMeans]:
        """One mean for each bin, oldest first."""
        return [sums.means() for sums in self._sums]


@dataclass(slots=True)
class VersionGroups:
    """Groups sampled while one version was the newest."""

    accepted: int = 0
    filtered: int = 0
    failed: int = 0
    tool_calls: float = 0.0
    """Summed over the groups that did not fail."""

    @property
    def mean_tool_calls(self) -> float:
        """Calls an episode, 0 where nothing was judged."""
        return self.tool_calls / max(1, self.accepted + self.filtered)


@dataclass(slots=True)
class RunHistory:
    """All that the report says about a run, apart from its trajectories."""

    curriculum: Curriculum
    run_id: str = ""
    seed: int | None = None
    started_at: float = 0.0
    last_at: float = 0.0
    sittings: int = 0
    rounds: dict[int, RoundFinished] = field(default_factory=dict)
    steps: dict[int, StepFinished] = field(default_factory=dict)
    """The Student's, by the version they made."""
    teacher_steps: int = 0
    teacher_rewards: dict[int, float] = field(default_factory=dict)
    """Mean of what the Teacher's proposals earned, by the version that the Student had by then."""
    fates: Counter[Fate] = field(default_factory=Counter)
    shares: Counter[tuple[Fate, float]] = field(default_factory=Counter)
    """Groups by fate and majority share, the latter to three digits."""
    by_version: dict[int, VersionGroups] = field(default_factory=dict)
    groups: Bins = field(default_factory=Bins)
    dropped_stale: int = 0
    episodes: int = 0
    failed_episodes: int = 0
    tokens: int = 0
    finished: RunFinished | None = None
    failures: deque[RunFailed] = field(default_factory=lambda: deque(maxlen=KEPT_FAILURES))
    damage: str = ""
    """Why the journal could not be read to its end."""
    _version: int = 0
    _past_s: float = 0.0
    _sitting_began: float = 0.0

    @property
    def evaluated(self) -> list[RoundFinished]:
        """The rounds in order of version."""
        return [self.rounds[version] for version in sorted(self.rounds)]

    @property
    def wall_s(self) -> float:
        """Seconds of work, over all sittings."""
        if self.finished is not None:
            return self.finished.wall_s
        return self._past_s + max(0.0, self.last_at - self._sitting_began)

    def read(self, entries: Iterable[JournalEntry]) -> None:
        """Take all entries into account, up to a damaged one."""
        try:
            for entry in entries:
                self._apply(entry)
        except BadInput as error:
            self.damage = str(error)

    def _apply(self, entry: JournalEntry) -> None:
        match entry:
            case RunStarted():
                self.run_id, self.seed, self.started_at = entry.run_id, entry.seed, entry.at
                self._begin_sitting(entry.at)
            case RunResumed():
                self._past_s += max(0.0, self.last_at - self._sitting_began)
                self._begin_sitting(entry.at)
            case GroupFinished():
                self._group(entry)
            case GroupDropped():
                self.dropped_stale += 1
            case StepFinished() | TasksRewarded():
                self._learned(entry)
            case RoundFinished():
                self.rounds[entry.version] = entry
            case RunFinished():
                self.finished = entry
            case RunFailed():
                self.failures.append(entry)
            case _:
                pass  # a lease says nothing that its group's end does not
        self.last_at = max(self.last_at, entry.at)

    def _learned(self, entry: StepFinished | TasksRewarded) -> None:
        if isinstance(entry, TasksRewarded):
            self.teacher_rewards[self._version] = entry.mean
        elif entry.policy == "student":
            self.steps[entry.adapter.version] = entry
            self._version = entry.adapter.version
        else:
            self.teacher_steps += 1

    def _begin_sitting(self, at: float) -> None:
        self.sittings += 1
        self._sitting_began = at
        self.finished = None

    def _group(self, entry: GroupFinished) -> None:
        version = self.by_version.setdefault(self._version, VersionGroups())
        self.fates[entry.fate] += 1
        self.episodes += entry.episodes
        self.failed_episodes += entry.failed
        self.tokens += entry.tokens
        if entry.fate == "failed":
            version.failed += 1
            return
        version.accepted += entry.fate == "accepted"
        version.filtered += entry.fate == "filtered"
        version.tool_calls += entry.tool_calls
        self.shares[entry.fate, round(entry.majority_share, 3)] += 1
        self.groups.add(
            GroupMeans(
                groups=1,
                success=entry.success,
                difficulty=entry.difficulty,
                curriculum=self.curriculum.difficulty,
                tool_calls=entry.tool_calls,
                uncertainty=entry.rewards.uncertainty,
                tool_use=entry.rewards.tool_use,
                novelty=entry.rewards.novelty,
                correctness=entry.rewards.correctness,
                total=entry.rewards.total,
            )
        )
        self.curriculum.observe(entry.success)


def read_history(run_dir: Path, settings: CurriculumSettings) -> RunHistory:
    """Stream a run's journal. Raises BadInput for a folder that holds none."""
    path = run_dir / FILE
    if not path.is_file():
        raise BadInput(f"{run_dir} is not a run's folder: it has no {FILE}")
    history = RunHistory(Curriculum(settings))
    history.read(read_journal(path))
    return history
