"""What can go wrong with the sandbox itself; what goes wrong inside it is a result, not an error."""

from configs.errors import AgentFactoryError


class SandboxError(AgentFactoryError):
    """The sandbox cannot be started here, or not with the isolation that the settings ask for."""
