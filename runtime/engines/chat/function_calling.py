"""Function calling in prompts: functions, calls and results, as the model's chat template has them.

For templates without a place for functions they are written as text, with ReAct's labels in plain messages:

    Action: weather
    Input: {"town": "Oslo"}
    Observation: -7

It is the form in which this project's own agents work, and which its small models know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from ....messages.chat import (
    AssistantMessage,
    ConversationMessage,
    FunctionCall,
    FunctionSpec,
    JsonObject,
    ToolMessage,
)
from ...tools.calls.json_calls import Signatures, make_call
from ...tools.parameters import write_schema
from .format import ChatFormat, ChatMessage


def calls_functions(messages: Sequence[ConversationMessage]) -> bool:
    """True if a conversation has calls, or answers to them, in it."""
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


_HOW: Final = """\
You may call these tools. To call one, end your reply with two lines:
Action: the tool's name
Input: its arguments as a JSON object
You are then shown an Observation. When you need no tool, answer as usual.

Tools:
"""


def describe_functions(functions: Sequence[FunctionSpec]) -> str:
    """The system prompt that lists functions and says how to call them."""
    lines = (
        f"- {function.name}({write_schema(function.parameters)}): {function.description}".rstrip(": ")
        for function in functions
    )
    return _HOW + "\n".join(lines)


def write_as_text(
    messages: Sequence[ConversationMessage], functions: Sequence[FunctionSpec] = ()
) -> list[ChatMessage]:
    """A conversation whose functions, calls and results are texts. Raises BadArguments."""
    signatures: Signatures = {function.name: _parameters(function) for function in functions}
    told: list[ChatMessage] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            seen = f"Observation: {message.text}"
            if told and told[-1].role == "user" and told[-1].content.startswith("Observation: "):
                told[-1] = told[-1]._replace(content=f"{told[-1].content}\n{seen}")
            else:
                told.append(ChatMessage("user", seen))
        elif isinstance(message, AssistantMessage):
            told.append(ChatMessage("assistant", _with_calls(message, signatures)))
        else:
            told.append(ChatMessage(message.role, message.text))
    return _with_system(told, describe_functions(functions)) if functions else told


def _with_calls(message: AssistantMessage, signatures: Signatures) -> str:
    parts = [message.text.rstrip()] if message.text.strip() else []
    for call in message.calls:
        made = make_call(call.name, dict(call.parsed()), signatures)
        parts.append(f"Action: {call.name}\nInput: {made.input if made else call.arguments}")
    return "\n".join(parts)


def _with_system(told: list[ChatMessage], text: str) -> list[ChatMessage]:
    """Behind what the system message says already."""
    if told and told[0].role == "system":
        return [ChatMessage("system", f"{told[0].content}\n\n{text}"), *told[1:]]
    return [ChatMessage("system", text), *told]


def _parameters(function: FunctionSpec) -> tuple[str, ...]:
    properties = function.parameters.get("properties")
    return tuple(properties) if isinstance(properties, dict) else ()
