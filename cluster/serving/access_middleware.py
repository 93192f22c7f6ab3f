"""ASGI middleware: authentication, concurrency limit, body-size limit.

It decides on the headers alone, before anything of the body is read.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...configs.http_servers import HttpServerSettings
from .errors import SERVER, ApiError
from .metrics import ServingMetrics

OPEN_PATHS = {"/health"}
COUNTED = {
    "/health",
    "/metrics",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
}


class AccessMiddleware:
    """Stands in front of the application.

    `keys`: what clients may say who they are with; none lets everyone in who calls this machine by a name
    of its own (a web page elsewhere that is open in a browser here does not).
    """

    def __init__(
        self, app: ASGIApp, settings: HttpServerSettings, keys: tuple[str, ...], metrics: ServingMetrics
    ) -> None:
        self._app = app
        self._settings = settings
        self._keys = tuple(key.encode() for key in keys)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = self._counting(scope, send)
        try:
            self._check(scope)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        working = scope["method"] == "POST"
        self._metrics.running += working
        try:
            await self._app(scope, self._limited(receive), send)
        finally:
            self._metrics.running -= working

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if scope["path"] in OPEN_PATHS:
            return
        if self._keys:
            self._check_key(headers.get("authorization", ""))
        elif not is_loopback(_name(headers.get("host", ""))):
            raise ApiError(403, "without a key this server answers to localhost and 127.0.0.1 only")
        if scope["method"] == "POST" and self._metrics.running >= self._settings.max_requests:
            limit = self._settings.max_requests
            raise ApiError(
                429, f"{limit} requests are in hand; try again", kind="rate_limit_error", code="busy"
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._settings.max_body_kb << 10:
            raise self._too_large()

    def _check_key(self, header: str) -> None:
        scheme, _, given = header.partition(" ")
        found = [hmac.compare_digest(given.strip().encode(), key) for key in self._keys]  # all: equal time
        if scheme.lower() != "bearer" or not any(found):
            raise ApiError(
                401,
                "the API key is missing or wrong: send `Authorization: Bearer KEY`",
                code="invalid_api_key",
            )

    def _limited(self, receive: Receive) -> Receive:
        """Bounds the body, in size and in time. Raises HTTPException, which the application passes on."""
        size, complete = 0, False

        async def limited() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()  # the end of the connection, which may be long in coming
            try:
                async with asyncio.timeout(self._settings.body_timeout_s):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the request took too long to arrive") from None
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > self._settings.max_body_kb << 10:
                raise HTTPException(413, self._too_large().message)
            return message

        return limited

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the request is larger than {self._settings.max_body_kb} KiB")

    def _counting(self, scope: Scope, send: Send) -> Send:
        path = scope["path"] if scope["path"] in COUNTED else "other"

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.answered(path, message["status"])
            await send(message)

        return counting


def is_loopback(host: str) -> bool:
    """True if only this machine itself is reached by this name or address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(host_header: str) -> str:
    """The name in `name:port`; empty where there is none."""
    try:
        return urlsplit(f"//{host_header}").hostname or ""
    except ValueError:
        return ""


def error_response(error: ApiError) -> JSONResponse:
    """An error as clients read it."""
    headers = {"Retry-After": "1"} if error.status == 429 else {}
    return JSONResponse(error.body, status_code=error.status, headers=headers)


def status_error(status: int, message: str) -> ApiError:
    """An error that the web framework met."""
    return ApiError(status, message) if status < 500 else ApiError(status, message, kind=SERVER)
