"""Token estimates, and truncation: a conversation that outgrows the context loses its oldest turns, by rule.

System messages stay, and so does the last user message with what belongs to it. Whole exchanges go
first: a user message with the answers to it. If the last exchange alone is too long (an agent that
calls many tools), its oldest steps go: an assistant message with the results of its calls.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...messages.chat import AssistantMessage, ConversationMessage, SystemMessage, UserMessage
from .errors import ContextTooLong

BYTES_PER_TOKEN = 3
"""Real texts have more, so that an estimate errs on the safe side."""
PER_MESSAGE = 8
"""Tokens of markup around a message."""


class TruncatedConversation(NamedTuple):
    """A conversation that fits."""

    messages: tuple[ConversationMessage, ...]
    dropped: int


def estimate_tokens(text: str) -> int:
    """At most how many tokens a text has, for ordinary texts."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def estimate_prompt(messages: Sequence[ConversationMessage]) -> int:
    """At most how many tokens a conversation has."""
    return sum(PER_MESSAGE + estimate_tokens(_content(message)) for message in messages)


def truncate_to_context(
    messages: Sequence[ConversationMessage],
    room: int,
    count: Callable[[Sequence[ConversationMessage]], int],
) -> TruncatedConversation:
    """Drop as little as makes `count` of the rest at most `room` tokens. Raises ContextTooLong."""
    kept = list(messages)
    while (tokens := count(kept)) > room:
        oldest = _oldest(kept)
        if not oldest:
            raise ContextTooLong(
                f"the last message and the system prompt need {tokens} tokens and the context has room for "
                f"{room}; shorten them, lower max_tokens or raise context_tokens"
            )
        kept = [message for index, message in enumerate(kept) if index not in oldest]
    return TruncatedConversation(tuple(kept), len(messages) - len(kept))


def _oldest(messages: Sequence[ConversationMessage]) -> range:
    """Indexes of what goes first; empty when nothing may go. `system` messages inside are no part of it."""
    said = [i for i, message in enumerate(messages) if not isinstance(message, SystemMessage)]
    asked = [i for i in said if isinstance(messages[i], UserMessage)]
    if len(asked) > 1:
        return _up_to(messages, said[0], asked[1] if said[0] == asked[0] else asked[0])
    steps = [i for i in said if isinstance(messages[i], AssistantMessage)]
    if asked and steps and steps[0] < asked[0]:
        return _up_to(messages, steps[0], asked[0])
    if len(steps) > 1:
        return _up_to(messages, steps[0], steps[1])
    return range(0)


def _up_to(messages: Sequence[ConversationMessage], start: int, end: int) -> range:
    """From `start`, up to `end` or to a system message on the way."""
    for i in range(start, end):
        if isinstance(messages[i], SystemMessage):
            return range(start, i)
    return range(start, end)


def _content(message: ConversationMessage) -> str:
    if isinstance(message, AssistantMessage):
        return message.text + "".join(call.name + call.arguments for call in message.calls)
    return message.text
