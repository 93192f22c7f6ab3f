"""The policy of calls to a chat model: rate limits, a budget of waiting, retries with backoff.

Rate limits are those that we keep by ourselves. They are decided synchronously; the caller waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import TypeVar

import structlog

from ...configs.chat_models import BaseChatModelSettings, RateLimits, RetrySettings
from .backends.base import Backend
from .backends.boundary import boundary
from .errors import ModelClosed, ModelError, ModelTimeout, RateLimited

MINUTE_S = 60.0


class TokenBucket:
    """A bucket that holds a minute's worth and fills steadily; an amount over that waits for a full one.

    It may be drawn below zero: whoever comes later waits longer, in the order of arrival.

        bucket = TokenBucket(60, now=0.0)      # one a second
        bucket.take(60, now=0.0)          # 0.0: no wait
        bucket.take(2, now=0.0)           # 2.0: seconds to wait
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self._rate = per_minute / MINUTE_S
        self._size = per_minute
        self._level = per_minute
        self._at = now

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` could be taken."""
        self._fill(now)
        return max(0.0, (min(amount, self._size) - self._level) / self._rate)

    def take(self, amount: float, now: float) -> float:
        """Take it; the caller waits for the seconds that come back before it goes on."""
        wait = self.wait_s(amount, now)
        self._level -= amount
        return wait

    def refund(self, amount: float, now: float) -> None:
        """Less was used than taken; negative where it was more."""
        self._fill(now)
        self._level = min(self._size, self._level + amount)

    def _fill(self, now: float) -> None:
        self._level = min(self._size, self._level + (now - self._at) * self._rate)
        self._at = now


class RateLimiter:
    """Requests and tokens a minute, and a pause that a server asked for."""

    def __init__(self, limits: RateLimits, now: float) -> None:
        self._requests = TokenBucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self._tokens = TokenBucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None
        self._paused_until = now

    def wait_s(self, tokens: int, now: float) -> float:
        """Seconds that a request of this size would have to wait."""
        requests = self._requests.wait_s(1, now) if self._requests else 0.0
        words = self._tokens.wait_s(tokens, now) if self._tokens else 0.0
        return max(0.0, requests, words, self._paused_until - now)

    def take(self, tokens: int, now: float) -> float:
        """Count a request; it may start after the seconds that come back."""
        wait = self.wait_s(tokens, now)
        if self._requests:
            self._requests.take(1, now)
        if self._tokens:
            self._tokens.take(tokens, now)
        return wait

    def settle(self, taken: int, used: int, now: float) -> None:
        """Correct an estimate by what was really used."""
        if self._tokens:
            self._tokens.refund(taken - used, now)

    def pause(self, seconds: float, now: float) -> None:
        """The server asked for quiet: nobody starts before."""
        self._paused_until = max(self._paused_until, now + seconds)


class WaitBudget:
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


_random = Random()


def backoff_delay(attempt: int, error: ModelError, settings: RetrySettings) -> float | None:
    """Seconds before attempt number `attempt` (the first retry is 2); None: do not ask again.

    Doubles with each attempt, with a random part so that many callers do not come back at once; never
    shorter than what the server asked for.
    """
    if not error.retryable or attempt > settings.attempts:
        return None
    longest = min(settings.max_pause_s, settings.pause_s * 2.0 ** (attempt - 2))
    pause = _random.uniform(longest / 2, longest)
    if isinstance(error, RateLimited) and error.retry_after_s is not None:
        return max(pause, error.retry_after_s)
    return pause


ResultT = TypeVar("ResultT")
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class CallPolicy:
    """Holds every call to the settings. One for each model."""

    def __init__(self, backend: Backend, settings: BaseChatModelSettings) -> None:
        self.name = backend.name
        self.retries = 0
        self._backend = backend
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.limits.max_concurrent)
        self._limiter: RateLimiter | None = None

    def open(self) -> None:
        """Let calls through."""
        self._limiter = RateLimiter(self._settings.limits, _now())

    def close(self) -> None:
        """Let none through."""
        self._limiter = None

    @property
    def limiter(self) -> RateLimiter:
        """Raises ModelClosed where calls are not let through."""
        if self._limiter is None:
            raise ModelClosed(f"{self.name} is not open; use `async with open_model(…) as model`")
        return self._limiter

    async def wait(self, step: Awaitable[ResultT], deadline: WaitBudget, *, whole: bool = False) -> ResultT:
        """Wait for one step of a backend, which may be a `whole` reply. Raises ModelError."""
        limit_s = deadline.left_s if whole else self._settings.silence_s
        in_time = self._in_time(step, deadline, limit_s)
        return await boundary(in_time, self._backend.translate, self._backend.secrets)

    async def _in_time(self, step: Awaitable[ResultT], deadline: WaitBudget, limit_s: float) -> ResultT:
        async with deadline.within(limit_s, self.name):
            return await step

    @asynccontextmanager
    async def slot(self, deadline: WaitBudget) -> AsyncIterator[None]:
        """One of `max_concurrent` places."""
        async with deadline.within(deadline.left_s, self.name):
            await self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release()

    async def with_retries(
        self, attempt: Callable[[], Awaitable[ResultT]], tokens: int, deadline: WaitBudget
    ) -> tuple[ResultT, int]:
        """Try until it works or it makes no sense to try again; the number of tries comes back, too."""
        number = 1
        while True:
            await self._await_turn(tokens, deadline)
            try:
                return await attempt(), number
            except ModelError as error:
                number += 1
                pause = backoff_delay(number, error, self._settings.retry)
                if isinstance(error, RateLimited) and error.retry_after_s is not None:
                    self.limiter.pause(error.retry_after_s, _now())
                if pause is None or pause >= deadline.left_s:
                    raise
                log.info("model_retry", model=self.name, attempt=number, pause_s=pause, error=str(error))
            self.retries += 1
            await self._sleep(pause, deadline)

    async def _await_turn(self, tokens: int, deadline: WaitBudget) -> None:
        """Wait until the rate limits allow a request."""
        wait = self.limiter.wait_s(tokens, _now())
        if wait >= deadline.left_s:
            raise RateLimited(
                f"{self.name}: the next request may start in {wait:.1f} s, by the settings' limits or by "
                f"the server's own wish, and this call may wait {deadline.left_s:.1f} s (timeout_s)",
                wait,
            )
        self.limiter.take(tokens, _now())
        if wait > 0:
            await self._sleep(wait, deadline)

    async def _sleep(self, seconds: float, deadline: WaitBudget) -> None:
        async with deadline.within(deadline.left_s, self.name):
            await asyncio.sleep(seconds)


def _now() -> float:
    return asyncio.get_running_loop().time()
