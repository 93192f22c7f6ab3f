"""A token engine as a chat model, through its model's chat template. Not the other way round:

whoever trains needs the exact tokens, and asks the engine itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from configs.chat_models import EngineModelSettings
from configs.models import TransformersEngineSettings
from messages.chat import (
    Capabilities,
    ChatRequest,
    ConversationMessage,
    SystemMessage,
    TokenLogprob,
    Usage,
    UserMessage,
)
from messages.generation import Completion, Generate
from runtime.engines.base import (
    BadRequest,
    Engine,
    EngineClosed,
    EngineError,
    PromptTooLong,
    UnknownAdapter,
    open_engine,
)
from runtime.engines.chat import ChatFormat, ChatFormatError, ChatMessage
from runtime.models.backend import Backend, BackendReply, Pieces
from runtime.models.context import estimate_prompt
from runtime.models.errors import (
    ContextTooLong,
    ModelClosed,
    ModelError,
    ModelUnavailable,
    RequestRefused,
)

CAPABILITIES = Capabilities(
    logprobs=True,
    token_ids=True,
    adapters=True,
    temperature=True,
    top_p=True,
    top_k=True,
    seed=True,
    stop=True,
)


def open_backend(settings: EngineModelSettings) -> EngineBackend:
    """One with an engine of its own."""
    backend = EngineBackend(open_engine(settings.model, settings.engine), settings.model.locate())
    if isinstance(settings.engine, TransformersEngineSettings):
        backend.context_tokens = settings.engine.max_context
    return backend


class EngineBackend(Backend):
    """Speaks to an engine; one that is handed over started, and stays its owner's, or one of its own."""

    capabilities = CAPABILITIES

    def __init__(self, engine: Engine, format_source: ChatFormat | str, *, owned: bool = True) -> None:
        self.name = format_source if isinstance(format_source, str) else "engine"
        self._engine = engine
        self._source = format_source
        self._owned = owned
        self._format: ChatFormat | None = None

    async def start(self) -> None:
        """Read the chat template; load the model of an engine of its own."""
        source = self._source
        self._format = await asyncio.to_thread(ChatFormat.load, source) if isinstance(source, str) else source
        if self._owned:
            await self._engine.start()

    async def pieces(self, request: ChatRequest, *, live: bool) -> Pieces:
        """The whole answer at once: an engine answers when it is done."""
        prompt = self._prompt(request.messages)
        asked = Generate(
            request_id=f"chat-{uuid4().hex}",
            prompt_ids=prompt,
            sampling=request.sampling,
            adapter=request.adapter,
        )
        completion = await self._engine.generate(asked)
        yield self._read(request, completion, len(prompt))

    def count(self, messages: Sequence[ConversationMessage]) -> int:
        """Exact, once started."""
        return estimate_prompt(messages) if self._format is None else len(self._prompt(messages))

    def translate(self, error: Exception) -> ModelError | None:
        """See `Backend.translate`."""
        text = f"{self.name}: {error}"
        if isinstance(error, PromptTooLong):
            return ContextTooLong(text)
        if isinstance(error, BadRequest | UnknownAdapter | ChatFormatError):
            return RequestRefused(text)
        if isinstance(error, EngineClosed):
            return ModelClosed(text)
        return ModelUnavailable(text) if isinstance(error, EngineError) else None

    async def aclose(self) -> None:
        """Close an engine of its own."""
        if self._owned:
            await self._engine.aclose()

    @property
    def _chat(self) -> ChatFormat:
        if self._format is None:
            raise ModelClosed(f"{self.name} was not started")
        return self._format

    def _prompt(self, messages: Sequence[ConversationMessage]) -> tuple[int, ...]:
        return self._chat.opening([_plain(message) for message in messages])

    def _read(self, request: ChatRequest, completion: Completion, prompt_tokens: int) -> BackendReply:
        text = _before_stop(self._chat.decode(completion.token_ids), request.sampling.stop)
        tokens = zip(completion.token_ids, completion.logprobs, strict=True) if request.logprobs else ()
        return BackendReply(
            text,
            completion.finish_reason,
            model=completion.adapter or self.name,
            usage=Usage(
                prompt_tokens=prompt_tokens,
                completion_tokens=len(completion.token_ids),
                cached_tokens=completion.cached_tokens,
            ),
            tokens=tuple(
                TokenLogprob(text=self._chat.decode((token,)), logprob=logprob, token_id=token)
                for token, logprob in tokens
            ),
        )


def _plain(message: ConversationMessage) -> ChatMessage:
    """Messages of tools have been refused before: an engine has none."""
    if isinstance(message, SystemMessage):
        return ChatMessage("system", message.text)
    if isinstance(message, UserMessage):
        return ChatMessage("user", message.text)
    return ChatMessage("assistant", message.text)


def _before_stop(text: str, stop: tuple[str, ...]) -> str:
    """An engine keeps the stop string that it wrote; every other backend leaves it out."""
    ends = [at for at in (text.find(word) for word in stop) if at >= 0]
    return text[: min(ends)] if ends else text
