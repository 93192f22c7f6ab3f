"""The tokens of a running request, for those who follow it by long polling.

A follower asks again and again for what lies beyond the tokens it knows, so that a slow one gets more at
a time and nothing is queued for it.
"""

import asyncio
from collections.abc import Sequence

from ...messages.generation import TokenChunk


class TokenStream:
    """The tokens that one request has sampled so far.

    live.add([5], [-0.1])
    await live.beyond(0)      # Sampled(token_ids=(5,), logprobs=(-0.1,), ended=False)
    """

    def __init__(self) -> None:
        self._token_ids: list[int] = []
        self._logprobs: list[float] = []
        self._ended = False
        self._changed = asyncio.Event()

    def add(self, token_ids: Sequence[int], logprobs: Sequence[float]) -> None:
        """More was sampled."""
        self._token_ids += token_ids
        self._logprobs += logprobs
        self._changed.set()

    def end(self) -> None:
        """Nothing more will be told."""
        self._ended = True
        self._changed.set()

    async def beyond(self, known: int) -> TokenChunk:
        """The tokens after the first `known`; waits until there are any, or the end."""
        while len(self._token_ids) <= known and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        fresh = slice(known, None)
        return TokenChunk(
            token_ids=tuple(self._token_ids[fresh]), logprobs=tuple(self._logprobs[fresh]), ended=self._ended
        )
