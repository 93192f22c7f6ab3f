"""OpenAI, and every server that speaks its language: vLLM, Ollama, LM Studio, llama.cpp."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ....configs.chat_models import OpenAIModelSettings
from ....messages.chat import Capabilities, ChatRequest, JsonObject
from ..openai_schema import ChatCompletionChunk, read_chunk, write_messages, write_tools
from .base import BackendStream, BackendVectors, ChatBackend, ClientBackend, StreamAccumulator, read_key
from .boundary import sdk_errors

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class OpenAIBackend(ClientBackend):
    """One model of one server."""

    package = extra = "openai"

    def __init__(self, settings: OpenAIModelSettings) -> None:
        super().__init__()
        self.name = f"{settings.model} at {settings.base_url}"
        self.capabilities = capabilities(settings)
        self._settings = settings
        key = read_key(settings.api_key_env, settings.base_url) if settings.api_key_env else ""
        self.secrets = (key,)

    def _connect(self) -> None:
        import openai

        self.errors = sdk_errors(self.name, openai)
        (key,) = self.secrets
        self._client: AsyncOpenAI = openai.AsyncOpenAI(
            api_key=key or "none", base_url=self._settings.base_url, max_retries=0, timeout=None
        )
        self._headers = None if key else {"Authorization": openai.Omit()}

    async def stream(self, request: ChatRequest, *, live: bool) -> BackendStream:
        """See `Backend.stream`; whether it is streamed is for the settings to say."""
        body = _body(request, self._settings)
        create = partial(self._client.chat.completions.create, extra_headers=self._headers)
        accumulator = StreamAccumulator()
        if not self._settings.stream:
            whole = await create(**body)
            read_chunk(accumulator, ChatCompletionChunk.model_validate(whole.model_dump()))
            yield accumulator.reply()
            return
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        async with await create(**body) as chunks:
            async for chunk in chunks:
                text = read_chunk(accumulator, ChatCompletionChunk.model_validate(chunk.model_dump()))
                if text:
                    yield text
        yield accumulator.reply()

    async def embed(self, texts: tuple[str, ...]) -> BackendVectors:
        """See `Backend.embed`."""
        model = self._settings.embedding_model or self._settings.model
        found = await self._client.embeddings.create(
            model=model, input=list(texts), encoding_format="float", extra_headers=self._headers
        )
        vectors = tuple(tuple(entry.embedding) for entry in sorted(found.data, key=lambda entry: entry.index))
        return BackendVectors(vectors, found.usage.prompt_tokens if found.usage else None)

    async def models(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple([model.id async for model in self._client.models.list(extra_headers=self._headers)])

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.close()


def capabilities(settings: OpenAIModelSettings) -> Capabilities:
    """By server: they differ beyond the common part."""
    server = settings.server
    return Capabilities(
        streaming=settings.stream,
        tools=True,
        json_schema=server != "other",
        logprobs=server in {"openai", "vllm", "llama_cpp"},
        adapters=server == "vllm",
        embeddings=True,
        temperature=True,
        top_p=True,
        top_k=server in {"vllm", "llama_cpp", "lm_studio"},
        seed=True,
        stop=True,
        model_list=True,
    )


def _body(request: ChatRequest, settings: OpenAIModelSettings) -> JsonObject:
    sampling = request.sampling
    hosted = settings.server == "openai"
    body: JsonObject = {
        "model": request.adapter or settings.model,
        "messages": write_messages(request.messages),
        "max_completion_tokens" if hosted else "max_tokens": sampling.max_tokens,
    }
    if not (hosted and sampling.temperature == 1.0):  # its reasoning models refuse even their default
        body["temperature"] = sampling.temperature
    if not (hosted and sampling.top_p == 1.0):
        body["top_p"] = sampling.top_p
    if settings.server in {"llama_cpp", "lm_studio"}:
        body["extra_body"] = {"top_k": sampling.top_k}
    elif settings.server == "vllm":
        body["extra_body"] = {"top_k": sampling.top_k or -1}
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if request.tools:
        body["tools"] = write_tools(request.tools)
    if request.output_schema is not None:
        form: JsonObject = {"name": "answer", "strict": True, "schema": request.output_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if request.logprobs:
        body["logprobs"] = True
    return body


BACKEND = ChatBackend(OpenAIModelSettings, OpenAIBackend, capabilities)
