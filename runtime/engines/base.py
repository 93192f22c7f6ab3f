"""The interface of an inference engine, its errors, and common checks. Shaped after vLLM's AsyncLLM.

Importing this module imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from ...configs.errors import AgentFactoryError
from ...messages.adapters import AdapterRef, LoadAdapter
from ...messages.generation import Completion, EngineStatistics, Generate

OnTokens = Callable[[Sequence[int], Sequence[float]], None]
"""Callback on the event loop: newly sampled tokens and their log-probabilities."""


class EngineError(AgentFactoryError):
    """Base of everything that an engine raises on purpose. A request that fails so has no score."""


class UnknownAdapter(EngineError):
    """The request names an adapter that is not loaded."""


class AdapterRejected(EngineError):
    """The adapter's bytes, shapes, rank or base do not fit. What was loaded before stays loaded."""


class PromptTooLong(EngineError):
    """The prompt alone leaves no room for a single token."""


class BadRequest(EngineError):
    """The request cannot be served: empty prompt, unknown token, or an id that is already running."""


class SchemaRefused(BadRequest):
    """This engine cannot hold its output to a JSON schema."""


class EngineFailed(EngineError):
    """The engine broke. The message names the original error, which is also its `__cause__`."""


class EngineClosed(EngineError):
    """The engine was closed, or was never started."""


class Engine(Protocol):
    """One base model, any number of adapters, many requests at a time.

    Every `generate` ends: with a completion, with an EngineError, or by its caller's cancellation,
    which aborts it.
    """

    async def start(self) -> None:
        """Load the model. Raises EngineFailed, or SettingsError for a model that is not there."""

    async def generate(self, request: Generate, on_tokens: OnTokens | None = None) -> Completion:
        """Continue a prompt; waits while `max_waiting` others are queued.

        `on_tokens` hears of tokens in their order while others are still to come, as many at a time as
        the engine likes. The completion has all of them, heard or not.
        """

    def abort(self, request_ids: tuple[str, ...]) -> None:
        """Stop these requests: they are answered with finish_reason "abort" and what they have."""

    def end_sessions(self, sessions: tuple[str, ...]) -> None:
        """Drop the caches kept for these sessions."""

    async def load_adapter(self, request: LoadAdapter) -> tuple[str, ...]:
        """Load under the versioned name; returns the names loaded now. Raises AdapterRejected."""

    async def unload_adapter(self, name: str) -> tuple[str, ...]:
        """Take no more requests for it, wait for those it has, drop it; returns the names loaded now."""

    async def sleep(self) -> None:
        """Give back the memory of the GPU, as far as the library can, while nothing runs."""

    async def wake(self) -> None:
        """Take it again; without `sleep` before, nothing happens."""

    def statistics(self) -> EngineStatistics:
        """Totals since the start, and what is running."""

    async def aclose(self) -> None:
        """Answer everything that waits with EngineClosed, and free the model."""


class AdapterStore(Protocol):
    """Storage of adapters between the Trainer and the engines, on whatever machines those are.

    The key is a ref's `tag`, policy and version. All methods wait for a store that is away, within its own
    limit, and raise its own error then.
    """

    async def put(self, adapter: LoadAdapter) -> None:
        """Make an adapter's files available to every engine; those that are there already stay."""

    async def fetch(self, adapter: AdapterRef) -> LoadAdapter:
        """The adapter's files, checked against the ref's digest. Raises AdapterRejected."""

    async def remove(self, adapter: AdapterRef) -> None:
        """Remove an adapter's files; none is no error."""

    async def clear(self, tag: str) -> None:
        """Remove all of a run's files."""


AdapterStoreFactory = Callable[[], AbstractAsyncContextManager[AdapterStore]]
"""Connects to the store for as long as the block lasts. It is pickled into an actor's process."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of a loaded model that requests are checked against."""

    max_context: int
    vocabulary: int
    constrains_output: bool = False
    """Output can be constrained to a JSON schema."""


def check_request(request: Generate, running: Container[str], limits: RequestLimits) -> None:
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
    if request.sampling.output_schema is not None and not limits.constrains_output:
        raise SchemaRefused(
            f"request {request.request_id!r}: this engine cannot hold its output to a JSON schema; "
            "engine.kind vllm can"
        )
    if len(prompt) >= limits.max_context:
        raise PromptTooLong(
            f"request {request.request_id!r}: the prompt has {len(prompt)} tokens and the context holds "
            f"{limits.max_context}, one of them sampled; raise engine.max_context or end the episode"
        )
