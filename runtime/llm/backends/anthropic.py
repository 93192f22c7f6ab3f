"""Anthropic's API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ....configs.chat_models import AnthropicModelSettings
from ....messages.chat import (
    AssistantMessage,
    Capabilities,
    ChatFinish,
    ChatRequest,
    ConversationMessage,
    JsonObject,
    ToolMessage,
    Usage,
)
from .base import (
    BackendStream,
    ChatBackend,
    ClientBackend,
    StreamAccumulator,
    arguments_of,
    read_key,
    split_system,
)
from .boundary import sdk_errors

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import RawMessageStreamEvent

CAPABILITIES = Capabilities(
    streaming=True,
    tools=True,
    json_schema=True,
    temperature=True,
    top_p=True,
    top_k=True,
    stop=True,
    model_list=True,
)
FINISH: dict[str, ChatFinish] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "calls",
    "refusal": "filtered",
}
"""Every other reason is a `stop`."""


class AnthropicBackend(ClientBackend):
    """One model of Anthropic's."""

    package = extra = "anthropic"
    capabilities = CAPABILITIES

    def __init__(self, settings: AnthropicModelSettings) -> None:
        super().__init__()
        self.name = f"{settings.model} at {settings.base_url}"
        self._settings = settings
        self.secrets = (read_key(settings.api_key_env, settings.base_url),)

    def _connect(self) -> None:
        import anthropic

        self.errors = sdk_errors(self.name, anthropic)
        self._client: AsyncAnthropic = anthropic.AsyncAnthropic(
            api_key=self.secrets[0], base_url=self._settings.base_url, max_retries=0, timeout=None
        )

    async def stream(self, request: ChatRequest, *, live: bool) -> BackendStream:
        """See `Backend.stream`."""
        accumulator = StreamAccumulator()
        body = _body(request, self._settings.model)
        async with await self._client.messages.create(**body, stream=True) as events:
            async for event in events:
                text = _read(accumulator, event)
                if text:
                    yield text
        yield accumulator.reply()

    async def models(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple([model.id async for model in self._client.models.list()])

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.close()


def _body(request: ChatRequest, model: str) -> JsonObject:
    """Sampling goes beside the parameters that the client knows: not every model takes it."""
    sampling = request.sampling
    system, rest = split_system(request.messages)
    body: JsonObject = {"model": model, "max_tokens": sampling.max_tokens, "messages": _write(rest)}
    chosen: JsonObject = {}
    if sampling.temperature != 1.0:
        chosen["temperature"] = sampling.temperature
    if sampling.top_p != 1.0:
        chosen["top_p"] = sampling.top_p
    if sampling.top_k:
        chosen["top_k"] = sampling.top_k
    if chosen:
        body["extra_body"] = chosen
    if system:
        body["system"] = system
    if sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
            for tool in request.tools
        ]
    if request.output_schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": request.output_schema}}
    return body


def _read(accumulator: StreamAccumulator, event: RawMessageStreamEvent) -> str:
    if event.type == "message_start":
        accumulator.model = event.message.model
        accumulator.usage = _usage(event.message.usage, accumulator.usage)
    elif event.type == "content_block_start" and event.content_block.type == "tool_use":
        accumulator.call(event.index, id=event.content_block.id, name=event.content_block.name)
    elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
        accumulator.call(event.index, arguments=event.delta.partial_json)
    elif event.type == "content_block_delta" and event.delta.type == "text_delta":
        return accumulator.text(event.delta.text)
    elif event.type == "message_delta":
        accumulator.finish = FINISH.get(event.delta.stop_reason or "", "stop")
        accumulator.usage = _usage(event.usage, accumulator.usage)
    return ""


def _usage(counted: object, before: Usage | None) -> Usage:
    """The prompt is counted at the start and the completion at the end; each event repeats what it knows."""
    before = before or Usage()
    known = {name: value for name, value in vars(counted).items() if isinstance(value, int)}
    cached = known.get("cache_read_input_tokens", 0)
    prompt = known.get("input_tokens", 0) + known.get("cache_creation_input_tokens", 0) + cached
    return Usage(
        prompt_tokens=max(prompt, before.prompt_tokens),
        completion_tokens=max(known.get("output_tokens", 0), before.completion_tokens),
        cached_tokens=max(cached, before.cached_tokens),
    )


def _write(messages: Sequence[ConversationMessage]) -> list[JsonValue]:
    """Results of calls made together belong into one message of the user."""
    written: list[JsonValue] = []
    results: list[JsonValue] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            if not results:
                written.append({"role": "user", "content": results})
            results.append({"type": "tool_result", "tool_use_id": message.call_id, "content": message.text})
            continue
        results = []
        written.append({"role": message.role, "content": _blocks(message)})
    return written


def _blocks(message: ConversationMessage) -> list[JsonValue]:
    blocks: list[JsonValue] = [{"type": "text", "text": message.text}] if message.text.strip() else []
    for call in message.calls if isinstance(message, AssistantMessage) else ():
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call)})
    return blocks


BACKEND = ChatBackend(AnthropicModelSettings, AnthropicBackend, lambda settings: CAPABILITIES)
