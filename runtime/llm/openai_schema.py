"""OpenAI's chat schema, which others took over: the pieces that clients write and servers answer with.

The client backends and our own server (`cluster.serving`) share it. The types of the `openai` package would
say the same, but it is an extra: neither the server nor the backends of Cohere and llama.cpp need it. It is
the reference of the tests.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, JsonValue

from ...messages.chat import (
    AssistantMessage,
    ChatFinish,
    ConversationMessage,
    FunctionCall,
    FunctionSpec,
    JsonObject,
    TokenLogprob,
    ToolMessage,
    Usage,
)
from .backends.base import StreamAccumulator

FINISH: dict[str, ChatFinish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "calls",
    "function_call": "calls",
    "content_filter": "filtered",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Function(_Part):
    name: str | None = None
    arguments: str | None = None


class _Call(_Part):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(_Part):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Token(_Part):
    token: str
    logprob: float


class _Logprobs(_Part):
    content: list[_Token] | None = None


class _Choice(_Part):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _CachedTokens(_Part):
    cached_tokens: int | None = None


class _Usage(_Part):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _CachedTokens | None = None


class ChatCompletionChunk(_Part):
    """A piece of a streamed reply, or a whole reply: they differ in one word."""

    choices: list[_Choice] = []
    model: str | None = None
    usage: _Usage | None = None


def read_chunk(accumulator: StreamAccumulator, chunk: ChatCompletionChunk) -> str:
    """Add what has come; hands back its text."""
    accumulator.model = chunk.model or accumulator.model
    if chunk.usage is not None:
        details = chunk.usage.prompt_tokens_details
        accumulator.usage = Usage(
            prompt_tokens=chunk.usage.prompt_tokens,
            completion_tokens=chunk.usage.completion_tokens,
            cached_tokens=(details.cached_tokens or 0) if details else 0,
        )
    return "".join(_read_choice(accumulator, choice) for choice in chunk.choices[:1])


def _read_choice(accumulator: StreamAccumulator, choice: _Choice) -> str:
    said = choice.delta or choice.message or _Delta()
    for position, call in enumerate(said.tool_calls or ()):
        function = call.function or _Function()
        accumulator.call(
            position if call.index is None else call.index,
            id=call.id or "",
            name=function.name or "",
            arguments=function.arguments or "",
        )
    for token in (choice.logprobs.content if choice.logprobs else None) or ():
        accumulator.tokens.append(TokenLogprob(text=token.token, logprob=token.logprob))
    if choice.finish_reason is not None:
        accumulator.finish = FINISH.get(choice.finish_reason, "stop")
    return accumulator.text((said.content or "") + (said.refusal or ""))


def write_messages(messages: Sequence[ConversationMessage]) -> list[JsonValue]:
    """A conversation."""
    return [_write(message) for message in messages]


def write_tools(tools: Sequence[FunctionSpec]) -> list[JsonValue]:
    """Functions that may be called."""
    return [{"type": "function", "function": tool.model_dump(mode="json")} for tool in tools]


def write_calls(calls: Sequence[FunctionCall], *, numbered: bool = False) -> list[JsonValue]:
    """Calls of functions; `numbered` where they are part of a stream."""
    return [
        ({"index": index} if numbered else {})
        | {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for index, call in enumerate(calls)
    ]


def write_usage(usage: Usage) -> JsonObject:
    """Tokens that were read and sampled; `read_chunk` is the way back."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _write(message: ConversationMessage) -> JsonObject:
    if isinstance(message, ToolMessage):
        return {"role": "tool", "tool_call_id": message.call_id, "content": message.text}
    written: JsonObject = {"role": message.role, "content": message.text}
    if isinstance(message, AssistantMessage) and message.calls:
        written["tool_calls"] = write_calls(message.calls)
    return written
