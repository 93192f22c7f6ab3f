"""One sequence on its way through the engine."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ...messages.generation import Completion, Generate
from ...messages.turns import FinishReason
from .base import OnTokens

if TYPE_CHECKING:
    from .slots import Band

Answer = asyncio.Future[Completion]


@dataclass(slots=True, eq=False)
class Row:
    """A request, its tokens so far, and where its keys and values lie."""

    request: Generate
    answer: Answer
    """Belongs to the event loop; the worker only carries it around."""
    tokens: list[int]
    """Prompt and sampled tokens. All but the last one sampled are cached after a step."""
    seed: int
    cached: int = 0
    """Leading tokens whose keys and values lie in the row's slot."""
    reused: int = 0
    """Of the prompt's tokens, those that were cached when the request joined."""
    logprobs: list[float] = field(default_factory=list)
    band: Band | None = None
    index: int = -1
    """Position in the band."""
    on_tokens: OnTokens | None = None
    """Belongs to the event loop, too."""
    told: int = 0
    """Sampled tokens that `on_tokens` has heard of."""

    @classmethod
    def of(cls, request: Generate, answer: Answer, on_tokens: OnTokens | None = None) -> Row:
        """A row that has not joined a band."""
        seed = secrets.randbits(64) if request.sampling.seed is None else request.sampling.seed
        return cls(request, answer, list(request.prompt_ids), seed, on_tokens=on_tokens)

    @property
    def sampled(self) -> list[int]:
        """Tokens after the prompt."""
        return self.tokens[len(self.request.prompt_ids) :]

    def news(self) -> Callable[[], None] | None:
        """Tells what was sampled since the last time, when called on the event loop; None: nothing was."""
        if self.on_tokens is None or self.told == len(self.logprobs):
            return None
        fresh, self.told = slice(self.told, len(self.logprobs)), len(self.logprobs)
        return partial(self.on_tokens, self.sampled[fresh], [round(p, 6) for p in self.logprobs[fresh]])

    def completion(self, reason: FinishReason) -> Completion:
        """The answer, with log-probabilities to six decimals."""
        return Completion(
            request_id=self.request.request_id,
            token_ids=tuple(self.sampled),
            logprobs=tuple(round(value, 6) for value in self.logprobs),
            finish_reason=reason,
            adapter=self.request.adapter,
            cached_tokens=self.reused,
        )
