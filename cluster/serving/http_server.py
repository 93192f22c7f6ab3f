"""Serving HTTP: keys, the socket, the server itself and its end; errors in one form.

At the first signal a server takes nothing new, finishes what is in hand for `drain_s`, and ends; at the
second one, at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import structlog
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ...configs.errors import AgentFactoryError, BadInput
from ...configs.http_servers import HttpServerSettings
from ...messages.chat import BadArguments
from ...runtime.system import ActorSystem
from .access_middleware import AccessMiddleware, error_response, is_loopback, status_error
from .errors import ErrorForms, invalid, to_api_error
from .metrics import ServingMetrics

log = structlog.get_logger("serving")

END_S = 10.0
"""How long after its time for open requests the HTTP server may take to end."""


def install_middleware(
    app: FastAPI,
    settings: HttpServerSettings,
    keys: tuple[str, ...],
    metrics: ServingMetrics,
    forms: ErrorForms,
) -> None:
    """Install access checks and the handlers that give every error OpenAI's form."""

    async def failed(request: Request, error: Exception) -> JSONResponse:
        answer = to_api_error(error, forms)
        if answer.status >= 500:
            log.warning("request failed", path=request.url.path, error=repr(error))
        return error_response(answer)

    app.add_middleware(AccessMiddleware, settings=settings, keys=keys, metrics=metrics)
    app.add_exception_handler(AgentFactoryError, failed)
    app.add_exception_handler(BadArguments, failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_the_framework)
    app.add_exception_handler(Exception, _broken)


def read_api_keys(
    settings: HttpServerSettings, environment: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """API keys of the clients. Raises BadInput where other machines would need none."""
    given = environment.get(settings.api_key_env, "").split(",") if settings.api_key_env else ()
    keys = tuple(key.strip() for key in given if key.strip())
    if not keys and not is_loopback(settings.host):
        variable = settings.api_key_env or "(serving.api_key_env is empty)"
        raise BadInput(
            f"serving on {settings.host} needs a key that clients must know: put one into the environment "
            f"variable {variable}, or serve on 127.0.0.1"
        )
    return keys


def bind(settings: HttpServerSettings) -> socket.socket:
    """A socket that listens there. Raises BadInput."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise BadInput(f"{where}: cannot be served on ({error.strerror}); choose another --port") from error


@asynccontextmanager
async def running(app: FastAPI, drain_s: int, listening: socket.socket) -> AsyncIterator[HttpServer]:
    """Serve it; leaving the block drains it."""
    server = HttpServer(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=drain_s,
        )
    )
    serving = asyncio.create_task(server.serve([listening]), name="http")
    try:
        await server.up.wait()
        yield server
    finally:
        server.should_exit = True
        await asyncio.wait((serving,), timeout=drain_s + END_S)
        if serving.done():
            serving.result()  # raises what it broke with
        else:
            log.error("the HTTP server does not end: it is cancelled", after_s=drain_s + END_S)
            serving.cancel()


class HttpServer(uvicorn.Server):
    """uvicorn's, but a signal only ends it: what comes after still has things to put in order."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        """Set when it answers and listens to signals, or never will."""
        self.ended = asyncio.Event()
        """Set when it has been asked to end, or has ended by itself."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; whoever waits hears of its end, too."""
        try:
            await super().serve(sockets)
        finally:
            self.up.set()
            self.ended.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, which tells nobody."""
        try:
            await super().startup(sockets)
        finally:
            self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen to the signals without sending them on afterwards."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _asked(self, number: int) -> None:
        self.force_exit = self.ended.is_set()
        self.should_exit = True
        self.ended.set()


def url_of(listening: socket.socket) -> str:
    """URL for clients."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


async def wait_for_shutdown(server: HttpServer, system: ActorSystem) -> None:
    """Wait until somebody asks for the end, or an actor is gone for good. Raises ActorDown then."""
    asked = asyncio.ensure_future(server.ended.wait())
    lost = asyncio.ensure_future(system.wait_fatal())
    try:
        await asyncio.wait((asked, lost), return_when=asyncio.FIRST_COMPLETED)
        if lost.done():
            raise lost.result()
    finally:
        asked.cancel()
        lost.cancel()


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(invalid(error.errors()))


async def _of_the_framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code in (404, 405):
        message = f"there is no {request.method} {request.url.path} here"
    return error_response(status_error(error.status_code, message))


async def _broken(request: Request, error: Exception) -> JSONResponse:
    """A bug: said without its details, which the log has."""
    log.error("request broke", path=request.url.path, exc_info=error)
    return error_response(status_error(500, "the server met an error of its own; its log has it"))
