"""Schema of responses in OpenAI's form."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple
from uuid import uuid4

from pydantic import JsonValue

from ...messages.chat import JsonObject, TokenLogprob, Usage
from ...runtime.llm.openai_schema import write_usage

Kind = Literal["chat.completion", "chat.completion.chunk", "text_completion"]


class ResponseHead(NamedTuple):
    """Head that a reply and all of its chunks have in common."""

    id: str
    created: int
    model: str

    @classmethod
    def new(cls, prefix: str, model: str) -> ResponseHead:
        """Of a reply that begins now."""
        return cls(f"{prefix}-{uuid4().hex}", int(time.time()), model)

    def body(self, kind: Kind, choices: Sequence[JsonObject], usage: Usage | None = None) -> JsonObject:
        """A whole reply, or a chunk of one."""
        body: JsonObject = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": list(choices),
        }
        return body if usage is None else body | {"usage": write_usage(usage)}


def chat_logprobs(tokens: Iterable[TokenLogprob]) -> JsonObject:
    """Sampled tokens of a chat. No others: engines report the one that they drew."""
    return {"content": [_chat_token(token) for token in tokens]}


def completion_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> JsonObject:
    """Sampled tokens of a completion; `offset`: characters of the reply before them.

    Half a character is written as OpenAI writes it, `bytes:\\xf0`, and lies where the character does.
    """
    offsets: list[JsonValue] = []
    for token in tokens:
        offsets.append(max(0, offset - 1) if _goes_on(token) else offset)
        offset += characters(token)
    return {
        "tokens": [("bytes:" if _is_half(token) else "") + token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": None,
        "text_offset": offsets,
    }


def characters(token: TokenLogprob) -> int:
    """Number of characters that begin in a token."""
    return sum(byte & 0xC0 != 0x80 for byte in _bytes(token))


def model_list(names: Iterable[str], created: int) -> JsonObject:
    """List of the names that can stand as `model`."""
    return {"object": "list", "data": [model_of(name, created) for name in names]}


def model_of(name: str, created: int) -> JsonObject:
    """One of them."""
    return {"id": name, "object": "model", "created": created, "owned_by": "agentfactory"}


def _chat_token(token: TokenLogprob) -> JsonObject:
    return {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": list(_bytes(token)),
        "top_logprobs": [],
    }


def _bytes(token: TokenLogprob) -> bytes:
    return token.text.encode() if token.utf8 is None else bytes(token.utf8)


def _goes_on(token: TokenLogprob) -> bool:
    """True if it begins in the midst of a character."""
    return _bytes(token)[:1] >= b"\x80" and _bytes(token)[:1] < b"\xc0"


def _is_half(token: TokenLogprob) -> bool:
    """True if its bytes are no whole characters."""
    return _bytes(token).decode("utf-8", "replace").encode() != _bytes(token)
