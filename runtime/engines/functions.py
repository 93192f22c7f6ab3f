"""Functions in a model's own words: how it is told of them, of its calls, and of what they came to."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from ...messages.chat import (
    AssistantMessage,
    ConversationMessage,
    FunctionCall,
    FunctionSpec,
    JsonObject,
    ToolMessage,
)
from .chat import ChatFormat, ChatMessage
from .text_functions import write_as_text


def calls_functions(messages: Sequence[ConversationMessage]) -> bool:
    """Whether a conversation has calls, or answers to them, in it."""
    return any(
        isinstance(message, ToolMessage) or (isinstance(message, AssistantMessage) and message.calls)
        for message in messages
    )


def open_conversation(
    chat: ChatFormat, messages: Sequence[ConversationMessage], functions: Sequence[FunctionSpec]
) -> tuple[int, ...]:
    """The tokens of a conversation; what the model's template has no place for is told as text.

    Raises ChatFormatError, BadArguments.
    """
    if functions and not chat.takes_functions:
        return chat.opening(write_as_text(messages, functions))
    as_text = calls_functions(messages) and chat.call_shape is None
    if not functions:
        if calls_functions(messages) and not as_text:
            return chat.opening_with_functions(write_conversation(messages), ())
        return chat.opening(write_as_text(messages))
    if as_text:
        told = [_write_plain(message) for message in write_as_text(messages)]
        return chat.opening_with_functions(told, write_functions(functions))
    return chat.opening_with_functions(write_conversation(messages), write_functions(functions))


def write_functions(functions: Sequence[FunctionSpec]) -> list[JsonValue]:
    """As templates have them."""
    return [{"type": "function", "function": function.model_dump(mode="json")} for function in functions]


def write_conversation(messages: Sequence[ConversationMessage]) -> list[JsonObject]:
    """As templates have it: the arguments of calls are objects there, not text. Raises BadArguments."""
    return [_write(message) for message in messages]


def _write(message: ConversationMessage) -> JsonObject:
    if isinstance(message, ToolMessage):
        return {
            "role": "tool",
            "tool_call_id": message.call_id,
            "name": message.name,
            "content": message.text,
        }
    written: JsonObject = {"role": message.role, "content": message.text}
    if isinstance(message, AssistantMessage) and message.calls:
        written["tool_calls"] = [_write_call(call) for call in message.calls]
    return written


def _write_plain(message: ChatMessage) -> JsonObject:
    return {"role": message.role, "content": message.content}


def _write_call(call: FunctionCall) -> JsonObject:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.parsed()},
    }
