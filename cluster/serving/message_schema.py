"""The messages of a chat, in OpenAI's form, and what they mean in ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...messages.chat import (
    AssistantMessage,
    ConversationMessage,
    FunctionCall,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from .errors import refused


class BodyPart(BaseModel):
    """A piece of a request; what a client's own reply carries back beside these fields is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class ContentPart(BodyPart):
    """A piece of a message; only text is read."""

    type: str
    text: str = ""


Content = str | tuple[ContentPart, ...]


class CalledFunction(BodyPart):
    """Name and arguments of a called function."""

    name: str
    arguments: str = "{}"


class CallPart(BodyPart):
    """A call that the model wrote earlier."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class SystemTurn(BodyPart):
    """Instructions to the model."""

    role: Literal["system", "developer"]
    content: Content


class UserTurn(BodyPart):
    """Message of the user."""

    role: Literal["user"]
    content: Content


class AssistantTurn(BodyPart):
    """Earlier reply of the model."""

    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: tuple[CallPart, ...] | None = None


class ToolTurn(BodyPart):
    """Result of a call."""

    role: Literal["tool"]
    tool_call_id: str
    content: Content


Turn = Annotated[SystemTurn | UserTurn | AssistantTurn | ToolTurn, Field(discriminator="role")]


def conversation_of(turns: Sequence[Turn]) -> tuple[ConversationMessage, ...]:
    """The messages in our form. Raises ApiError for the result of a call that nobody made."""
    names: dict[str, str] = {}
    told: list[ConversationMessage] = []
    for turn in turns:
        if isinstance(turn, AssistantTurn):
            names |= {call.id: call.function.name for call in turn.tool_calls or ()}
        told.append(_message(turn, names))
    return tuple(told)


def _message(turn: Turn, names: dict[str, str]) -> ConversationMessage:
    match turn:
        case SystemTurn():
            return SystemMessage(text=_text(turn.content))
        case UserTurn():
            return UserMessage(text=_text(turn.content))
        case AssistantTurn():
            calls = tuple(
                FunctionCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
                for call in turn.tool_calls or ()
            )
            return AssistantMessage(text=_text(turn.content or ""), calls=calls)
        case ToolTurn():
            if turn.tool_call_id not in names:
                raise refused(
                    f"messages: the result of {turn.tool_call_id!r} has no call before it",
                    "messages",
                    "invalid_value",
                )
            name = names[turn.tool_call_id]
            return ToolMessage(call_id=turn.tool_call_id, name=name, text=_text(turn.content))


def _text(content: Content) -> str:
    if isinstance(content, str):
        return content
    for part in content:
        if part.type != "text":
            raise refused(f"messages: only text is read here, found {part.type!r}", "messages")
    return "".join(part.text for part in content)
