"""A chat model: one backend, and what all of them share.

Each call is checked against what the backend can do, cut to the context, held to the rate limits,
asked again when that can help, bounded in time, counted and priced. Errors are ModelErrors without
secrets. Nothing is asked again once a piece has been handed out.

Waits for: its own limits, the server, the pause before a retry; unblocked by `timeout_s`, which
bounds all of them together.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from functools import partial
from types import TracebackType
from typing import Self

from ...configs.chat_models import BaseChatModelSettings
from ...messages.chat import (
    Capabilities,
    Capability,
    ChatReply,
    ChatRequest,
    ConversationMessage,
    FunctionSpec,
    JsonObject,
    ModelStatistics,
    PullProgress,
    Usage,
)
from ...messages.generation import Embeddings, SamplingSettings
from .asking import Asked, check_form, prepare, usage_of
from .backend import Backend, BackendReply, BackendVectors
from .context import estimate_tokens
from .deadline import Deadline
from .errors import BrokenReply, ModelError, Unsupported
from .guard import Guard
from .stream import ReplyStream
from .tally import Tally

EMBED_BATCH = 96
"""Texts of one request; no provider takes fewer."""
DEFAULT_SAMPLING = SamplingSettings()


class ChatModel:
    """See `runtime.models`. Open it with `async with`, or with `start` and `aclose`."""

    def __init__(self, settings: BaseChatModelSettings, backend: Backend) -> None:
        self.name = backend.name
        self._settings = settings
        self._backend = backend
        self._guard = Guard(backend, settings)
        self._tally = Tally(settings.prices)

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked of it."""
        return self._backend.capabilities

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Load what must be loaded. Raises SettingsError."""
        await self._backend.start()
        self._guard.open()

    async def aclose(self) -> None:
        """Close connections; what still runs fails."""
        self._guard.close()
        await self._backend.aclose()

    async def chat(
        self,
        messages: Sequence[ConversationMessage],
        sampling: SamplingSettings = DEFAULT_SAMPLING,
        *,
        tools: Sequence[FunctionSpec] = (),
        output_schema: JsonObject | None = None,
    ) -> ChatReply:
        """Continue a conversation. Raises ModelError."""
        return await self.ask(_request(messages, sampling, tools, output_schema))

    async def ask(self, request: ChatRequest) -> ChatReply:
        """The same, with everything that a request can say."""
        deadline, asked = self._prepare(request)

        async def attempt() -> ChatReply:
            async with self._opened(asked, deadline, live=False) as stream:
                async for _ in stream:
                    pass
                return stream.reply

        with self._counted():
            reply, attempts = await self._guard.retried(attempt, asked.tokens, deadline)
        return reply.model_copy(update={"attempts": attempts})

    def measure(self, request: ChatRequest) -> Usage:
        """Tokens before anything is sent: of the prompt, counted or estimated, and the most to come.

        Raises Unsupported or ContextTooLong, as asking would.
        """
        _, asked = self._prepare(request)
        most = request.sampling.max_tokens
        return Usage(prompt_tokens=asked.prompt_tokens, completion_tokens=most, estimated=True)

    @asynccontextmanager
    async def stream(
        self,
        messages: Sequence[ConversationMessage],
        sampling: SamplingSettings = DEFAULT_SAMPLING,
        *,
        tools: Sequence[FunctionSpec] = (),
        output_schema: JsonObject | None = None,
    ) -> AsyncIterator[ReplyStream]:
        """Pieces as they come; leaving the context ends the request. Raises ModelError."""
        async with self.ask_live(_request(messages, sampling, tools, output_schema)) as pieces:
            yield pieces

    @asynccontextmanager
    async def ask_live(self, request: ChatRequest) -> AsyncIterator[ReplyStream]:
        """`stream`, with everything that a request can say."""
        self._need("streaming")
        deadline, asked = self._prepare(request)

        async def attempt() -> tuple[ReplyStream, AsyncExitStack]:
            stack = AsyncExitStack()
            stream = await stack.enter_async_context(self._opened(asked, deadline, live=True))
            return stream, stack

        with self._counted():
            (stream, stack), attempts = await self._guard.retried(attempt, asked.tokens, deadline)
            stream.attempts = attempts
            async with stack:
                yield stream

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """A unit vector for each text, in order. Raises ModelError."""
        self._need("embeddings")
        deadline = Deadline(self._settings.timeout_s)
        vectors: list[tuple[float, ...]] = []
        with self._counted():
            for start in range(0, len(texts), EMBED_BATCH):
                vectors.extend(await self._embed(tuple(texts[start : start + EMBED_BATCH]), deadline))
        return Embeddings(vectors=tuple(vectors))

    async def models(self) -> tuple[str, ...]:
        """Names of the models that the server has. Raises ModelError."""
        self._need("model_list")
        deadline = Deadline(self._settings.timeout_s)

        async def attempt() -> tuple[str, ...]:
            return await self._guard.wait(self._backend.models(), deadline)

        return (await self._guard.retried(attempt, 0, deadline))[0]

    async def pull(self) -> AsyncIterator[PullProgress]:
        """Download the model of the settings; tells how far it is. Only silence ends it early."""
        self._need("pull")
        self._guard.limiter.take(0, asyncio.get_running_loop().time())
        deadline = Deadline(math.inf)
        async with aclosing(self._backend.pull()) as parts:
            while (progress := await self._guard.wait(anext(parts, None), deadline)) is not None:
                yield progress

    def statistics(self) -> ModelStatistics:
        """What was done since it was opened."""
        return self._tally.statistics(self._guard.retries)

    def _need(self, capability: Capability) -> None:
        if self.capabilities.missing((capability,)):
            raise Unsupported(f"{self.name} cannot do this: {capability}")

    def _prepare(self, request: ChatRequest) -> tuple[Deadline, Asked]:
        limit = self._settings.context_tokens
        asked = prepare(request, self._backend, self._backend.context_tokens if limit is None else limit)
        return Deadline(self._settings.timeout_s), asked

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._tally.requests += 1
        self._tally.running += 1
        try:
            yield
        except ModelError:
            self._tally.failures += 1
            raise
        finally:
            self._tally.running -= 1

    @asynccontextmanager
    async def _opened(self, asked: Asked, deadline: Deadline, *, live: bool) -> AsyncIterator[ReplyStream]:
        """A reply whose first piece has come. Leaving closes the connection."""
        async with (
            self._guard.slot(deadline),
            aclosing(self._backend.pieces(asked.request, live=live)) as pieces,
        ):
            finish = partial(self._finish, asked)
            whole = self._backend.comes_whole(live=live)
            stream = ReplyStream(pieces, self._guard, deadline, finish, whole=whole)
            await stream.open()
            yield stream

    def _finish(self, asked: Asked, reply: BackendReply) -> ChatReply:
        usage = usage_of(asked, reply)
        cost = self._tally.add(usage)
        now = asyncio.get_running_loop().time()
        used = usage.prompt_tokens + usage.completion_tokens
        self._guard.limiter.settle(asked.tokens, used, now)
        check_form(asked, reply, self.name)
        return ChatReply(
            text=reply.text,
            calls=reply.calls,
            finish_reason=reply.finish_reason,
            model=reply.model or self.name,
            usage=usage,
            cost=cost,
            tokens=reply.tokens,
            dropped_messages=asked.dropped,
            duration_s=now - asked.started,
        )

    async def _embed(self, texts: tuple[str, ...], deadline: Deadline) -> tuple[tuple[float, ...], ...]:
        tokens = sum(map(estimate_tokens, texts))

        async def attempt() -> BackendVectors:
            async with self._guard.slot(deadline):
                found = await self._guard.wait(self._backend.embed(texts), deadline)
            if len(found.vectors) != len(texts):
                raise BrokenReply(f"{self.name}: {len(found.vectors)} vectors for {len(texts)} texts")
            return found

        found, _ = await self._guard.retried(attempt, tokens, deadline)
        known = found.prompt_tokens is not None
        self._tally.add(Usage(prompt_tokens=found.prompt_tokens or (0 if known else tokens)))
        return tuple(map(_unit, found.vectors))


def _request(
    messages: Sequence[ConversationMessage],
    sampling: SamplingSettings,
    tools: Sequence[FunctionSpec],
    output_schema: JsonObject | None,
) -> ChatRequest:
    return ChatRequest(
        messages=tuple(messages), sampling=sampling, tools=tuple(tools), output_schema=output_schema
    )


def _unit(vector: tuple[float, ...]) -> tuple[float, ...]:
    length = math.sqrt(math.fsum(x * x for x in vector))
    return tuple(x / length for x in vector) if length else vector
