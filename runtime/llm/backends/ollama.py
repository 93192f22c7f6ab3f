"""Ollama in its own language: chat, embeddings, which models there are, and pulling more."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from ....configs.chat_models import OllamaModelSettings
from ....messages.chat import (
    AssistantMessage,
    Capabilities,
    ChatRequest,
    ConversationMessage,
    FunctionCall,
    JsonObject,
    PullProgress,
    TokenLogprob,
    ToolMessage,
    Usage,
)
from ..openai_schema import write_tools
from .base import BackendStream, BackendVectors, ChatBackend, ClientBackend, StreamAccumulator, arguments_of
from .boundary import HttpErrors, HttpFailure

if TYPE_CHECKING:
    from ollama import AsyncClient, ChatResponse

CAPABILITIES = Capabilities(
    streaming=True,
    tools=True,
    json_schema=True,
    logprobs=True,
    embeddings=True,
    temperature=True,
    top_p=True,
    top_k=True,
    seed=True,
    stop=True,
    model_list=True,
    pull=True,
)


class OllamaBackend(ClientBackend):
    """One model of one Ollama."""

    package, extra = "ollama", "ollama"
    capabilities = CAPABILITIES

    def __init__(self, settings: OllamaModelSettings) -> None:
        super().__init__()
        self.name = f"{settings.model} at {settings.base_url}"
        self._settings = settings
        key = os.environ.get(settings.api_key_env, "") if settings.api_key_env else ""
        self.secrets = (key,)

    def _connect(self) -> None:
        import httpx
        import ollama

        def failure_of(error: Exception) -> HttpFailure | None:
            if not isinstance(error, ollama.ResponseError):
                return None
            return HttpFailure(error.status_code, None, error.error)

        self.errors = HttpErrors(
            self.name,
            httpx,
            failure_of,
            unreachable=(ConnectionError,),
            advice="is `ollama serve` running there?",
        )
        (key,) = self.secrets
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client: AsyncClient = ollama.AsyncClient(self._settings.base_url, headers=headers, timeout=None)

    async def stream(self, request: ChatRequest, *, live: bool) -> BackendStream:
        """See `Backend.stream`."""
        accumulator = StreamAccumulator()
        parts = await self._client.chat(
            self._settings.model,
            [_write(message) for message in request.messages],
            tools=write_tools(request.tools) or None,
            stream=True,
            logprobs=request.logprobs or None,
            format=request.output_schema,
            options=self._options(request),
            keep_alive=self._settings.keep_alive_s,
        )
        try:
            async for part in parts:
                text = _read(accumulator, part)
                if text:
                    yield text
        finally:
            await parts.aclose()
        yield accumulator.reply()

    async def embed(self, texts: tuple[str, ...]) -> BackendVectors:
        """See `Backend.embed`."""
        model = self._settings.embedding_model or self._settings.model
        found = await self._client.embed(model, list(texts), keep_alive=self._settings.keep_alive_s)
        return BackendVectors(tuple(map(tuple, found.embeddings)), found.prompt_eval_count)

    async def models(self) -> tuple[str, ...]:
        """Those that have been pulled."""
        return tuple(model.model for model in (await self._client.list()).models)

    async def pull(self) -> AsyncGenerator[PullProgress, None]:
        """Download the model of the settings."""
        parts = await self._client.pull(self._settings.model, stream=True)
        try:
            async for part in parts:
                yield PullProgress(
                    status=part.status or "", completed=part.completed or 0, total=part.total or 0
                )
        finally:
            await parts.aclose()

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.close()

    def _options(self, request: ChatRequest) -> JsonObject:
        """All of them each time, since a model file brings defaults of its own."""
        sampling = request.sampling
        options: JsonObject = {
            "num_ctx": self._settings.context_tokens,
            "num_predict": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "stop": list(sampling.stop),
        }
        return options if sampling.seed is None else options | {"seed": sampling.seed}


def _read(accumulator: StreamAccumulator, part: ChatResponse) -> str:
    accumulator.model = part.model or accumulator.model
    for call in part.message.tool_calls or ():
        arguments = json.dumps(dict(call.function.arguments))
        accumulator.whole_call(FunctionCall(id="", name=call.function.name, arguments=arguments))
    accumulator.tokens += [TokenLogprob(text=t.token, logprob=t.logprob) for t in part.logprobs or ()]
    if part.done:
        accumulator.finish = "length" if part.done_reason == "length" else "stop"
        accumulator.usage = Usage(
            prompt_tokens=part.prompt_eval_count or 0, completion_tokens=part.eval_count or 0
        )
    return accumulator.text(part.message.content or "")


def _write(message: ConversationMessage) -> JsonObject:
    if isinstance(message, ToolMessage):
        return {"role": "tool", "tool_name": message.name, "content": message.text}
    written: JsonObject = {"role": message.role, "content": message.text}
    if isinstance(message, AssistantMessage) and message.calls:
        written["tool_calls"] = [
            {"function": {"name": call.name, "arguments": arguments_of(call)}} for call in message.calls
        ]
    return written


BACKEND = ChatBackend(OllamaModelSettings, OllamaBackend, lambda settings: CAPABILITIES)
