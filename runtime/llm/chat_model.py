"""A chat model and its streamed reply: one backend, and what all of them share.

Each call is checked against what the backend can do, cut to the context, held to the rate limits,
asked again when that can help, bounded in time, counted and priced. Errors are ModelErrors without
secrets. Nothing is asked again once a piece has been handed out.

Waits for: its own limits, the server, the pause before a retry; unblocked by `timeout_s`, which
bounds all of them together.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
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
from .backends.base import Backend, BackendReply, BackendStream, BackendVectors
from .call_policy import CallPolicy, WaitBudget
from .context_window import estimate_tokens
from .errors import BrokenReply, ModelError, Unsupported
from .request_prep import PreparedRequest, check_form, prepare, usage_of
from .usage import UsageMeter

EMBED_BATCH = 96
"""Texts of one request; no provider takes fewer."""
DEFAULT_SAMPLING = SamplingSettings()


class ChatModel:
    """See `runtime.llm`. Open it with `async with`, or with `start` and `aclose`."""

    def __init__(self, settings: BaseChatModelSettings, backend: Backend) -> None:
        self.name = backend.name
        self._settings = settings
        self._backend = backend
        self._policy = CallPolicy(backend, settings)
        self._meter = UsageMeter(settings.prices)

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of the backend."""
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
        self._policy.open()

    async def aclose(self) -> None:
        """Close connections; what still runs fails."""
        self._policy.close()
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
        """`chat`, with everything that a request can say. Raises ModelError."""
        deadline, asked = self._prepare(request)

        async def attempt() -> ChatReply:
            async with self._opened(asked, deadline, live=False) as stream:
                async for _ in stream:
                    pass
                return stream.reply

        with self._counted():
            reply, attempts = await self._policy.with_retries(attempt, asked.tokens, deadline)
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
            (stream, stack), attempts = await self._policy.with_retries(attempt, asked.tokens, deadline)
            stream.attempts = attempts
            async with stack:
                yield stream

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """A unit vector for each text, in order. Raises ModelError."""
        self._need("embeddings")
        deadline = WaitBudget(self._settings.timeout_s)
        vectors: list[tuple[float, ...]] = []
        with self._counted():
            for start in range(0, len(texts), EMBED_BATCH):
                vectors.extend(await self._embed(tuple(texts[start : start + EMBED_BATCH]), deadline))
        return Embeddings(vectors=tuple(vectors))

    async def models(self) -> tuple[str, ...]:
        """Names of the models that the server has. Raises ModelError."""
        self._need("model_list")
        deadline = WaitBudget(self._settings.timeout_s)

        async def attempt() -> tuple[str, ...]:
            return await self._policy.wait(self._backend.models(), deadline)

        return (await self._policy.with_retries(attempt, 0, deadline))[0]

    async def pull(self) -> AsyncIterator[PullProgress]:
        """Download the model of the settings; tells how far it is. Only silence ends it early."""
        self._need("pull")
        self._policy.limiter.take(0, asyncio.get_running_loop().time())
        deadline = WaitBudget(math.inf)
        async with aclosing(self._backend.pull()) as parts:
            while (progress := await self._policy.wait(anext(parts, None), deadline)) is not None:
                yield progress

    def statistics(self) -> ModelStatistics:
        """Counts and cost since it was opened."""
        return self._meter.statistics(self._policy.retries)

    def _need(self, capability: Capability) -> None:
        if self.capabilities.missing((capability,)):
            raise Unsupported(f"{self.name} cannot do this: {capability}")

    def _prepare(self, request: ChatRequest) -> tuple[WaitBudget, PreparedRequest]:
        limit = self._settings.context_tokens
        asked = prepare(request, self._backend, self._backend.context_tokens if limit is None else limit)
        return WaitBudget(self._settings.timeout_s), asked

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._meter.requests += 1
        self._meter.running += 1
        try:
            yield
        except ModelError:
            self._meter.failures += 1
            raise
        finally:
            self._meter.running -= 1

    @asynccontextmanager
    async def _opened(
        self, asked: PreparedRequest, deadline: WaitBudget, *, live: bool
    ) -> AsyncIterator[ReplyStream]:
        """A reply whose first piece has come. Leaving closes the connection."""
        async with (
            self._policy.slot(deadline),
            aclosing(self._backend.stream(asked.request, live=live)) as pieces,
        ):
            finish = partial(self._finish, asked)
            whole = self._backend.is_unary(live=live)
            stream = ReplyStream(pieces, self._policy, deadline, finish, whole=whole)
            await stream.open()
            yield stream

    def _finish(self, asked: PreparedRequest, reply: BackendReply) -> ChatReply:
        usage = usage_of(asked, reply)
        cost = self._meter.add(usage)
        now = asyncio.get_running_loop().time()
        used = usage.prompt_tokens + usage.completion_tokens
        self._policy.limiter.settle(asked.tokens, used, now)
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

    async def _embed(self, texts: tuple[str, ...], deadline: WaitBudget) -> tuple[tuple[float, ...], ...]:
        tokens = sum(map(estimate_tokens, texts))

        async def attempt() -> BackendVectors:
            async with self._policy.slot(deadline):
                found = await self._policy.wait(self._backend.embed(texts), deadline)
            if len(found.vectors) != len(texts):
                raise BrokenReply(f"{self.name}: {len(found.vectors)} vectors for {len(texts)} texts")
            return found

        found, _ = await self._policy.with_retries(attempt, tokens, deadline)
        known = found.prompt_tokens is not None
        self._meter.add(Usage(prompt_tokens=found.prompt_tokens or (0 if known else tokens)))
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


class ReplyStream:
    """Pieces of text, then `reply`. Made by `ChatModel.stream`."""

    def __init__(
        self,
        pieces: BackendStream,
        guard: CallPolicy,
        deadline: WaitBudget,
        finish: Callable[[BackendReply], ChatReply],
        *,
        whole: bool,
    ) -> None:
        self._whole = whole
        self._pieces = pieces
        self._policy = guard
        self._deadline = deadline
        self._finish = finish
        self._first: str | BackendReply | None = None
        self._reply: ChatReply | None = None
        self.attempts = 1

    @property
    def reply(self) -> ChatReply:
        """The whole reply, once all pieces have been read."""
        if self._reply is None:
            raise ModelError("the reply is not complete: read the stream to its end first")
        return self._reply

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """The next piece. Raises ModelTimeout, BrokenReply and the other ModelErrors."""
        if self._reply is not None:
            raise StopAsyncIteration
        piece, self._first = self._first, None
        if piece is None:
            piece = await self._next()
        if isinstance(piece, str):
            return piece
        self._reply = self._finish(piece).model_copy(update={"attempts": self.attempts})
        raise StopAsyncIteration

    async def open(self) -> None:
        """Wait for the first piece: until then a request may be made again."""
        self._first = await self._next()

    async def _next(self) -> str | BackendReply:
        piece = await self._policy.wait(anext(self._pieces, None), self._deadline, whole=self._whole)
        if piece is None:
            raise BrokenReply(f"{self._policy.name}: the reply was cut off")
        return piece
