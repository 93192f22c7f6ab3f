"""How long a call may still wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .errors import ModelTimeout


class Deadline:
    """A budget of waiting: only what is spent inside `within` counts, not the caller's own time."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.left_s = timeout_s

    @asynccontextmanager
    async def within(self, limit_s: float, what: str) -> AsyncIterator[None]:
        """Wait at most `limit_s`, and no longer than what is left. Raises ModelTimeout."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        whole = self.left_s <= limit_s
        try:
            async with asyncio.timeout(min(limit_s, self.left_s)):
                yield
        except TimeoutError as error:
            why = f"{self.timeout_s:g} s in all (timeout_s)" if whole else f"{limit_s:g} s (silence_s)"
            raise ModelTimeout(f"{what}: no answer within {why}") from error
        finally:
            self.left_s -= loop.time() - started
