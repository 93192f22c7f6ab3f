"""Functions for models whose chat template has no place for them: ReAct's labels, in plain messages.

    Action: weather
    Input: {"town": "Oslo"}
    Observation: -7

It is the form in which this project's own agents work, and which its small models know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...messages.chat import AssistantMessage, ConversationMessage, FunctionSpec, ToolMessage
from ..tools.parameters import write_schema
from ..tools.shapes import Signatures, make_call
from .chat import ChatMessage

_HOW: Final = """\
You may call these tools. To call one, end your reply with two lines:
Action: the tool's name
Input: its arguments as a JSON object
You are then shown an Observation. When you need no tool, answer as usual.

Tools:
"""


def describe_functions(functions: Sequence[FunctionSpec]) -> str:
    """What a model is told of functions, and of how to call them."""
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
