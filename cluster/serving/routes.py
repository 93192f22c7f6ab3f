"""Routes of the model server: a request is read, asked of the engine, and written back, whole or in chunks.

Access is checked in front of them, and every error has OpenAI's form.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import TypeVar

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Send

from ...configs.errors import AgentFactoryError
from ...messages.chat import JsonObject
from ...runtime.llm.context_window import estimate_tokens
from . import metrics
from .completions import chat_chunks, chat_reply, completion_chunks, completion_reply
from .errors import MODEL_ERRORS, ApiError, refused, to_api_error
from .http_server import install_middleware
from .json_body import JsonRoute
from .request_schema import ChatBody, CompletionBody, EmbeddingBody
from .response_schema import model_list, model_of
from .served_model import ServedModel

log = structlog.get_logger("serving")
T = TypeVar("T")
CLIENT_GONE = 499
"""Nobody reads it; it is what the count of requests says."""


class Routes:
    """One method a route."""

    def __init__(self, service: ServedModel) -> None:
        self._service = service

    def router(self) -> APIRouter:
        """All of them."""
        router = APIRouter(route_class=JsonRoute)
        post, get = router.post, router.get
        post("/v1/chat/completions", response_model=None)(self.chat)
        post("/v1/completions", response_model=None)(self.complete)
        post("/v1/embeddings", response_model=None)(self.embed)
        get("/v1/models", response_model=None)(self.models)
        get("/v1/models/{name:path}", response_model=None)(self.model)
        get("/health", response_model=None)(self.health)
        get("/metrics", response_model=None)(self.metrics)
        return router

    async def chat(self, body: ChatBody, request: Request) -> Response:
        """Continue a conversation."""
        body.check()
        self._service.check_model(body.model)
        self._check_choices(body.choices, "n")
        prompt = await asyncio.to_thread(self._service.chat_prompt, body)
        if body.stream:
            return await _stream(request, chat_chunks(self._service, body, prompt))
        return JSONResponse(await _while_connected(request, chat_reply(self._service, body, prompt)))

    async def complete(self, body: CompletionBody, request: Request) -> Response:
        """Continue prompts."""
        body.check()
        self._service.check_model(body.model)
        self._check_choices(len(body.prompts), "prompt")
        self._check_choices(len(body.prompts) * body.choices, "n")
        prompts = await asyncio.to_thread(self._service.prompt_tokens, body.prompts)
        if body.stream:
            return await _stream(request, completion_chunks(self._service, body, prompts))
        return JSONResponse(await _while_connected(request, completion_reply(self._service, body, prompts)))

    async def embed(self, body: EmbeddingBody, request: Request) -> Response:
        """Texts as unit vectors."""
        body.check()
        texts, limit = body.texts, self._service.settings.max_prompts
        if not 1 <= len(texts) <= limit or not all(texts):
            raise refused(f"input: expected 1 to {limit} texts, none of them empty", "input", "invalid_value")
        vectors = await self._service.embed(body.model, texts)
        tokens = sum(map(estimate_tokens, texts))
        self._service.metrics.used(body.model, tokens, 0)
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": vector.tolist()
                if body.encoding_format == "float"
                else base64.b64encode(vector.astype("<f4").tobytes()).decode(),
            }
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": body.model, "usage": usage})

    async def models(self) -> Response:
        """List of the names that can stand as `model`."""
        return JSONResponse(model_list(self._service.names, self._service.created))

    async def model(self, name: str) -> Response:
        """One of them."""
        if name not in self._service.names:
            raise ApiError(404, f"there is no model {name!r} here", code="model_not_found", param="model")
        return JSONResponse(model_of(name, self._service.created))

    async def health(self) -> Response:
        """200 while the engine answers."""
        await self._service.statistics()
        return JSONResponse({"status": "ok"})

    async def metrics(self) -> Response:
        """Counts for Prometheus."""
        text = self._service.metrics.text(await self._service.statistics())
        return PlainTextResponse(text, media_type=metrics.CONTENT_TYPE)

    def _check_choices(self, choices: int, param: str) -> None:
        """Raises ApiError where a request asks for too many replies at once, or for none."""
        limit = self._service.settings.max_prompts
        if not 1 <= choices <= limit:
            told = f"{param}: {choices} replies in one request; expected 1 to {limit} (serving.max_prompts)"
            raise refused(told, param, "invalid_value")


class EventStream(StreamingResponse):
    """Server-sent events. A client that goes away ends what makes them."""

    def __init__(self, events: AsyncGenerator[str, None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._events = events

    async def stream_response(self, send: Send) -> None:
        """Send them; whatever happens, their maker is closed here and now."""
        async with aclosing(self._events):
            await super().stream_response(send)


async def _stream(request: Request, chunks: AsyncGenerator[JsonObject, None]) -> Response:
    """The chunks as events, once there is one: what is refused before is answered with its own status."""
    first = await _while_connected(request, anext(chunks))
    return EventStream(_events(first, chunks))


async def _events(first: JsonObject, chunks: AsyncGenerator[JsonObject, None]) -> AsyncGenerator[str, None]:
    """Chunks as events. An error ends the stream with an event of its own, and without `[DONE]`."""
    async with aclosing(chunks):
        yield _event(first)
        try:
            async for chunk in chunks:
                yield _event(chunk)
        except AgentFactoryError as error:
            log.warning("stream broke", error=repr(error))
            yield _event(to_api_error(error, MODEL_ERRORS).body)
        else:
            yield "data: [DONE]\n\n"


def _event(body: JsonObject) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """The outcome of the work, which is cancelled when the client goes away. Raises ApiError then."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ApiError(CLIENT_GONE, "the client has gone away", code="client_gone")
    finally:
        working.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def build(service: ServedModel, keys: tuple[str, ...]) -> FastAPI:
    """An application that serves this; without keys, to this machine only."""
    app = FastAPI(title="AgentFactory", docs_url=None, redoc_url=None)
    app.include_router(Routes(service).router())
    install_middleware(app, service.settings, keys, service.metrics, MODEL_ERRORS)
    return app
