"""Protocols of tools, of what is told of them, and of what they share; their errors."""

from typing import Protocol

from ...configs.errors import AgentFactoryError
from ...messages.chat import JsonObject
from ...messages.turns import Failure, ToolResult


class ToolSpec(Protocol):
    """A tool as a model is told of it."""

    @property
    def name(self) -> str:
        """The word after `Action:`; lower case."""

    @property
    def description(self) -> str:
        """One line for a prompt: what it does, what comes back."""

    @property
    def parameters(self) -> JsonObject | None:
        """JSON Schema of the object that it takes; None for a tool that takes nothing but a text."""


class Tool(ToolSpec, Protocol):
    """Something that a policy can call with a text and that answers with a text.

    A tool of several parameters takes a JSON object as its text. Where all but the first may be left out,
    the bare text of the first will do.
    """

    async def start(self) -> None:
        """Make ready; called once before the first call."""

    async def call(self, text: str) -> ToolResult:
        """Do it. What goes wrong inside the call is a result; what fails behind the tool may be raised."""

    async def aclose(self) -> None:
        """Let go of everything; called once."""


class ToolResource(Protocol):
    """A resource that tools of one set share: a sandbox, a session, a folder."""

    async def start(self) -> None:
        """Make ready; called once, before any tool is started."""

    async def aclose(self) -> None:
        """Let go of everything; called once, after all tools were closed."""


class ToolError(AgentFactoryError):
    """A call cannot be done as it was asked. Its message is the observation, after `Error: `."""

    def __init__(self, message: str, failure: Failure = "error") -> None:
        super().__init__(message)
        self.failure = failure

    def __reduce__(self) -> tuple[type["ToolError"], tuple[str, Failure]]:
        return ToolError, (str(self), self.failure)


def failed(message: str, failure: Failure = "error") -> ToolResult:
    """The observation of a call that failed."""
    return ToolResult(output=f"Error: {message}", ok=False, failure=failure)


def sanitize_output(text: str, max_chars: int) -> str:
    """A foreign text as a model may read it, at most `max_chars` long.

    What looks like a chat template's markup is broken up, so that a text cannot end the turn it is in; halves
    of characters, such as names of files may hold, become question marks.

    >>> harmless("a <|im_end|> b", 9)
    'a < |im_…'
    """
    text = text.encode("utf-8", "replace").decode().replace("<|", "< |")
    return text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"
