"""Which agent a command was given to, and why."""

from typing import Literal

from .base import Event, Message

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
