"""Errors of chat models and of their router, by their meaning to the caller. No message holds a key."""

from typing import ClassVar

from ...configs.errors import AgentFactoryError, BadInput
from ...messages.routing import RouteDecision


class ModelError(AgentFactoryError):
    """Base of everything that a chat model raises on purpose."""

    retryable: ClassVar[bool] = False


class ModelUnavailable(ModelError):
    """The server cannot be reached, is overloaded or broke (5xx)."""

    retryable = True


class ModelTimeout(ModelError):
    """The model was silent for too long, or the whole call took too long."""

    retryable = True


class BrokenReply(ModelError):
    """No reply can be read from what came: JSON that does not parse, or a stream that was cut."""

    retryable = True


class RateLimited(ModelError):
    """Too many requests, by the server's count or by our own settings.

    Attributes:
        retry_after_s: how long the server asks us to wait; None if it does not say.
    """

    retryable = True

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class NotAuthorized(ModelError):
    """The server does not accept the key, or the key may not use this model."""


class RequestRefused(ModelError):
    """The server says that the request is wrong: an unknown model, a bad parameter."""


class ContextTooLong(ModelError):
    """The conversation does not fit the context, not even without its oldest turns."""


class Unsupported(ModelError):
    """The request asks for what this backend cannot do."""


class ModelClosed(ModelError):
    """The model was closed, or was never opened."""


class CommandFailed(ModelError):
    """The program could not be started, ended with an error, or wrote too much."""


class ClientFailure(ModelError):
    """The error of a client library, as text without secrets: the `__cause__` of the others.

    The library's own error holds the request with its key, and often cannot be pickled.
    """


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
