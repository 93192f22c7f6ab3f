"""Functions in a model's own words: how chat templates are told of them, and how calls are read back.

Calls are read in the form that Hermes began and Qwen and others took over:

    <tool_call>
    {"name": "weather", "arguments": {"town": "Oslo"}}
    </tool_call>
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

from pydantic import BaseModel, JsonValue, ValidationError

from messages.chat import (
    AssistantMessage,
    ConversationMessage,
    FunctionCall,
    FunctionSpec,
    JsonObject,
    ToolMessage,
)
from runtime.engines.chat import ChatFormat, ChatMessage

CALL = "<tool_call>"
_CALLS = re.compile(rf"{CALL}\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)


class Read(NamedTuple):
    """What a model wrote, taken apart."""

    text: str
    """Outside of its calls; a call that cannot be read stays in here."""
    calls: tuple[FunctionCall, ...]


class _Written(BaseModel):
    name: str
    arguments: dict[str, JsonValue] = {}


def read_calls(text: str) -> Read:
    """Take a reply apart."""
    calls: list[FunctionCall] = []

    def take(found: re.Match[str]) -> str:
        try:
            written = _Written.model_validate_json(found[1])
        except ValidationError:
            return found[0]
        arguments = json.dumps(written.arguments, ensure_ascii=False)
        calls.append(FunctionCall(id=f"call_{uuid4().hex}", name=written.name, arguments=arguments))
        return ""

    rest = _CALLS.sub(take, text)
    return Read(rest.strip() if calls else text, tuple(calls))


def calls_functions(messages: Sequence[ConversationMessage]) -> bool:
    """Whether a conversation has calls, or answers to them, in it."""
    return any(
        isinstance(message, ToolMessage) or (isinstance(message, AssistantMessage) and message.calls)
        for message in messages
    )


def open_conversation(
    chat: ChatFormat, messages: Sequence[ConversationMessage], functions: Sequence[FunctionSpec]
) -> tuple[int, ...]:
    """The tokens of a conversation, with functions where the model has a place for them.

    Raises ChatFormatError, BadArguments.
    """
    if functions or calls_functions(messages):
        return chat.opening_with_functions(write_conversation(messages), write_functions(functions))
    said = [message for message in messages if not isinstance(message, ToolMessage)]
    return chat.opening([ChatMessage(message.role, message.text) for message in said])


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


def _write_call(call: FunctionCall) -> JsonObject:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.parsed()},
    }
