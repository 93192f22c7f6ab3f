"""Conversations with agents: which agent a command is routed to and why, and what came of it."""

from typing import Literal

from .base import Event, Message
from .data import Action, ActionError, StepResult

RoutingMethod = Literal["named", "rules", "embeddings", "model"]
"""`named`: whoever gave the command said who is to do it."""


class AgentCard(Message):
    """What a router knows of an agent."""

    name: str
    description: str = ""
    actions: tuple[str, ...]
    """Names of the actions that it may take."""
    words: tuple[tuple[str, str], ...] = ()
    """Its own words for actions, beside those that all agents know."""

    @property
    def role(self) -> str:
        """Its name for people: without `_agent` at the end."""
        return self.name.removesuffix("_agent")


class CommandRouted(Event):
    """A command was given to an agent."""

    command: str
    agent: str
    role: str
    method: RoutingMethod
    reason: str
    score: float | None = None
    """Cosine similarity, where texts were compared."""


class ClarificationRequest(Event):
    """A command could mean more than one agent, or none: whoever gave it is asked."""

    command: str
    method: RoutingMethod
    reason: str
    question: str
    candidates: tuple[str, ...] = ()
    """Names of the agents to choose from; empty where a choice among them would not help."""


Routing = CommandRouted | ClarificationRequest


class AgentReply(Message):
    """One command, and what it led to."""

    command: str
    agent: str
    """Who dealt with it; empty where nobody was found for it."""
    routing: Routing | None = None
    """None where there was nothing to choose."""
    thought: str = ""
    action: Action | None = None
    """None where it was not understood, or not allowed."""
    result: StepResult | None = None
    """None where a question was asked back."""

    @property
    def ok(self) -> bool:
        """Whether it was carried out."""
        return self.result is not None and not isinstance(self.result.observation.data, ActionError)
