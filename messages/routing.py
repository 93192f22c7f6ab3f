"""What a model router decided, and how it has been doing."""

from typing import Literal

from pydantic import Field

from .base import Message
from .chat import ChatReply

ConfidenceOrigin = Literal["logprobs", "agreement", "declared", "unknown"]
CircuitState = Literal["closed", "open", "trial"]
Outcome = Literal["taken", "unsure", "failed", "skipped", "not_needed"]


class Confidence(Message):
    """How sure a reply is taken to be."""

    value: float = Field(ge=0.0, le=1.0)
    origin: ConfidenceOrigin
    """`unknown`: nothing was there to tell from, and the value is 0."""


class Estimate(Message):
    """What asking a model is expected to take, and what it can take at most. All samples together."""

    cost: float = 0.0
    max_cost: float = 0.0
    tokens: int = 0
    """Prompt and completion."""
    max_tokens: int = 0
    latency_s: float | None = None
    """None: too little is known."""


class RouteCandidate(Message):
    """One model of the chain in one decision."""

    model: str
    outcome: Outcome
    """`unsure`: it answered, and another reply was taken or asked for. `not_needed`: never looked at, since
    a model before it was sure enough."""
    reason: str
    estimate: Estimate | None = None
    """None where it cannot do what was asked."""
    confidence: Confidence | None = None
    cost: float = 0.0
    """Charged to the budgets. Where an ask fails in a way that may have been billed: the most it can be."""
    tokens: int = 0
    latency_s: float = 0.0


class RouteDecision(Message):
    """How one request was answered, or why it was not."""

    decision_id: str
    task_key: str
    """SHA-256 of the request and the chain, hex."""
    model: str | None = None
    """Whose reply was taken; None where nobody answered."""
    accepted: bool = False
    """The reply reached the threshold. False: it was the best there was."""
    cache_hit: bool = False
    confidence: Confidence | None = None
    cost: float = 0.0
    tokens: int = 0
    latency_s: float = 0.0
    """Of the whole request."""
    considered: tuple[RouteCandidate, ...] = ()
    """In the order they were looked at; empty for a hit."""


class Routed(Message):
    """A reply, and how it was found."""

    reply: ChatReply
    decision: RouteDecision


class ConfidenceBin(Message):
    """Answers whose confidence lay in one interval: how sure they were, and how often they were right."""

    low: float
    high: float
    told: int
    right: int
    mean_confidence: float


class ModelReport(Message):
    """One model, over all that its router's folder remembers."""

    model: str
    replies: int = 0
    failures: int = 0
    taken: int = 0
    mean_completion_tokens: float = 0.0
    """Newer replies weigh more."""
    mean_latency_s: float = 0.0
    circuit: CircuitState = "closed"
    told: int = 0
    """Taken replies whose outcome is known."""
    right: int = 0
    bins: tuple[ConfidenceBin, ...] = ()
    calibration_error: float | None = None
    """Expected calibration error, 0 to 1; None before any outcome."""

    @property
    def accuracy(self) -> float | None:
        """How often its taken replies were right; None before any outcome."""
        return self.right / self.told if self.told else None


class RouterReport(Message):
    """How a router has been doing."""

    requests: int = 0
    cache_hits: int = 0
    unanswered: int = 0
    day: str
    """UTC, as 2026-01-31."""
    day_cost: float = 0.0
    """With what is reserved for asks under way."""
    day_tokens: int = 0
    models: tuple[ModelReport, ...] = ()
