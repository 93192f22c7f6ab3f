"""The Verifier's vocabulary, and rewards."""

from pydantic import Field

from .base import Message, Request
from .episodes import Solution
from .tasks import Task


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
