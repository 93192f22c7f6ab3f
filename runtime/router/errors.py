"""What a router raises beside the errors of its settings."""

from ...configs.errors import AgentFactoryError, BadInput
from ...messages.routing import RouteDecision


class NoAnswer(AgentFactoryError):
    """No model of the chain answered. The message gives each one's reason.

    Attributes:
        decision: the whole record.
    """

    def __init__(self, decision: RouteDecision) -> None:
        super().__init__(decision)
        self.decision = decision

    def __str__(self) -> str:
        reasons = "; ".join(f"{seen.model}: {seen.reason}" for seen in self.decision.considered)
        return f"no model of the chain answered: {reasons}"


class UnknownDecision(BadInput):
    """No decision of this id is waiting for its outcome."""


class StateDamaged(BadInput):
    """The file in which a router remembers is not one, or another program holds it."""


class RouterClosed(AgentFactoryError):
    """The router was closed, or was never opened."""
