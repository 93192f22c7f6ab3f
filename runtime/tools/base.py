"""What a tool is."""

from typing import Protocol

from messages.turns import ToolResult


class Tool(Protocol):
    """Something that a policy can call with a text and that answers with a text."""

    @property
    def name(self) -> str:
        """The word after `Action:`; lower case."""

    @property
    def description(self) -> str:
        """One line for a prompt: what to write as input, what comes back."""

    async def start(self) -> None:
        """Make ready; called once before the first call."""

    async def call(self, text: str) -> ToolResult:
        """Do it. What goes wrong inside the call is a result; what fails behind the tool may be raised."""

    async def aclose(self) -> None:
        """Let go of everything; called once."""
