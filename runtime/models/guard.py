"""What stands between a call and a backend: deadlines, rate limits, retries, and errors made plain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog

from ...configs.chat_models import BaseChatModelSettings
from .backend import Backend
from .deadline import Deadline
from .errors import ClientFailure, ModelClosed, ModelError, RateLimited
from .keys import without_secrets
from .limits import Limiter
from .retrying import pause_before

ResultT = TypeVar("ResultT")
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Guard:
    """Holds every call to the settings. One for each model."""

    def __init__(self, backend: Backend, settings: BaseChatModelSettings) -> None:
        self.name = backend.name
        self.retries = 0
        self._backend = backend
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.limits.max_concurrent)
        self._limiter: Limiter | None = None

    def open(self) -> None:
        """Let calls through."""
        self._limiter = Limiter(self._settings.limits, _now())

    def close(self) -> None:
        """Let none through."""
        self._limiter = None

    @property
    def limiter(self) -> Limiter:
        """Raises ModelClosed where calls are not let through."""
        if self._limiter is None:
            raise ModelClosed(f"{self.name} is not open; use `async with open_model(…) as model`")
        return self._limiter

    async def wait(self, step: Awaitable[ResultT], deadline: Deadline, *, whole: bool = False) -> ResultT:
        """Wait for one step of a backend, which may be a `whole` reply. Raises ModelError.

        Errors that the backend does not know are bugs, and pass as they are.
        A library's error holds the request with its key: it is left behind here, and even the context of
        the error that takes its place is free of it.
        """
        try:
            limit_s = deadline.left_s if whole else self._settings.silence_s
            async with deadline.within(limit_s, self.name):
                return await step
        except ModelError:
            raise
        except Exception as error:
            plain = self._plain(error)
        raise plain

    @asynccontextmanager
    async def slot(self, deadline: Deadline) -> AsyncIterator[None]:
        """One of `max_concurrent` places."""
        async with deadline.within(deadline.left_s, self.name):
            await self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release()

    async def retried(
        self, attempt: Callable[[], Awaitable[ResultT]], tokens: int, deadline: Deadline
    ) -> tuple[ResultT, int]:
        """Try until it works or it makes no sense to try again; the number of tries comes back, too."""
        number = 1
        while True:
            await self._turn(tokens, deadline)
            try:
                return await attempt(), number
            except ModelError as error:
                number += 1
                pause = pause_before(number, error, self._settings.retry)
                if isinstance(error, RateLimited) and error.retry_after_s is not None:
                    self.limiter.pause(error.retry_after_s, _now())
                if pause is None or pause >= deadline.left_s:
                    raise
                log.info("model_retry", model=self.name, attempt=number, pause_s=pause, error=str(error))
            self.retries += 1
            await self._sleep(pause, deadline)

    async def _turn(self, tokens: int, deadline: Deadline) -> None:
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

    async def _sleep(self, seconds: float, deadline: Deadline) -> None:
        async with deadline.within(deadline.left_s, self.name):
            await asyncio.sleep(seconds)

    def _plain(self, error: Exception) -> Exception:
        meant = self._backend.translate(error)
        if meant is None:
            return error
        secrets = self._backend.secrets
        clean = [without_secrets(arg, secrets) if isinstance(arg, str) else arg for arg in meant.args]
        plain = type(meant)(*clean)
        origin = f"{type(error).__module__}.{type(error).__qualname__}"
        plain.__cause__ = ClientFailure(without_secrets(f"{origin}: {error}", secrets))
        return plain


def _now() -> float:
    return asyncio.get_running_loop().time()
