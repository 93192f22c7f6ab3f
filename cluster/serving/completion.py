"""Continued prompts, whole or in chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ...messages.chat import JsonObject, Usage
from .choices import Choices, follow_all, write_all
from .replies import Head, characters, completion_logprobs
from .service import Service, Written
from .wire import CompletionBody


async def completion_reply(
    service: Service, body: CompletionBody, prompts: Sequence[tuple[int, ...]]
) -> JsonObject:
    """The replies to all prompts."""
    asked = Choices(body.model, prompts, body.sampling, body.choices)
    replies = await write_all(service, asked)
    choices = [_choice(body, reply, index) for index, reply in enumerate(replies)]
    usage = asked.usage([reply.usage for reply in replies])
    return Head.new("cmpl", body.model).body("text_completion", choices, usage)


async def completion_chunks(
    service: Service, body: CompletionBody, prompts: Sequence[tuple[int, ...]]
) -> AsyncGenerator[JsonObject, None]:
    """The replies in chunks, each with the number of its choice."""
    head = Head.new("cmpl", body.model)
    asked = Choices(body.model, prompts, body.sampling, body.choices)
    offsets = [0] * len(asked.asked)
    usages = [Usage()] * len(offsets)
    async with aclosing(follow_all(service, asked)) as pieces:
        async for index, written in pieces:
            yield head.body("text_completion", [_choice(body, written, index, offsets[index])])
            offsets[index] += sum(map(characters, written.tokens))
            if written.finish_reason is not None:
                usages[index] = written.usage
    if body.wants_usage:
        yield head.body("text_completion", [], asked.usage(usages))


def _choice(body: CompletionBody, written: Written, index: int, offset: int = 0) -> JsonObject:
    logprobs = completion_logprobs(written.tokens, offset) if body.logprobs is not None else None
    return {
        "index": index,
        "text": written.text,
        "finish_reason": written.finish_reason,
        "logprobs": logprobs,
    }
