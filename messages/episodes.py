"""Episodes: one task run to its end by the Student, the Verifier's verdict on it, and its rewards."""

from typing import Literal

from pydantic import Field

from .adapters import AdapterRef
from .base import Event, Message, Request
from .tasks import Task
from .turns import Turn

StopReason = Literal["answered", "turn_limit", "token_limit", "no_action"]


class Solution(Message):
    """What the Student did and answered."""

    episode_id: str
    task_id: str
    answer: str | None
    """None where no answer could be read from the model's text."""
    turns: tuple[Turn, ...]
    stop_reason: StopReason
    space: str = ""
    """What the tags in the store begin with that this attempt worked under; empty: it had none."""
    confidence: float = Field(default=0.0, ge=0.0, le=1.0)
    """Geometric mean probability of the answer's tokens, or what the settings make of that and of the
    model's own opinion; nothing is calibrated."""
    duration_s: float = Field(default=0.0, ge=0.0)

    @property
    def tool_calls(self) -> int:
        """Number of tool calls made, successful or not."""
        return sum(len(turn.calls) for turn in self.turns)

    @property
    def reasoning(self) -> str:
        """All that the model wrote, turn after turn."""
        return "\n".join(turn.text for turn in self.turns)


class SolveTask(Request[Solution]):
    """Run one leased episode. Its id was fixed when the work was leased."""

    episode_id: str
    task: Task
    adapter: AdapterRef = AdapterRef(policy="student", version=0)
    """The version to sample with; a newer one in use replaces it at the next turn, unless pinned."""
    pinned: bool = False
    """Keep `adapter` for the whole episode (evaluation)."""
    temperature: float | None = Field(default=None, ge=0.0)
    """Overrides the Student's own setting."""
    seed: int | None = None
    space: str = ""
    """What the tags of this attempt begin with in the store, so that no two attempts ever meet."""


class EpisodeFailed(Event):
    """An episode that ended without a verdict: counted, and kept out of training."""

    episode_id: str
    attempt: int
    error: str
    """Type of the error."""
    reason: str
    will_retry: bool


class ScoreComponent(Message):
    """One line of a verdict's breakdown."""

    name: str
    score: float = Field(ge=0.0, le=1.0)


class Verdict(Message):
    """The Verifier's finding on one solution."""

    episode_id: str
    correct: bool
    score: float = Field(ge=0.0, le=1.0)
    """Partial credit; 1 for a fully correct answer."""
    confidence: float = Field(default=1.0, ge=0.0, le=1.0)
    """How sure the Verifier is of its own finding."""
    explanation: str = ""
    breakdown: tuple[ScoreComponent, ...] = ()


class JudgeSolution(Request[Verdict]):
    """Is this answer right?"""

    task: Task
    solution: Solution


class GroupVerdict(Message):
    """The Verifier's findings on sibling solutions of one task."""

    task: Task
    """The task, with the reference that was used: where it had none, the majority's answer."""
    majority_share: float = Field(ge=0.0, le=1.0)
    """p̂: the share of the most frequent answer over all k solutions; no answer votes for nothing."""
    verdicts: tuple[Verdict, ...]
    """For each solution that could be judged."""
    failed: tuple[tuple[str, str], ...] = ()
    """Episode id and reason, for each solution whose grader failed: a failure, not a score."""


class JudgeGroup(Request[GroupVerdict]):
    """Judge all solutions of one task together."""

    task: Task
    solutions: tuple[Solution, ...]


class RewardTerm(Message):
    """What one term of a composed reward came to, before its weight."""

    name: str
    value: float


class Rewards(Message):
    """The parts of an episode's reward, each in 0..1, and their weighted sum."""

    uncertainty: float = 0.0
    tool_use: float = 0.0
    novelty: float = 0.0
    correctness: float = 0.0
    terms: tuple[RewardTerm, ...] = ()
    """Where the settings compose the reward of terms: all of them, and the total is their weighted sum."""
    total: float = 0.0
