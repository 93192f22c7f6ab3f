"""Error translation at a backend's boundary: from a client library's errors to ModelErrors without secrets.

Every step of a backend is awaited through `boundary`, and nothing else translates. A backend says what an
error means (`Backend.translate`); those whose library speaks HTTP say it by an `HttpErrors`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from ..errors import (
    BrokenReply,
    ClientFailure,
    ModelError,
    ModelUnavailable,
    NotAuthorized,
    RateLimited,
    RequestRefused,
)

DETAIL_CHARS = 500
"""Of a server's own words, in an error."""
SHORTEST_SECRET = 4
"""A shorter value is not looked for in texts: it would be found everywhere."""
ResultT = TypeVar("ResultT")
ErrorTypes = tuple[type[Exception], ...]


async def boundary(
    step: Awaitable[ResultT], translate: Callable[[Exception], ModelError | None], secrets: tuple[str, ...]
) -> ResultT:
    """Await one step of a backend. Raises ModelError; an error unknown to `translate` passes: it is a bug."""
    try:
        return await step
    except ModelError:
        raise
    except Exception as error:
        translated = _translated(error, translate(error), secrets)
    # Raised out here, so that not even its context holds the library's error: that one holds the key.
    raise translated


def _translated(error: Exception, meaning: ModelError | None, secrets: tuple[str, ...]) -> Exception:
    if meaning is None:
        return error
    clean = [redact(arg, secrets) if isinstance(arg, str) else arg for arg in meaning.args]
    plain = type(meaning)(*clean)
    origin = f"{type(error).__module__}.{type(error).__qualname__}"
    plain.__cause__ = ClientFailure(redact(f"{origin}: {error}", secrets))
    return plain


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """`text` with every secret blotted out."""
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "[key]")
    return text


class HttpFailure(NamedTuple):
    """An answer of a server that is an error, as its client library tells it."""

    status: int
    headers: Mapping[str, str] | None
    detail: str


class HttpErrors:
    """The errors of one HTTP client library, by what they mean.

    errors = HttpErrors("m at a:1", httpx, failure_of=lambda error: None)
    errors.translate(httpx.ConnectError("refused"))   # ModelUnavailable: m at a:1: cannot be reached: refused
    errors.translate(ZeroDivisionError())             # None: a bug
    """

    def __init__(
        self,
        where: str,
        httpx: ModuleType,
        failure_of: Callable[[Exception], HttpFailure | None],
        *,
        unreadable: ErrorTypes = (),
        unreachable: ErrorTypes = (),
        connection: ErrorTypes = (),
        others: ErrorTypes = (),
        advice: str = "",
    ) -> None:
        """`httpx`: the module whose transport errors the library lets through.

        `unreadable`, `unreachable`: the library's own classes for a reply that cannot be read, and a server
        that cannot be reached. `connection`: its classes around a transport error, which is their cause.
        `others`: what else it raises when a server breaks off. `advice`: where a server cannot be reached.
        """
        self._where = where
        self._failure_of = failure_of
        self._unreadable = (*unreadable, json.JSONDecodeError, ValidationError)
        self._unreachable = (*unreachable, httpx.ConnectError)
        self._connection = connection
        self._lost = (*connection, httpx.TransportError)
        self._others = others
        self._advice = advice

    def translate(self, error: Exception) -> ModelError | None:
        """See `Backend.translate`."""
        failure = self._failure_of(error)
        if failure is not None:
            return error_for_status(failure, self._where)
        if isinstance(error, self._unreadable):
            return BrokenReply(f"{self._where}: not a reply that can be read: {error}")
        lost = error.__cause__ if isinstance(error, self._connection) else error
        if isinstance(lost, self._unreachable):
            return ModelUnavailable(f"{self._where}: cannot be reached: {self._advice or lost}")
        if isinstance(error, self._lost):
            return BrokenReply(f"{self._where}: the connection was lost: {lost}")
        if isinstance(error, self._others):
            return ModelUnavailable(f"{self._where}: the server broke off with an error: {error}")
        return None


def sdk_errors(where: str, library: ModuleType) -> HttpErrors:
    """Those of `openai` and `anthropic`: two libraries built alike, which bring an httpx of their own."""
    import httpx2

    def failure_of(error: Exception) -> HttpFailure | None:
        if not isinstance(error, library.APIStatusError):
            return None
        return HttpFailure(error.status_code, error.response.headers, error.message)

    return HttpErrors(
        where,
        httpx2,
        failure_of,
        unreadable=(library.APIResponseValidationError,),
        connection=(library.APIConnectionError,),
        others=(library.APIError,),
    )


def error_for_status(failure: HttpFailure, where: str) -> ModelError:
    """The error that an HTTP status stands for."""
    status = failure.status
    text = f"{where}: HTTP {status}: {failure.detail.strip()[:DETAIL_CHARS]}"
    if status == 429:
        quiet = retry_after(failure.headers or {})
        asks = "" if quiet is None else f"; it asks for {quiet:g} s of quiet"
        return RateLimited(text + asks, quiet)
    if status in {401, 403}:
        return NotAuthorized(text)
    if status in {408, 409} or status >= 500 or status < 400:
        return ModelUnavailable(text)
    return RequestRefused(text)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, where the header gives a number of them."""
    lower = {name.lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(lower[name]) * unit)
        except (KeyError, ValueError):
            continue
    return None
