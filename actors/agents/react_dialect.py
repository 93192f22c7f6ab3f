"""The Student's way of talking: `Thought:`, `Action:`, `Input:`, and `Answer:` at the end."""

from collections.abc import Callable

from ...messages.chat import ConversationMessage, JsonObject
from ...messages.data import Action
from ...runtime.tools.calls.parser import parse_reply
from .base import ANSWER, Decision
from .dialect import Unreadable, checked


class ReActDialect:
    """See `actors.agents.dialect.Dialect`: what an adapter was trained on is what it is asked in."""

    def __init__(self, system: str, read_input: Callable[[str, str], Action]) -> None:
        """`read_input` makes an action of its name and the line behind `Input:`."""
        self.system = system
        self.examples: tuple[ConversationMessage, ...] = ()
        self.schema: JsonObject | None = None
        self.stop: tuple[str, ...] = ("\nObservation:",)
        self._read_input = read_input

    def question(self, text: str, *, first: bool) -> str:
        """A task, or an observation."""
        return f"Task: {text}" if first else f"Observation: {text}"

    def read(self, text: str) -> Decision:
        """The first call, or the answer. Raises Unreadable."""
        reply = parse_reply(text)
        if reply.calls:
            call = reply.calls[0]
            return Decision(reply.thought, checked(self._read_input(call.tool, call.input)))
        if reply.answer is not None:
            return Decision(reply.thought, Action.of(ANSWER, text=reply.answer))
        raise Unreadable(f"there is no Action and no Answer: {text[:80]!r}")
