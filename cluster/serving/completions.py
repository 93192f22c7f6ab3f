"""Replies to chat and completion requests, whole or in chunks.

A request may want several: each prompt `n` times, all at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import NamedTuple, TypeVar

from pydantic import JsonValue

from ...messages.chat import FunctionSpec, JsonObject, Usage
from ...messages.generation import SamplingSettings
from ...runtime.llm.openai_schema import write_calls
from ...runtime.tasks import task_group
from .request_schema import ChatBody, CompletionBody
from .response_schema import ResponseHead, characters, chat_logprobs, completion_logprobs
from .served_model import ServedModel, TextDelta

T = TypeVar("T")


class Choices(NamedTuple):
    """Choices asked of one model; those of a prompt stand side by side."""

    model: str
    prompts: Sequence[tuple[int, ...]]
    sampling: SamplingSettings
    n: int = 1
    functions: Sequence[FunctionSpec] = ()
    """Calls are looked for in the replies."""

    @property
    def asked(self) -> list[tuple[tuple[int, ...], SamplingSettings]]:
        """The prompt and the sampling of each choice: with a seed, each choice has one of its own."""
        seeds = [None if self.sampling.seed is None else self.sampling.seed + k for k in range(self.n)]
        return [
            (prompt, self.sampling.model_copy(update={"seed": seed}))
            for prompt in self.prompts
            for seed in seeds
        ]

    def usage(self, replies: Sequence[Usage]) -> Usage:
        """Of all choices together; a prompt is counted once."""
        return Usage(
            prompt_tokens=sum(reply.prompt_tokens for reply in replies[:: self.n]),
            completion_tokens=sum(reply.completion_tokens for reply in replies),
            cached_tokens=sum(reply.cached_tokens for reply in replies[:: self.n]),
        )


async def write_all(service: ServedModel, choices: Choices) -> list[TextDelta]:
    """The replies, each in one piece. Raises what the engine raises; then none is written on."""
    replies: dict[int, TextDelta] = {}

    async def one(index: int, prompt: tuple[int, ...], sampling: SamplingSettings) -> None:
        functions = choices.functions
        replies[index] = await service.write_whole(choices.model, prompt, sampling, functions=functions)

    async with task_group() as group:
        for index, (prompt, sampling) in enumerate(choices.asked):
            group.start_soon(one, index, prompt, sampling)
    return [replies[index] for index in range(len(replies))]


def follow_all(service: ServedModel, choices: Choices) -> AsyncGenerator[tuple[int, TextDelta], None]:
    """The pieces of all replies with the number of their choice, in the order in which they come."""
    return interleave([
        service.write(choices.model, prompt, sampling, live=True, functions=choices.functions)
        for prompt, sampling in choices.asked
    ])  # fmt: skip


async def interleave(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Items of several generators, each with its generator's number; all are closed at the end.

    Tasks rather than a task group: whoever iterates may be another task each time.
    """
    awaited = {asyncio.ensure_future(anext(stream)): number for number, stream in enumerate(streams)}
    try:
        while awaited:
            done, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            for future in sorted(done, key=awaited.__getitem__):
                number = awaited.pop(future)
                try:
                    piece = future.result()
                except StopAsyncIteration:
                    continue
                yield number, piece
                awaited[asyncio.ensure_future(anext(streams[number]))] = number
    finally:
        for future in awaited:
            future.cancel()
        await asyncio.gather(*awaited, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


async def chat_reply(service: ServedModel, body: ChatBody, prompt: tuple[int, ...]) -> JsonObject:
    """The replies, each in one piece."""
    asked = _asked(body, prompt)
    replies = await write_all(service, asked)
    choices = [_chat_choice(body, written, index) for index, written in enumerate(replies)]
    usage = asked.usage([written.usage for written in replies])
    return ResponseHead.new("chatcmpl", body.model).body("chat.completion", choices, usage)


async def chat_chunks(
    service: ServedModel, body: ChatBody, prompt: tuple[int, ...]
) -> AsyncGenerator[JsonObject, None]:
    """The replies in chunks, each with the number of its choice; at last the usage of all."""
    head, asked = ResponseHead.new("chatcmpl", body.model), _asked(body, prompt)
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


def _chat_choice(body: ChatBody, written: TextDelta, index: int) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": written.text, "refusal": None}
    if written.calls:
        message |= {"content": written.text or None, "tool_calls": write_calls(written.calls)}
    return {
        "index": index,
        "message": message,
        "finish_reason": _finish(written),
        "logprobs": chat_logprobs(written.tokens) if body.logprobs else None,
    }


def _deltas(body: ChatBody, index: int, written: TextDelta) -> Iterator[JsonObject]:
    """The text as it comes, the calls, the reason of its end."""
    if written.text or (body.logprobs and written.tokens):
        logprobs = chat_logprobs(written.tokens) if body.logprobs else None
        yield _delta(index, content=written.text) | {"logprobs": logprobs}
    if written.calls:
        yield _delta(index, tool_calls=write_calls(written.calls, numbered=True))
    if written.finish_reason is not None:
        yield _delta(index) | {"finish_reason": _finish(written)}


def _delta(index: int, **delta: JsonValue) -> JsonObject:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _finish(written: TextDelta) -> str | None:
    return "tool_calls" if written.calls else written.finish_reason


async def completion_reply(
    service: ServedModel, body: CompletionBody, prompts: Sequence[tuple[int, ...]]
) -> JsonObject:
    """The replies to all prompts."""
    asked = Choices(body.model, prompts, body.sampling, body.choices)
    replies = await write_all(service, asked)
    choices = [_completion_choice(body, reply, index) for index, reply in enumerate(replies)]
    usage = asked.usage([reply.usage for reply in replies])
    return ResponseHead.new("cmpl", body.model).body("text_completion", choices, usage)


async def completion_chunks(
    service: ServedModel, body: CompletionBody, prompts: Sequence[tuple[int, ...]]
) -> AsyncGenerator[JsonObject, None]:
    """The replies in chunks, each with the number of its choice."""
    head = ResponseHead.new("cmpl", body.model)
    asked = Choices(body.model, prompts, body.sampling, body.choices)
    offsets = [0] * len(asked.asked)
    usages = [Usage()] * len(offsets)
    async with aclosing(follow_all(service, asked)) as pieces:
        async for index, written in pieces:
            yield head.body("text_completion", [_completion_choice(body, written, index, offsets[index])])
            offsets[index] += sum(map(characters, written.tokens))
            if written.finish_reason is not None:
                usages[index] = written.usage
    if body.wants_usage:
        yield head.body("text_completion", [], asked.usage(usages))


def _completion_choice(body: CompletionBody, written: TextDelta, index: int, offset: int = 0) -> JsonObject:
    logprobs = completion_logprobs(written.tokens, offset) if body.logprobs is not None else None
    return {
        "index": index,
        "text": written.text,
        "finish_reason": written.finish_reason,
        "logprobs": logprobs,
    }
