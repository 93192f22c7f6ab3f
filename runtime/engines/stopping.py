"""When a sequence is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...messages.turns import FinishReason
from .row import Row

_SLACK = 4
"""Tokens beyond the stop string's length that are decoded: a character may take several tokens."""


class StopRules:
    """Decides after each token. Remembers each token's text, so that most tokens cost a look-up."""

    def __init__(
        self, eos_ids: frozenset[int], max_context: int, decode: Callable[[Sequence[int]], str]
    ) -> None:
        self._eos_ids = eos_ids
        self._max_context = max_context
        self._decode = decode
        self._texts: dict[int, str] = {}

    def finish_reason(self, row: Row, token: int) -> FinishReason | None:
        """Why `row` ends with `token`, its newest; None if it goes on."""
        if token in self._eos_ids:
            return "stop"
        sampling = row.request.sampling
        if sampling.stop and self._hits(row, token, sampling.stop):
            return "stop"
        if len(row.logprobs) >= sampling.max_tokens or len(row.tokens) >= self._max_context:
            return "length"
        return None

    def _hits(self, row: Row, token: int, stops: Sequence[str]) -> bool:
        """Whether the newest token completes a stop string. Earlier tokens were looked at before."""
        stops = [stop for stop in stops if stop and self._may_end(token, stop)]
        if not stops:
            return False
        window = max(map(len, stops)) + _SLACK
        tail = self._decode(row.tokens[-min(window, len(row.logprobs)) :])
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
