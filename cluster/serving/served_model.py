"""The served model: its engine, its chat template, the adapters by name, the embedder."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import NamedTuple
from uuid import uuid4

import anyio

from ...bridge.search.embedding import Embedder, Vectors, choose_embedder, local_embedder
from ...configs.http_servers import ServingSettings
from ...messages.chat import FunctionCall, FunctionSpec, TokenLogprob, Usage
from ...messages.generation import Completion, EngineStatistics, Generate, SamplingSettings
from ...messages.turns import FinishReason
from ...runtime.engines.chat.format import ChatFormat
from ...runtime.engines.chat.function_calling import open_conversation
from ...runtime.engines.chat.incremental_decoder import IncrementalDecoder
from .errors import SERVER, ApiError
from .generation import GenerationDelta, Sampler
from .metrics import ServingMetrics
from .request_schema import ChatBody


class TextDelta(NamedTuple):
    """Text since the delta before."""

    text: str
    tokens: tuple[TokenLogprob, ...]
    calls: tuple[FunctionCall, ...] = ()
    finish_reason: FinishReason | None = None
    """With the last piece, as are calls and usage."""
    usage: Usage = Usage()


class ServedModel:
    """Everything that the routes need.

    `models` maps the names that a request may say to adapters; None is the base model.
    """

    def __init__(
        self, sampler: Sampler, chat: ChatFormat, models: Mapping[str, str | None], settings: ServingSettings
    ) -> None:
        self.settings = settings
        self.chat = chat
        self.metrics = ServingMetrics()
        self.created = int(time.time())
        self._sampler = sampler
        self._models = models
        self._embedder_name = choose_embedder(settings.embedder)
        self._embedder: Embedder | None = None
        self._one_at_a_time = anyio.CapacityLimiter(1)

    @property
    def names(self) -> tuple[str, ...]:
        """Names that may stand as `model`: the base, the adapters, and at last the embedder."""
        return (*self._models, self._embedder_name)

    def check_model(self, name: str) -> None:
        """Raises ApiError for a model that does not write text here."""
        if name not in self._models:
            known = ", ".join(self._models)
            raise ApiError(
                404,
                f"there is no model {name!r} here; served: {known}",
                code="model_not_found",
                param="model",
            )

    def chat_prompt(self, body: ChatBody) -> tuple[int, ...]:
        """The tokens of a conversation. Raises ApiError, ChatFormatError, BadArguments."""
        return open_conversation(self.chat, body.conversation, body.functions)

    def prompt_tokens(self, prompts: Sequence[str | tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Prompts as tokens. Blocks; raises ChatFormatError."""
        return [self.chat.encode(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]

    async def write(
        self,
        model: str,
        prompt: tuple[int, ...],
        sampling: SamplingSettings,
        *,
        live: bool,
        functions: Sequence[FunctionSpec] = (),
    ) -> AsyncGenerator[TextDelta, None]:
        """A reply as it is written; where it is not `live`, in one piece. Raises what the engine raises.

        `functions`: calls are looked for in it.
        """
        request = Generate(
            request_id=f"serve-{uuid4().hex}",
            prompt_ids=prompt,
            sampling=sampling,
            adapter=self._models[model],
        )
        text = IncrementalDecoder.of(self.chat, sampling.stop, functions)
        ask = self._sampler.follow if live else self._sampler.at_once
        async with aclosing(ask(request)) as pieces:
            async for piece in pieces:
                written = text.add(piece.token_ids)
                tokens = self._tokens(piece)
                if piece.whole is not None:
                    rest = text.finish()
                    usage = self._count(model, len(prompt), piece.whole)
                    reason = piece.whole.finish_reason
                    yield TextDelta(written + rest.text, tokens, rest.calls, reason, usage)
                elif written or tokens:
                    yield TextDelta(written, tokens)

    async def write_whole(
        self,
        model: str,
        prompt: tuple[int, ...],
        sampling: SamplingSettings,
        *,
        functions: Sequence[FunctionSpec] = (),
    ) -> TextDelta:
        """A reply in one piece. Raises what the engine raises."""
        async with aclosing(self.write(model, prompt, sampling, live=False, functions=functions)) as pieces:
            return await anext(pieces)

    def _tokens(self, piece: GenerationDelta) -> tuple[TokenLogprob, ...]:
        """A piece's tokens as texts; the end of the sequence has none and is left out."""
        return tuple(
            self.chat.token_logprob(token, logprob)
            for token, logprob in zip(piece.token_ids, piece.logprobs, strict=True)
            if token not in self.chat.eos_ids
        )

    def _count(self, model: str, prompt_tokens: int, whole: Completion) -> Usage:
        """Token usage of a reply. Raises ApiError for one that was cut off from outside."""
        if whole.finish_reason == "abort":
            raise ApiError(503, "the engine gave the request up", kind=SERVER, code="engine_unavailable")
        usage = Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=len(whole.token_ids),
            cached_tokens=whole.cached_tokens,
        )
        self.metrics.used(model, usage.prompt_tokens, usage.completion_tokens)
        return usage

    async def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """A unit vector for each text `[texts, dimensions]`; the model is loaded when first asked for."""
        if model != self._embedder_name:
            raise ApiError(
                404,
                f"there is no embedder {model!r} here; served: {self._embedder_name}",
                code="model_not_found",
                param="model",
            )
        return await anyio.to_thread.run_sync(self._embed, texts, limiter=self._one_at_a_time)

    async def statistics(self) -> EngineStatistics:
        """Statistics of the engine. Raises what an ask raises."""
        return await self._sampler.statistics()

    def _embed(self, texts: Sequence[str]) -> Vectors:
        if self._embedder is None:
            self._embedder = local_embedder(self._embedder_name)
        return self._embedder.embed(texts)
