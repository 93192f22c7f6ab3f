"""A local server that speaks the wires of five providers, and does what a test tells it to.

Each `Wire` writes one provider's language: the frames of a streamed answer, a whole answer, an error.
A test puts `Act`s into the server's script; each request plays the next one, the last one for ever.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from aiohttp import web

from agentfactory.configs.chat_models import (
    AnthropicModelSettings,
    ChatModelSettings,
    CohereModelSettings,
    GoogleModelSettings,
    OllamaModelSettings,
    OpenAIModelSettings,
)

Json = dict[str, object]
KEY = "sk-very-secret-0123456789"
KEY_ENV = "MODEL_TEST_KEY"


@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: Json


@dataclass(frozen=True)
class Act:
    """What the server does with one request."""

    pieces: tuple[str, ...] = ("Hel", "lo")
    calls: tuple[Call, ...] = ()
    finish: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 11
    completion_tokens: int = 5
    status: int = 200
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    then: Literal["end", "stall", "cut", "short", "broken"] = "end"
    """`short` ends in good order, but too early. All but `end` come after the first piece, or at once where
    `at_once` is set."""
    at_once: bool = False


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: Json

    def at(self, *keys: str | int) -> object:
        """What lies in the body under these keys, one in the other."""
        value: object = self.body
        for key in keys:
            value = value[key]  # type: ignore[index]
        return value


class Wire(Protocol):
    """One provider's language."""

    name: str
    content_type: str

    def frames(self, act: Act) -> list[bytes]: ...
    def whole(self, act: Act) -> Json: ...
    def error(self, status: int, message: str) -> Json: ...
    def settings(self, url: str, **more: object) -> ChatModelSettings: ...


def sse(data: Json | str, event: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


class OpenAIWire:
    name, content_type = "openai", "text/event-stream"

    def frames(self, act: Act) -> list[bytes]:
        frames = [self._chunk({"content": piece}) for piece in act.pieces]
        for index, call in enumerate(act.calls):
            whole = json.dumps(call.arguments)
            start = {"index": index, "id": call.id, "type": "function"}
            frames.append(self._call(start | {"function": {"name": call.name, "arguments": whole[:4]}}))
            frames.append(self._call({"index": index, "function": {"arguments": whole[4:]}}))
        finish = "tool_calls" if act.calls else act.finish
        usage = sse(self._base("chat.completion.chunk") | {"choices": [], "usage": self._usage(act)})
        return [*frames, self._chunk({}, finish), usage, sse("[DONE]")]

    def whole(self, act: Act) -> Json:
        message = {"role": "assistant", "content": "".join(act.pieces)}
        choice = {"index": 0, "message": message, "finish_reason": act.finish}
        return self._base("chat.completion") | {"choices": [choice], "usage": self._usage(act)}

    def error(self, status: int, message: str) -> Json:
        return {"error": {"message": message, "type": "some_error", "code": None}}

    def settings(self, url: str, **more: object) -> ChatModelSettings:
        values = {"model": "m", "base_url": f"{url}/v1", "api_key_env": KEY_ENV, "server": "vllm"}
        return OpenAIModelSettings.model_validate(values | more)

    def _base(self, kind: str) -> Json:
        return {"id": "c1", "object": kind, "created": 1, "model": "served-m"}

    def _usage(self, act: Act) -> Json:
        details = {"cached_tokens": 3}
        return {
            "prompt_tokens": act.prompt_tokens,
            "completion_tokens": act.completion_tokens,
            "total_tokens": act.prompt_tokens + act.completion_tokens,
            "prompt_tokens_details": details,
        }

    def _chunk(self, delta: Json, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return sse(self._base("chat.completion.chunk") | {"choices": [choice]})

    def _call(self, call: Json) -> bytes:
        return self._chunk({"tool_calls": [call]})


class OllamaWire:
    name, content_type = "ollama", "application/x-ndjson"

    def frames(self, act: Act) -> list[bytes]:
        calls = [{"function": {"name": c.name, "arguments": c.arguments}} for c in act.calls]
        messages = [{"role": "assistant", "content": piece} for piece in act.pieces]
        if calls:
            messages.append({"role": "assistant", "content": "", "tool_calls": calls})  # type: ignore[dict-item]
        parts: list[Json] = [{"model": "served-m", "message": m, "done": False} for m in messages]
        return [json.dumps(part).encode() + b"\n" for part in [*parts, self.whole(act)]]

    def whole(self, act: Act) -> Json:
        return {
            "model": "served-m",
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": act.finish,
            "prompt_eval_count": act.prompt_tokens,
            "eval_count": act.completion_tokens,
        }

    def error(self, status: int, message: str) -> Json:
        return {"error": message}

    def settings(self, url: str, **more: object) -> ChatModelSettings:
        values = {"model": "m", "base_url": url, "api_key_env": KEY_ENV}
        return OllamaModelSettings.model_validate(values | more)


class AnthropicWire:
    name, content_type = "anthropic", "text/event-stream"

    def frames(self, act: Act) -> list[bytes]:
        usage = {"input_tokens": act.prompt_tokens - 3, "cache_read_input_tokens": 3, "output_tokens": 1}
        message = {"id": "m1", "type": "message", "role": "assistant", "model": "served-m", "content": []}
        start: Json = {"type": "message_start", "message": message | {"stop_reason": None, "usage": usage}}
        events: list[Json] = [start]
        events += self._block(0, {"type": "text", "text": ""}, "text_delta", "text", act.pieces)
        for index, call in enumerate(act.calls, start=1):
            block: Json = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            whole = json.dumps(call.arguments)
            events += self._block(index, block, "input_json_delta", "partial_json", (whole[:4], whole[4:]))
        reason = "tool_use" if act.calls else {"stop": "end_turn", "length": "max_tokens"}[act.finish]
        events.append(
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": {"output_tokens": act.completion_tokens},
            }
        )
        events.append({"type": "message_stop"})
        return [sse(event, str(event["type"])) for event in events]

    def whole(self, act: Act) -> Json:
        raise AssertionError("always streamed")

    def error(self, status: int, message: str) -> Json:
        return {"type": "error", "error": {"type": "some_error", "message": message}}

    def settings(self, url: str, **more: object) -> ChatModelSettings:
        values = {"model": "m", "base_url": url, "api_key_env": KEY_ENV}
        return AnthropicModelSettings.model_validate(values | more)

    def _block(self, index: int, block: Json, kind: str, key: str, pieces: tuple[str, ...]) -> list[Json]:
        deltas: list[Json] = [
            {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: piece}}
            for piece in pieces
        ]
        start: Json = {"type": "content_block_start", "index": index, "content_block": block}
        return [start, *deltas, {"type": "content_block_stop", "index": index}]


class GoogleWire:
    name, content_type = "google", "text/event-stream"

    def frames(self, act: Act) -> list[bytes]:
        parts: list[list[Json]] = [[{"text": piece}] for piece in act.pieces]
        calls: list[Json] = [
            {
                "functionCall": {"id": c.id, "name": c.name, "args": c.arguments},
                "thoughtSignature": "c2lnbmVk",
            }
            for c in act.calls
        ]
        parts += [calls] if calls else []
        candidates: list[Json] = [{"content": {"role": "model", "parts": p}} for p in parts]
        candidates[-1]["finishReason"] = {"stop": "STOP", "length": "MAX_TOKENS"}[act.finish]
        usage = {
            "promptTokenCount": act.prompt_tokens,
            "candidatesTokenCount": act.completion_tokens - 2,
            "thoughtsTokenCount": 2,
        }
        return [
            sse({"candidates": [c], "modelVersion": "served-m", "usageMetadata": usage}) for c in candidates
        ]

    def whole(self, act: Act) -> Json:
        raise AssertionError("always streamed")

    def error(self, status: int, message: str) -> Json:
        return {"error": {"code": status, "message": message, "status": "SOME_ERROR"}}

    def settings(self, url: str, **more: object) -> ChatModelSettings:
        values = {"model": "m", "base_url": url, "api_key_env": KEY_ENV}
        return GoogleModelSettings.model_validate(values | more)


class CohereWire:
    name, content_type = "cohere", "text/event-stream"

    def frames(self, act: Act) -> list[bytes]:
        events: list[Json] = [
            {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant"}}}
        ]
        events += [
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}}
            for piece in act.pieces
        ]
        for index, call in enumerate(act.calls):
            whole = json.dumps(call.arguments)
            started = {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": whole[:4]},
            }
            for kind, said in (("start", started), ("delta", {"function": {"arguments": whole[4:]}})):
                delta = {"message": {"tool_calls": said}}
                events.append({"type": f"tool-call-{kind}", "index": index, "delta": delta})
        events.append({"type": "message-end", "delta": self._end(act)})
        return [sse(event, str(event["type"])) for event in events]

    def whole(self, act: Act) -> Json:
        calls = [
            {
                "id": c.id,
                "type": "function",
                "function": {"name": c.name, "arguments": json.dumps(c.arguments)},
            }
            for c in act.calls
        ]
        content = [{"type": "text", "text": "".join(act.pieces)}]
        message = {"role": "assistant", "content": content, "tool_calls": calls or None}
        return {"id": "1", "message": message} | self._end(act)

    def error(self, status: int, message: str) -> Json:
        return {"message": message}

    def settings(self, url: str, **more: object) -> ChatModelSettings:
        values = {"model": "m", "base_url": url, "api_key_env": KEY_ENV}
        return CohereModelSettings.model_validate(values | more)

    def _end(self, act: Act) -> Json:
        reason = "TOOL_CALL" if act.calls else {"stop": "COMPLETE", "length": "MAX_TOKENS"}[act.finish]
        tokens = {"input_tokens": act.prompt_tokens, "output_tokens": act.completion_tokens}
        return {"finish_reason": reason, "usage": {"tokens": tokens}}


WIRES: tuple[Wire, ...] = (OpenAIWire(), OllamaWire(), AnthropicWire(), GoogleWire(), CohereWire())


class ModelServer:
    """Plays its script; remembers what was asked."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.script: list[Act] = [Act()]
        self.routes: dict[str, Json | list[Json]] = {}
        """Answers of other paths, by their ending; a list is sent as lines."""
        self.seen: list[Seen] = []
        self.url = ""
        self.under_way = asyncio.Event()
        """A request has been answered in part."""
        self.gate = asyncio.Event()
        """Where it is shut, requests wait before they are answered."""
        self.gate.set()
        self.running = self.most = 0
        self.arrived = asyncio.Event()
        self.hung_up = asyncio.Event()
        """A client closed the connection before its answer was complete."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else {}
        self.seen.append(Seen(request.path_qs, dict(request.headers), body))
        for ending, answer in self.routes.items():
            if request.path.endswith(ending):
                return _answer(answer)
        self.running += 1
        self.most = max(self.most, self.running)
        self.arrived.set()
        await self.gate.wait()
        act = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        try:
            return await self._play(request, act, body.get("stream") is True or "stream" in request.path)
        except (asyncio.CancelledError, ConnectionResetError):
            self.hung_up.set()
            raise
        finally:
            self.running -= 1

    async def _play(self, request: web.Request, act: Act, streamed: bool) -> web.StreamResponse:
        if act.status != 200:
            body = self.wire.error(act.status, act.error)
            return web.json_response(body, status=act.status, headers=act.headers)
        frames = self.wire.frames(act) if streamed else [json.dumps(self.wire.whole(act)).encode()]
        kind = self.wire.content_type if streamed else "application/json"
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        whole = act.then == "end"
        at = len(frames) if whole else 0 if act.at_once or not streamed else _after_first_piece(frames, act)
        for frame in frames[:at]:
            await response.write(frame)
        self.under_way.set()
        if act.then == "stall":
            await asyncio.Event().wait()
        elif act.then == "cut":
            assert request.transport is not None
            request.transport.abort()
            return response
        elif act.then == "broken":
            await response.write(_spoiled(frames[at]))
        await response.write_eof()
        return response


def _after_first_piece(frames: list[bytes], act: Act) -> int:
    return next(i for i, frame in enumerate(frames, start=1) if act.pieces[0].encode() in frame)


def _spoiled(frame: bytes) -> bytes:
    """The same frame, its JSON broken."""
    return frame.replace(b"{", b"{{{", 1)


def _answer(answer: Json | list[Json]) -> web.Response:
    if isinstance(answer, list):
        return web.Response(body=b"".join(json.dumps(line).encode() + b"\n" for line in answer))
    return web.json_response(answer)


@asynccontextmanager
async def serving(wire: Wire) -> AsyncIterator[ModelServer]:
    """A server on a free port of this machine."""
    server = ModelServer(wire)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
