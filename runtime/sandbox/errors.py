"""Errors of the sandbox itself; what goes wrong inside it is a result, not an error."""

from ...configs.errors import AgentFactoryError


class SandboxError(AgentFactoryError):
    """The sandbox cannot be started here, or not with the isolation that the settings ask for."""


class AccessRefused(AgentFactoryError):
    """A safety rule forbids it, or a path leads out of the workspace; the message says why."""
