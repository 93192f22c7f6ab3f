"""A message with calls, in the shapes that chat templates take it in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from pydantic import JsonValue

from ...messages.chat import JsonObject

CallShape = Callable[[Mapping[str, JsonValue]], JsonObject]
"""Puts a message into a template's shape; messages without calls stay as they are."""


def write_call(name: str, arguments: JsonObject, call_id: str, content: str = "") -> JsonObject:
    """An assistant's message with one call; arguments are an object."""
    function: JsonObject = {"name": name, "arguments": arguments}
    call: JsonObject = {"id": call_id, "type": "function", "function": function}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def _as_it_is(message: Mapping[str, JsonValue]) -> JsonObject:
    return dict(message)


def _silent(message: Mapping[str, JsonValue]) -> JsonObject:
    """What a message with calls says is nothing, rather than an empty text (DeepSeek R1)."""
    silent = bool(message.get("tool_calls")) and not message.get("content")
    return {**message, "content": None} if silent else {**message}


def _with_texts(message: Mapping[str, JsonValue]) -> JsonObject:
    """Arguments are JSON text, as in OpenAI's own requests (DeepSeek V3)."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return {**message}
    return {**message, "tool_calls": [_with_text(call) for call in calls]}


def _with_text(call: JsonValue) -> JsonValue:
    if not isinstance(call, dict) or not isinstance(call["function"], dict):
        return call
    function = call["function"]
    text = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}


def _silent_with_texts(message: Mapping[str, JsonValue]) -> JsonObject:
    return _silent(_with_texts(message))


CALL_SHAPES: Final[tuple[CallShape, ...]] = (_as_it_is, _silent, _with_texts, _silent_with_texts)
