"""Continued prompts, whole or in chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from cluster.serving.replies import Head, completion_logprobs
from cluster.serving.service import Service, Written
from cluster.serving.wire import CompletionBody
from messages.chat import JsonObject, Usage
from runtime.groups import task_group


async def completion_reply(service: Service, body: CompletionBody) -> JsonObject:
    """The replies to all prompts."""
    replies: dict[int, Written] = {}

    async def one(index: int, prompt: str | tuple[int, ...]) -> None:
        tokens = await _tokens(service, prompt)
        replies[index] = await service.write_whole(body.model, tokens, body.sampling)

    async with task_group() as group:
        for index, prompt in enumerate(body.prompts):
            group.start_soon(one, index, prompt)
    choices = [_choice(body, replies[index], index) for index in range(len(replies))]
    usage = Usage(
        prompt_tokens=sum(reply.usage.prompt_tokens for reply in replies.values()),
        completion_tokens=sum(reply.usage.completion_tokens for reply in replies.values()),
        cached_tokens=sum(reply.usage.cached_tokens for reply in replies.values()),
    )
    return Head.new("cmpl", body.model).body("text_completion", choices, usage)


async def completion_chunks(service: Service, body: CompletionBody) -> AsyncGenerator[JsonObject, None]:
    """The reply to one prompt, in chunks."""
    head = Head.new("cmpl", body.model)
    offset = 0
    tokens = await _tokens(service, body.prompts[0])
    async with aclosing(service.write(body.model, tokens, body.sampling, live=True)) as pieces:
        async for written in pieces:
            yield head.body("text_completion", [_choice(body, written, 0, offset)])
            offset += sum(len(token.text) for token in written.tokens)
            if written.finish_reason is not None and body.wants_usage:
                yield head.body("text_completion", [], written.usage)


async def _tokens(service: Service, prompt: str | tuple[int, ...]) -> tuple[int, ...]:
    return await asyncio.to_thread(service.chat.encode, prompt) if isinstance(prompt, str) else prompt


def _choice(body: CompletionBody, written: Written, index: int, offset: int = 0) -> JsonObject:
    logprobs = completion_logprobs(written.tokens, offset) if body.logprobs is not None else None
    return {
        "index": index,
        "text": written.text,
        "finish_reason": written.finish_reason,
        "logprobs": logprobs,
    }
