"""A token engine as a chat model, through its model's chat template. Not the other way round:

whoever trains needs the exact tokens, and asks the engine itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from uuid import uuid4

from ....configs.chat_models import EngineModelSettings
from ....messages.chat import Capabilities, ChatRequest, ConversationMessage, FunctionCall, Usage
from ....messages.generation import Completion, Generate
from ...engines.base import BadRequest, Engine, EngineClosed, EngineError, PromptTooLong, UnknownAdapter
from ...engines.chat.format import ChatFormat, ChatFormatError
from ...engines.chat.function_calling import open_conversation
from ...engines.chat.incremental_decoder import IncrementalDecoder
from ...engines.registry import open_engine
from ...engines.token_stream import TokenStream
from ..context_window import estimate_prompt
from ..errors import ContextTooLong, ModelClosed, ModelError, ModelUnavailable, RequestRefused
from .base import Backend, BackendReply, BackendStream, ChatBackend

CAPABILITIES = Capabilities(
    streaming=True,
    tools=True,
    logprobs=True,
    token_ids=True,
    adapters=True,
    temperature=True,
    top_p=True,
    top_k=True,
    seed=True,
    stop=True,
)
"""With tools where the model's chat template has a place for them."""


def open_backend(settings: EngineModelSettings) -> EngineBackend:
    """One with an engine of its own."""
    engine = open_engine(settings.model, settings.engine)
    backend = EngineBackend(engine, settings.model.locate(), capabilities=capabilities(settings))
    if settings.engine.context_tokens is not None:
        backend.context_tokens = settings.engine.context_tokens
    return backend


def capabilities(settings: EngineModelSettings) -> Capabilities:
    """Capabilities of the kind of engine, and of the model's chat template."""
    holds_schemas = settings.engine.constrains_output
    takes_functions = ChatFormat.load(settings.model.locate()).takes_functions
    return CAPABILITIES.model_copy(update={"json_schema": holds_schemas, "tools": takes_functions})


class EngineBackend(Backend):
    """Speaks to an engine; one that is handed over started, and stays its owner's, or one of its own."""

    def __init__(
        self,
        engine: Engine,
        format_source: ChatFormat | str,
        *,
        owned: bool = True,
        capabilities: Capabilities = CAPABILITIES,
    ) -> None:
        self.capabilities = capabilities
        self.name = format_source if isinstance(format_source, str) else "engine"
        self._engine = engine
        self._source = format_source
        self._owned = owned
        self._format: ChatFormat | None = None

    async def start(self) -> None:
        """Read the chat template; load the model of an engine of its own."""
        source = self._source
        chat = await asyncio.to_thread(ChatFormat.load, source) if isinstance(source, str) else source
        self._format = chat
        tools = chat.takes_functions
        self.capabilities = self.capabilities.model_copy(update={"tools": tools})
        if self._owned:
            await self._engine.start()

    async def stream(self, request: ChatRequest, *, live: bool) -> BackendStream:
        """Text as the engine tells of it."""
        prompt = open_conversation(self._chat, request.messages, request.tools)
        schema = None if request.output_schema is None else json.dumps(request.output_schema)
        asked = Generate(
            request_id=f"chat-{uuid4().hex}",
            prompt_ids=prompt,
            sampling=request.sampling.model_copy(update={"output_schema": schema}),
            adapter=request.adapter,
        )
        text = IncrementalDecoder.of(self._chat, request.sampling.stop, request.tools)
        written: list[str] = []
        heard = TokenStream()
        answer = asyncio.ensure_future(self._engine.generate(asked, heard.add if live else None))
        answer.add_done_callback(partial(_ended, heard))
        try:
            known, ended = 0, False
            while not ended:
                fresh = await heard.beyond(known)
                known, ended = known + len(fresh.token_ids), fresh.ended
                if piece := text.add(fresh.token_ids):
                    written.append(piece)
                    yield piece
            completion = await answer
        finally:
            answer.cancel()
        last = text.add(completion.token_ids[known:])
        rest = text.finish()
        if last + rest.text:
            written.append(last + rest.text)
            yield written[-1]
        yield self._reply(request, completion, "".join(written), rest.calls, len(prompt))

    def count(self, messages: Sequence[ConversationMessage]) -> int:
        """Exact, once started; functions are not counted."""
        if self._format is None:
            return estimate_prompt(messages)
        return len(open_conversation(self._format, messages, ()))

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

    def _reply(
        self,
        request: ChatRequest,
        completion: Completion,
        text: str,
        calls: tuple[FunctionCall, ...],
        prompt_tokens: int,
    ) -> BackendReply:
        tokens = zip(completion.token_ids, completion.logprobs, strict=True) if request.logprobs else ()
        return BackendReply(
            text,
            "calls" if calls else completion.finish_reason,
            calls,
            model=completion.adapter or self.name,
            usage=Usage(
                prompt_tokens=prompt_tokens,
                completion_tokens=len(completion.token_ids),
                cached_tokens=completion.cached_tokens,
            ),
            tokens=tuple(self._chat.token_logprob(token, logprob) for token, logprob in tokens),
        )


def _ended(heard: TokenStream, answer: asyncio.Future[Completion]) -> None:
    """Nothing more will be heard; an error that nobody waits for any more is seen here."""
    heard.end()
    if not answer.cancelled():
        answer.exception()


BACKEND = ChatBackend(EngineModelSettings, open_backend, capabilities)
