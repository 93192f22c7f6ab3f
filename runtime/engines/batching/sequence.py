"""One sequence on its way through the engine, and the criteria that end it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from ....messages.generation import Completion, Generate
from ....messages.turns import FinishReason
from ..base import OnTokens

Answer = asyncio.Future[Completion]


class CacheBucket(Protocol):
    """The part of the KV cache that holds a sequence: `kv_cache.LengthBucket`."""

    def park(self, row: SequenceState) -> None:
        """Keep the cache of an active sequence that does not decode any more."""

    def free(self, row: SequenceState) -> None:
        """Forget a sequence, active or parked."""


@dataclass(slots=True, eq=False)
class SequenceState:
    """A request, its tokens so far, and where its keys and values lie."""

    request: Generate
    answer: Answer
    """Belongs to the event loop; the worker only carries it around."""
    tokens: list[int]
    """Prompt and sampled tokens. All but the last one sampled are cached after a step."""
    seed: int
    cached: int = 0
    """Leading tokens whose keys and values lie in the KV cache."""
    reused: int = 0
    """Of the prompt's tokens, those that were cached when the request joined."""
    logprobs: list[float] = field(default_factory=list)
    bucket: CacheBucket | None = None
    index: int = -1
    """Row in the bucket."""
    on_tokens: OnTokens | None = None
    """Belongs to the event loop, too."""
    emitted: int = 0
    """Sampled tokens that `on_tokens` was called with."""

    @classmethod
    def of(cls, request: Generate, answer: Answer, on_tokens: OnTokens | None = None) -> SequenceState:
        """A sequence that has not joined a bucket."""
        seed = secrets.randbits(64) if request.sampling.seed is None else request.sampling.seed
        return cls(request, answer, list(request.prompt_ids), seed, on_tokens=on_tokens)

    @property
    def sampled(self) -> list[int]:
        """Tokens after the prompt."""
        return self.tokens[len(self.request.prompt_ids) :]

    def pending_callback(self) -> Callable[[], None] | None:
        """Call of `on_tokens` with what is newly sampled, for the event loop; None: nothing is."""
        if self.on_tokens is None or self.emitted == len(self.logprobs):
            return None
        newly_sampled, self.emitted = slice(self.emitted, len(self.logprobs)), len(self.logprobs)
        return partial(
            self.on_tokens, self.sampled[newly_sampled], [round(p, 6) for p in self.logprobs[newly_sampled]]
        )

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


_EXTRA_TOKENS = 4
"""Tokens beyond the stop string's length that are decoded: a character may take several tokens."""


class StoppingCriteria:
    """Decides after each token. Remembers each token's text, so that most tokens cost a look-up."""

    def __init__(
        self, eos_ids: frozenset[int], max_context: int, decode: Callable[[Sequence[int]], str]
    ) -> None:
        self._eos_ids = eos_ids
        self._max_context = max_context
        self._decode = decode
        self._texts: dict[int, str] = {}

    def finish_reason(self, sequence: SequenceState, token: int) -> FinishReason | None:
        """Why `sequence` ends with `token`, its newest; None if it goes on."""
        if token in self._eos_ids:
            return "stop"
        sampling = sequence.request.sampling
        if sampling.stop and self._hits(sequence, token, sampling.stop):
            return "stop"
        if len(sequence.logprobs) >= sampling.max_tokens or len(sequence.tokens) >= self._max_context:
            return "length"
        return None

    def _hits(self, sequence: SequenceState, token: int, stops: Sequence[str]) -> bool:
        """True if the newest token completes a stop string. Earlier tokens were looked at before."""
        stops = [stop for stop in stops if stop and self._may_end(token, stop)]
        if not stops:
            return False
        window = max(map(len, stops)) + _EXTRA_TOKENS
        tail = self._decode(sequence.tokens[-min(window, len(sequence.logprobs)) :])
        return any(stop in tail for stop in stops)

    def _may_end(self, token: int, stop: str) -> bool:
        """False only if the token surely does not contain the stop string's last character.

        A token on its own may lose a blank or show half a character, so those count as "may".
        """
        last = stop[-1]
        if last.isspace() or not last.isascii():
            return True
        text = self._texts.get(token)
        if text is None:
            text = self._texts[token] = self._decode([token])
        return last in text
