"""A chat's replies, whole or in chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from pydantic import JsonValue

from ...messages.chat import JsonObject, Usage
from .choices import Choices, follow_all, write_all
from .replies import Head, calls_of, chat_logprobs
from .service import Service, Written
from .wire import ChatBody


async def chat_reply(service: Service, body: ChatBody, prompt: tuple[int, ...]) -> JsonObject:
    """The replies, each in one piece."""
    asked = _asked(body, prompt)
    replies = await write_all(service, asked)
    choices = [_choice(body, written, index) for index, written in enumerate(replies)]
    usage = asked.usage([written.usage for written in replies])
    return Head.new("chatcmpl", body.model).body("chat.completion", choices, usage)


async def chat_chunks(
    service: Service, body: ChatBody, prompt: tuple[int, ...]
) -> AsyncGenerator[JsonObject, None]:
    """The replies in chunks, each with the number of its choice; at last the usage of all."""
    head, asked = Head.new("chatcmpl", body.model), _asked(body, prompt)
    begun: set[int] = set()
    usages = [Usage()] * body.choices
    async with aclosing(follow_all(service, asked)) as pieces:
        async for index, written in pieces:
            if index not in begun:
                begun.add(index)
                yield head.body("chat.completion.chunk", [_delta(index, role="assistant", content="")])
            for choice in _deltas(body, index, written):
                yield head.body("chat.completion.chunk", [choice])
            if written.finish_reason is not None:
                usages[index] = written.usage
    if body.wants_usage:
        yield head.body("chat.completion.chunk", [], asked.usage(usages))


def _asked(body: ChatBody, prompt: tuple[int, ...]) -> Choices:
    return Choices(body.model, (prompt,), body.sampling, body.choices, functions=body.functions)


def _choice(body: ChatBody, written: Written, index: int) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": written.text, "refusal": None}
    if written.calls:
        message |= {"content": written.text or None, "tool_calls": calls_of(written.calls, chunk=False)}
    return {
        "index": index,
        "message": message,
        "finish_reason": _finish(written),
        "logprobs": chat_logprobs(written.tokens) if body.logprobs else None,
    }


def _deltas(body: ChatBody, index: int, written: Written) -> Iterator[JsonObject]:
    """The text as it comes, the calls, the reason of its end."""
    if written.text or (body.logprobs and written.tokens):
        logprobs = chat_logprobs(written.tokens) if body.logprobs else None
        yield _delta(index, content=written.text) | {"logprobs": logprobs}
    if written.calls:
        yield _delta(index, tool_calls=calls_of(written.calls, chunk=True))
    if written.finish_reason is not None:
        yield _delta(index) | {"finish_reason": _finish(written)}


def _delta(index: int, **delta: JsonValue) -> JsonObject:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _finish(written: Written) -> str | None:
    return "tool_calls" if written.calls else written.finish_reason
