"""A chat's reply, whole or in chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from cluster.serving.replies import Head, calls_of, chat_logprobs
from cluster.serving.service import Service, Written
from cluster.serving.wire import ChatBody
from messages.chat import JsonObject


async def chat_reply(service: Service, body: ChatBody, prompt: tuple[int, ...]) -> JsonObject:
    """The reply in one piece."""
    written = await service.write_whole(body.model, prompt, body.sampling, functions=bool(body.functions))
    message: JsonObject = {"role": "assistant", "content": written.text, "refusal": None}
    if written.calls:
        message |= {"content": written.text or None, "tool_calls": calls_of(written.calls, chunk=False)}
    choice = _choice(body, written) | {"message": message}
    return Head.new("chatcmpl", body.model).body("chat.completion", [choice], written.usage)


async def chat_chunks(
    service: Service, body: ChatBody, prompt: tuple[int, ...]
) -> AsyncGenerator[JsonObject, None]:
    """The reply in chunks: the role, the text as it comes, the calls, the reason of its end, the usage."""
    head = Head.new("chatcmpl", body.model)
    role: JsonObject = {"role": "assistant", "content": ""}
    pieces = service.write(body.model, prompt, body.sampling, live=True, functions=bool(body.functions))
    async with aclosing(pieces):
        async for written in pieces:
            if role:
                yield head.body("chat.completion.chunk", [_delta(role)])
                role = {}
            if written.text or (body.logprobs and written.tokens):
                delta = _delta({"content": written.text})
                if body.logprobs:
                    delta["logprobs"] = chat_logprobs(written.tokens)
                yield head.body("chat.completion.chunk", [delta])
            if written.calls:
                calls = calls_of(written.calls, chunk=True)
                yield head.body("chat.completion.chunk", [_delta({"tool_calls": calls})])
            if written.finish_reason is not None:
                end = _delta({}) | {"finish_reason": _finish(written)}
                yield head.body("chat.completion.chunk", [end])
                if body.wants_usage:
                    yield head.body("chat.completion.chunk", [], written.usage)


def _choice(body: ChatBody, written: Written) -> JsonObject:
    logprobs = chat_logprobs(written.tokens) if body.logprobs else None
    return {"index": 0, "finish_reason": _finish(written), "logprobs": logprobs}


def _delta(delta: JsonObject) -> JsonObject:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}


def _finish(written: Written) -> str | None:
    return "tool_calls" if written.calls else written.finish_reason
