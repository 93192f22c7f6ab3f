"""Cohere's API, version 2.

Its client leaves out pieces of a stream that it cannot read, so that a reply nobody watches is fetched
whole instead.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from ....configs.chat_models import CohereModelSettings
from ....messages.chat import Capabilities, ChatFinish, ChatRequest, JsonObject, Usage
from ..errors import BrokenReply, ModelUnavailable
from ..openai_schema import write_messages, write_tools
from .base import BackendStream, BackendVectors, ChatBackend, ClientBackend, StreamAccumulator, read_key
from .boundary import HttpErrors, HttpFailure

if TYPE_CHECKING:
    from cohere import AsyncClientV2
    from cohere.types import Usage as CohereUsage
    from cohere.v2.types import V2ChatResponse, V2ChatStreamResponse

CAPABILITIES = Capabilities(
    streaming=True,
    tools=True,
    json_schema=True,
    embeddings=True,
    temperature=True,
    top_p=True,
    top_k=True,
    seed=True,
    stop=True,
    model_list=True,
)
FINISH: dict[str, ChatFinish] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "calls",
}
HIGHEST_TOP_P = 0.99


class CohereBackend(ClientBackend):
    """One model of Cohere's."""

    package, extra = "cohere", "cohere"
    capabilities = CAPABILITIES

    def __init__(self, settings: CohereModelSettings) -> None:
        super().__init__()
        self.name = f"{settings.model} at {settings.base_url}"
        self._settings = settings
        self.secrets = (read_key(settings.api_key_env, settings.base_url),)

    def _connect(self) -> None:
        import cohere
        import httpx
        from cohere.core.api_error import ApiError
        from cohere.core.parse_error import ParsingError

        def failure_of(error: Exception) -> HttpFailure | None:
            if not isinstance(error, ApiError) or (error.status_code or 0) < 300:
                return None
            return HttpFailure(error.status_code, error.headers, str(error.body))

        self.errors = HttpErrors(self.name, httpx, failure_of, unreadable=(ApiError, ParsingError))
        self._http = httpx.AsyncClient(timeout=None)
        self._client: AsyncClientV2 = cohere.AsyncClientV2(
            self.secrets[0], base_url=self._settings.base_url, max_retries=0, httpx_client=self._http
        )

    def is_unary(self, *, live: bool) -> bool:
        """See above: whenever nobody looks."""
        return not live

    async def stream(self, request: ChatRequest, *, live: bool) -> BackendStream:
        """See `Backend.stream`."""
        accumulator = StreamAccumulator()
        body = _body(request, self._settings.model)
        if not live:
            _read_whole(accumulator, await self._client.chat(**body))
            yield accumulator.reply()
            return
        async with aclosing(self._client.chat_stream(**body)) as events:
            async for event in events:
                text = _read(accumulator, event)
                if text:
                    yield text
        yield accumulator.reply()

    async def embed(self, texts: tuple[str, ...]) -> BackendVectors:
        """See `Backend.embed`."""
        found = await self._client.embed(
            model=self._settings.embedding_model or self._settings.model,
            input_type="clustering",
            texts=list(texts),
            embedding_types=["float"],
        )
        return BackendVectors(tuple(map(tuple, found.embeddings.float_ or ())), None)

    async def models(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(str(model.name) for model in (await self._client.models.list()).models)

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()


def _body(request: ChatRequest, model: str) -> JsonObject:
    sampling = request.sampling
    body: JsonObject = {
        "model": model,
        "messages": write_messages(request.messages),
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "p": min(sampling.top_p, HIGHEST_TOP_P),
        "k": sampling.top_k,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    if request.tools:
        body["tools"] = write_tools(request.tools)
    if request.output_schema is not None:
        body["response_format"] = {"type": "json_object", "json_schema": request.output_schema}
    return body


def _read(accumulator: StreamAccumulator, event: V2ChatStreamResponse) -> str:
    if event.type == "content-delta":
        return accumulator.text(event.delta.message.content.text or "")
    if event.type in {"tool-call-start", "tool-call-delta"}:
        call = event.delta.message.tool_calls
        accumulator.call(
            event.index or 0,
            id=getattr(call, "id", None) or "",  # a delta has none
            name=getattr(call.function, "name", None) or "",
            arguments=call.function.arguments or "",
        )
    elif event.type == "message-end":
        _end(accumulator, event.delta.finish_reason, event.delta.usage)
    return ""


def _read_whole(accumulator: StreamAccumulator, response: V2ChatResponse) -> None:
    if response.message is None:
        raise BrokenReply("the reply holds no message")
    for content in response.message.content or ():
        if content.type == "text":
            accumulator.text(content.text)
    for index, call in enumerate(response.message.tool_calls or ()):
        accumulator.call(
            index, id=call.id or "", name=call.function.name or "", arguments=call.function.arguments or ""
        )
    _end(accumulator, response.finish_reason, response.usage)


def _end(accumulator: StreamAccumulator, reason: str | None, usage: CohereUsage | None) -> None:
    if reason in {"ERROR", "TIMEOUT"}:
        raise ModelUnavailable(f"the server broke off with {reason}")
    accumulator.finish = FINISH.get(reason, "stop") if reason else None
    if usage is not None and usage.tokens is not None:
        accumulator.usage = Usage(
            prompt_tokens=int(usage.tokens.input_tokens or 0),
            completion_tokens=int(usage.tokens.output_tokens or 0),
            cached_tokens=int(usage.cached_tokens or 0),
        )


BACKEND = ChatBackend(CohereModelSettings, CohereBackend, lambda settings: CAPABILITIES)
