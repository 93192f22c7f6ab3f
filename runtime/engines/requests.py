"""What every engine asks of a request before it takes it."""

from collections.abc import Container
from dataclasses import dataclass

from ...messages.generation import Generate
from .base import BadRequest, PromptTooLong, SchemaRefused


@dataclass(frozen=True, slots=True)
class Limits:
    """What requests have to keep to; known once the model is loaded."""

    max_context: int
    vocabulary: int
    holds_schemas: bool = False
    """Whether output can be held to a JSON schema."""


def check_request(request: Generate, running: Container[str], limits: Limits) -> None:
    """Raises BadRequest, PromptTooLong."""
    prompt = request.prompt_ids
    if request.request_id in running:
        raise BadRequest(f"request {request.request_id!r} is already running")
    if not prompt:
        raise BadRequest(f"request {request.request_id!r} has an empty prompt")
    if min(prompt) < 0 or max(prompt) >= limits.vocabulary:
        raise BadRequest(
            f"request {request.request_id!r}: token ids go from 0 to {limits.vocabulary - 1}, "
            f"found {min(prompt)} to {max(prompt)}; was it tokenized for another model?"
        )
    if request.sampling.output_schema is not None and not limits.holds_schemas:
        raise SchemaRefused(
            f"request {request.request_id!r}: this engine cannot hold its output to a JSON schema; "
            "engine.kind vllm can"
        )
    if len(prompt) >= limits.max_context:
        raise PromptTooLong(
            f"request {request.request_id!r}: the prompt has {len(prompt)} tokens and the context holds "
            f"{limits.max_context}, one of them sampled; raise engine.max_context or end the episode"
        )
