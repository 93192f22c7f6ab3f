"""Request preparation: checked against the backend's capabilities, truncated to the context."""

from __future__ import annotations

import asyncio
import json
from typing import NamedTuple

from ...messages.chat import Capability, ChatRequest, Usage
from ..engines.chat.function_calling import calls_functions
from .backends.base import Backend, BackendReply
from .context_window import estimate_tokens, truncate_to_context
from .errors import BrokenReply, ContextTooLong, Unsupported


class PreparedRequest(NamedTuple):
    """A request as it is sent, and what has to be remembered of it."""

    request: ChatRequest
    dropped: int
    prompt_tokens: int
    """Counted or estimated."""
    started: float

    @property
    def tokens(self) -> int:
        """Prompt and completion at most."""
        return self.prompt_tokens + self.request.sampling.max_tokens


def prepare(request: ChatRequest, backend: Backend, context_tokens: int | None) -> PreparedRequest:
    """Raises Unsupported or ContextTooLong."""
    missing = backend.capabilities.missing(_needs(request))
    if missing:
        raise Unsupported(f"{backend.name} cannot do what the request asks for: {', '.join(missing)}")
    tools = sum(estimate_tokens(tool.model_dump_json()) for tool in request.tools)
    messages, dropped = request.messages, 0
    if context_tokens is not None:
        room = context_tokens - request.sampling.max_tokens - tools
        if room <= 0:
            raise ContextTooLong(
                f"{backend.name}: max_tokens ({request.sampling.max_tokens}) and the tools ({tools} tokens) "
                f"leave nothing of context_tokens ({context_tokens}) for the prompt"
            )
        messages, dropped = truncate_to_context(messages, room, backend.count)
    if dropped:
        request = request.model_copy(update={"messages": messages})
    started = asyncio.get_running_loop().time()
    return PreparedRequest(request, dropped, backend.count(messages) + tools, started)


def usage_of(asked: PreparedRequest, reply: BackendReply) -> Usage:
    """As the backend counted, else as we estimate."""
    if reply.usage is not None:
        return reply.usage
    written = reply.text + "".join(call.name + call.arguments for call in reply.calls)
    return Usage(
        prompt_tokens=asked.prompt_tokens, completion_tokens=estimate_tokens(written), estimated=True
    )


def check_form(asked: PreparedRequest, reply: BackendReply, name: str) -> None:
    """Check that a finished reply is JSON where a schema was asked for. Raises BrokenReply."""
    if asked.request.output_schema is None or reply.finish_reason != "stop":
        return
    try:
        json.loads(reply.text)
    except ValueError as error:
        raise BrokenReply(f"{name}: a schema was asked for, and the reply is not JSON: {error}") from error


def _needs(request: ChatRequest) -> tuple[Capability, ...]:
    sampling = request.sampling
    wishes: dict[Capability, bool] = {
        "tools": bool(request.tools) or calls_functions(request.messages),
        "json_schema": request.output_schema is not None,
        "logprobs": request.logprobs,
        "adapters": request.adapter is not None,
        "temperature": sampling.temperature != 1.0,
        "top_p": sampling.top_p != 1.0,
        "top_k": sampling.top_k != 0,
        "seed": sampling.seed is not None,
        "stop": bool(sampling.stop),
    }
    return tuple(need for need, wished in wishes.items() if wished)
