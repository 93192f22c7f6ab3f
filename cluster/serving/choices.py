"""Several replies to one request: each prompt `n` times, all at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, TypeVar

from ...messages.chat import FunctionSpec, Usage
from ...messages.generation import SamplingSettings
from ...runtime.groups import task_group
from .service import Service, Written

T = TypeVar("T")


class Choices(NamedTuple):
    """What is asked of one model; the choices of a prompt stand side by side."""

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


async def write_all(service: Service, choices: Choices) -> list[Written]:
    """The replies, each in one piece. Raises what the engine raises; then none is written on."""
    replies: dict[int, Written] = {}

    async def one(index: int, prompt: tuple[int, ...], sampling: SamplingSettings) -> None:
        functions = choices.functions
        replies[index] = await service.write_whole(choices.model, prompt, sampling, functions=functions)

    async with task_group() as group:
        for index, (prompt, sampling) in enumerate(choices.asked):
            group.start_soon(one, index, prompt, sampling)
    return [replies[index] for index in range(len(replies))]


def follow_all(service: Service, choices: Choices) -> AsyncGenerator[tuple[int, Written], None]:
    """The pieces of all replies with the number of their choice, in the order in which they come."""
    return interleave([
        service.write(choices.model, prompt, sampling, live=True, functions=choices.functions)
        for prompt, sampling in choices.asked
    ])  # fmt: skip


async def interleave(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """What several generators make, with the number of whose it is; all are closed at the end.

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
