"""What a person says to an agent, and what comes of it."""

from .agent_routing import Routing
from .base import Message
from .data import Action, ActionError, StepResult


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
