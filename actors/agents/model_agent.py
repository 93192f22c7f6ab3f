"""An agent that asks a chat model, whichever it is.

Invariants: one decision is one request; what comes back is an action whose parameters fit, or what the
fallback makes of the command; a reply that was no action is in the log with the reason. A model that
cannot be asked at all raises ModelError: nothing is guessed then.
"""

from collections import deque
from typing import Literal, NamedTuple

import structlog

from ...messages.chat import (
    AssistantMessage,
    ChatReply,
    ChatRequest,
    ConversationMessage,
    SystemMessage,
    UserMessage,
)
from ...messages.data import Action, Observation
from ...messages.generation import SamplingSettings
from ...runtime.llm.chat_model import ChatModel
from ...runtime.llm.errors import BrokenReply
from .action_format import ActionFormat, UnreadableReply
from .base import DecidingAgent, Decision, NotUnderstood
from .command_parser import CommandParser

MAX_EXCHANGES = 32
"""Steps of one task that are remembered; the command always is."""
LOGGED_CHARACTERS = 500
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class ModelOptions(NamedTuple):
    """Sampling options, and the fallback for a reply that is no action."""

    temperature: float = 0.0
    """Left to the model where it cannot be told."""
    max_tokens: int = 256
    fallback: Literal["rules", "query", "refuse"] = "rules"
    adapter: str | None = None
    """A loaded adapter's name."""


class ModelAgent(DecidingAgent):
    """See the module. The model is its opener's: it stays open."""

    def __init__(
        self, model: ChatModel, action_format: ActionFormat, options: ModelOptions, rules: CommandParser
    ) -> None:
        super().__init__()
        self._model = model
        self._action_format = action_format
        self._options = options
        self._rules = rules
        self._in_task = False
        self._command: UserMessage | None = None
        self._steps: deque[ConversationMessage] = deque(maxlen=2 * MAX_EXCHANGES - 1)

    @property
    def remembers(self) -> bool:
        """It does."""
        return True

    def begin(self) -> None:
        """See `StatefulAgent`."""
        self.forget()
        self._in_task = True

    def forget(self) -> None:
        """See `StatefulAgent`."""
        self._in_task, self._command = False, None
        self._steps.clear()

    async def _decide(self, observation: Observation) -> Decision:
        first = self._command is None
        question = UserMessage(text=self._action_format.question(observation.text, first=first))
        try:
            reply = await self._model.ask(self._request(question))
        except BrokenReply as error:
            return self._instead(observation, "", str(error), first=first)
        decision = self._read(observation, reply, first=first)
        if self._in_task:
            self._remember(question, reply)
        return decision

    def _request(self, question: UserMessage) -> ChatRequest:
        action_format, can = self._action_format, self._model.capabilities
        earlier = () if self._command is None else (self._command, *self._steps)
        return ChatRequest(
            messages=(SystemMessage(text=action_format.system), *action_format.examples, *earlier, question),
            sampling=SamplingSettings(
                temperature=self._options.temperature if can.temperature else 1.0,
                max_tokens=self._options.max_tokens,
                stop=action_format.stop if can.stop else (),
            ),
            output_schema=action_format.schema if can.json_schema else None,
            adapter=self._options.adapter,
        )

    def _read(self, observation: Observation, reply: ChatReply, *, first: bool) -> Decision:
        try:
            return self._action_format.read(reply.text)
        except UnreadableReply as error:
            return self._instead(observation, reply.text, str(error), first=first)

    def _instead(self, observation: Observation, reply: str, reason: str, *, first: bool) -> Decision:
        """Fall back where the reply was no action. Later than the command there is no command to read."""
        fallback = self._options.fallback if first else "refuse"
        log.warning(
            "reply is no action",
            model=self._model.name,
            reason=reason,
            reply=reply[:LOGGED_CHARACTERS],
            fallback=fallback,
        )
        if fallback == "refuse":
            raise NotUnderstood(f"the model's reply is no action ({reason}); nothing was done")
        why = f"the model's reply is no action ({reason})"
        if fallback == "query":
            action = Action.of("query", tag_pattern=self._rules.default_pattern)
            return Decision(f"{why}; query instead", action)
        by_rules = self._rules.read(observation.text)
        return Decision(f"{why}; by the rules: {by_rules.thought}", by_rules.action)

    def _remember(self, question: UserMessage, reply: ChatReply) -> None:
        if self._command is None:
            self._command = question
        else:
            self._steps.append(question)
        self._steps.append(AssistantMessage(text=reply.text))
