"""What an inference engine is asked, and what it answers. Made for vLLM's shape."""

from pydantic import Field

from .base import Done, Message, Request
from .turns import FinishReason


class SamplingSettings(Message):
    """How to choose tokens."""

    temperature: float = Field(default=1.0, ge=0.0, le=10.0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    """0 keeps all tokens."""
    max_tokens: int = Field(default=256, ge=1)
    stop: tuple[str, ...] = ()
    """Generation ends after the token that completes any of these strings."""
    output_schema: str | None = None
    """JSON Schema, written out, that the text is held to; an engine that cannot do it refuses the request."""
    seed: int | None = None
    """Fixes the sample, whatever else shares the batch (up to floating-point rounding)."""


class Completion(Message):
    """The sampled continuation of one prompt."""

    request_id: str
    token_ids: tuple[int, ...]
    """Sampled tokens; the end-of-sequence token, where sampled, is the last one."""
    logprobs: tuple[float, ...]
    """One for each sampled token, under the distribution it was drawn from."""
    finish_reason: FinishReason
    adapter: str | None = None
    """The adapter that really served the request."""
    cached_tokens: int = 0
    """Prompt tokens whose key-value cache was reused."""


class Generate(Request[Completion]):
    """Continue a token prompt."""

    request_id: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingSettings
    adapter: str | None = None
    """Name of a loaded adapter (`AdapterRef.name`); None asks for the base model."""
    session: str | None = None
    """Requests of one session extend one another: the engine may keep their key-value cache."""
    live: bool = False
    """Somebody will ask StreamTokens while it runs."""


class TokenChunk(Message):
    """What a request that runs has sampled since its follower last asked."""

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    ended: bool = False
    """Nothing more is told here; the request's Completion has all of its tokens."""


class StreamTokens(Request[TokenChunk]):
    """The tokens of a live request beyond the first `after`, as soon as there are any."""

    request_id: str
    after: int = Field(default=0, ge=0)


class AbortGeneration(Request[Done]):
    """Stop generating and free the slots; unknown ids are ignored."""

    request_ids: tuple[str, ...]


class SleepEngine(Request[Done]):
    """Finish what runs, let what comes wait, and give the GPU's memory to others until WakeEngine."""


class WakeEngine(Request[Done]):
    """Take the memory back and go on; nothing to do for an engine that is awake."""


class EndSessions(Message):
    """The engine may drop the caches of these sessions."""

    sessions: tuple[str, ...]


class Embeddings(Message):
    """Unit vectors, one for each text."""

    vectors: tuple[tuple[float, ...], ...]


class Embed(Request[Embeddings]):
    """Embed texts."""

    texts: tuple[str, ...]


class EngineStatistics(Message):
    """What an engine has done since it started, and what it is doing."""

    running: int = 0
    waiting: int = 0
    requests: int = 0
    generated_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    steps: int = 0
    busy_s: float = 0.0
    adapters: tuple[str, ...] = ()


class DescribeEngine(Request[EngineStatistics]):
    """Ask an engine for its statistics."""
