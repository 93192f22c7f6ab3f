"""Google's Gemini API."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ....configs.chat_models import GoogleModelSettings
from ....messages.chat import (
    AssistantMessage,
    Capabilities,
    ChatFinish,
    ChatRequest,
    ConversationMessage,
    FunctionCall,
    JsonObject,
    ToolMessage,
    Usage,
)
from .base import (
    BackendStream,
    BackendVectors,
    ChatBackend,
    ClientBackend,
    StreamAccumulator,
    arguments_of,
    read_key,
    split_system,
)
from .boundary import HttpErrors, HttpFailure

if TYPE_CHECKING:
    from google.genai import Client
    from google.genai.types import Content, GenerateContentConfig, GenerateContentResponse, Part
    from httpx import Response

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
FINISH: dict[str, ChatFinish] = {"STOP": "stop", "MAX_TOKENS": "length"}
"""For every other reason the answer was withheld."""


_responses: ContextVar[list[Response] | None] = ContextVar("responses", default=None)
"""List that takes the response of the request that is being made in this task."""


async def _remember(response: Response) -> None:
    wanted = _responses.get()
    if wanted is not None:
        wanted.append(response)


class GoogleBackend(ClientBackend):
    """One model of Google's."""

    package, extra = "google.genai", "google"
    capabilities = CAPABILITIES

    def __init__(self, settings: GoogleModelSettings) -> None:
        super().__init__()
        self.name = f"{settings.model} at {settings.base_url}"
        self._settings = settings
        self.secrets = (read_key(settings.api_key_env, settings.base_url),)

    def _connect(self) -> None:
        import httpx
        from google import genai
        from google.genai import errors, types

        def failure_of(error: Exception) -> HttpFailure | None:
            if not isinstance(error, errors.APIError):
                return None
            headers = getattr(error.response, "headers", None)  # the kind of response is not fixed
            return HttpFailure(int(error.code or 0), headers, error.message or str(error.details))

        self.errors = HttpErrors(self.name, httpx, failure_of, unreadable=(errors.UnknownApiResponseError,))
        self._types = types
        # Without one of ours the library may take up aiohttp, and it closes no stream that is left early.
        self._http = httpx.AsyncClient(timeout=None, event_hooks={"response": [_remember]})
        self._client: Client = genai.Client(
            vertexai=False,
            api_key=self.secrets[0],
            http_options=types.HttpOptions(
                base_url=self._settings.base_url,
                retry_options=types.HttpRetryOptions(attempts=1),
                httpx_async_client=self._http,
            ),
        )

    async def stream(self, request: ChatRequest, *, live: bool) -> BackendStream:
        """See `Backend.stream`."""
        accumulator = StreamAccumulator()
        opened: list[Response] = []
        _responses.set(opened)
        system, rest = split_system(request.messages)
        parts = await self._client.aio.models.generate_content_stream(
            model=self._settings.model,
            contents=self._contents(rest),
            config=self._config(request, system),
        )
        try:
            async for part in parts:
                text = _read(accumulator, part)
                if text:
                    yield text
        finally:
            await parts.aclose()
            for response in opened:
                await response.aclose()
        yield accumulator.reply()

    async def embed(self, texts: tuple[str, ...]) -> BackendVectors:
        """See `Backend.embed`."""
        model = self._settings.embedding_model or self._settings.model
        found = await self._client.aio.models.embed_content(model=model, contents=list(texts))
        return BackendVectors(tuple(tuple(entry.values) for entry in found.embeddings), None)

    async def models(self) -> tuple[str, ...]:
        """Their names, without `models/`."""
        found = await self._client.aio.models.list()
        return tuple([str(model.name).removeprefix("models/") async for model in found])

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.aio.aclose()
        await self._http.aclose()

    def _config(self, request: ChatRequest, system: str) -> GenerateContentConfig:
        sampling, types = request.sampling, self._types
        functions = [
            types.FunctionDeclaration(
                name=tool.name, description=tool.description, parameters_json_schema=tool.parameters
            )
            for tool in request.tools
        ]
        return types.GenerateContentConfig(
            system_instruction=system or None,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or None,
            max_output_tokens=sampling.max_tokens,
            stop_sequences=list(sampling.stop) or None,
            seed=sampling.seed,
            response_mime_type="application/json" if request.output_schema is not None else None,
            response_json_schema=request.output_schema,
            tools=[types.Tool(function_declarations=functions)] if functions else None,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )

    def _contents(self, messages: Sequence[ConversationMessage]) -> list[Content]:
        """Results of calls made together belong into one turn."""
        contents: list[Content] = []
        before: ConversationMessage | None = None
        for message in messages:
            parts = self._parts(message)
            if isinstance(message, ToolMessage) and isinstance(before, ToolMessage):
                contents[-1].parts.extend(parts)
            else:
                role = "model" if isinstance(message, AssistantMessage) else "user"
                contents.append(self._types.Content(role=role, parts=parts))
            before = message
        return contents

    def _parts(self, message: ConversationMessage) -> list[Part]:
        types = self._types
        if isinstance(message, ToolMessage):
            result = {"result": message.text}
            response = types.FunctionResponse(id=message.call_id, name=message.name, response=result)
            return [types.Part(function_response=response)]
        parts = [types.Part(text=message.text)] if message.text else []
        for call in message.calls if isinstance(message, AssistantMessage) else ():
            function = types.FunctionCall(id=call.id, name=call.name, args=arguments_of(call))
            signature = base64.b64decode(call.signature) or None
            parts.append(types.Part(function_call=function, thought_signature=signature))
        return parts


def _read(accumulator: StreamAccumulator, response: GenerateContentResponse) -> str:
    accumulator.model = response.model_version or accumulator.model
    counted = response.usage_metadata
    if counted is not None:
        accumulator.usage = Usage(
            prompt_tokens=(counted.prompt_token_count or 0) + (counted.tool_use_prompt_token_count or 0),
            completion_tokens=(counted.candidates_token_count or 0) + (counted.thoughts_token_count or 0),
            cached_tokens=counted.cached_content_token_count or 0,
        )
    if response.prompt_feedback is not None and response.prompt_feedback.block_reason:
        accumulator.finish = "filtered"
    if not response.candidates:
        return ""
    candidate = response.candidates[0]
    if candidate.finish_reason is not None:
        accumulator.finish = FINISH.get(candidate.finish_reason.name, "filtered")
    parts = (candidate.content.parts if candidate.content else None) or ()
    return accumulator.text("".join(_read_part(accumulator, part) for part in parts))


def _read_part(accumulator: StreamAccumulator, part: Part) -> str:
    if part.function_call is not None:
        accumulator.whole_call(_call(part))
    return "" if part.thought else part.text or ""


def _call(part: Part) -> FunctionCall:
    arguments: JsonObject = dict(part.function_call.args or {})
    return FunctionCall(
        id=part.function_call.id or "",
        name=part.function_call.name,
        arguments=json.dumps(arguments),
        signature=base64.b64encode(part.thought_signature or b"").decode(),
    )


BACKEND = ChatBackend(GoogleModelSettings, GoogleBackend, lambda settings: CAPABILITIES)
