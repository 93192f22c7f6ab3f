"""The application: the routes behind the gate, every error in OpenAI's form."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cluster.serving.errors import invalid, translate
from cluster.serving.gate import Gate, error_response, of_status
from cluster.serving.routes import Routes
from cluster.serving.service import Service
from configs.errors import AgentFactoryError
from messages.chat import BadArguments

log = structlog.get_logger("serving")


def build(service: Service, keys: tuple[str, ...]) -> FastAPI:
    """An application that serves this; without keys, to this machine only."""
    app = FastAPI(title="AgentFactory", docs_url=None, redoc_url=None)
    app.include_router(Routes(service).router())
    app.add_middleware(Gate, settings=service.settings, keys=keys, metrics=service.metrics)
    app.add_exception_handler(AgentFactoryError, _failed)
    app.add_exception_handler(BadArguments, _failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_the_framework)
    app.add_exception_handler(Exception, _broken)
    return app


async def _failed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AgentFactoryError | BadArguments)
    answer = translate(error)
    if answer.status >= 500:
        log.warning("request failed", path=request.url.path, error=repr(error))
    return error_response(answer)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(invalid(error.errors()))


async def _of_the_framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code in (404, 405):
        message = f"there is no {request.method} {request.url.path} here"
    return error_response(of_status(error.status_code, message))


async def _broken(request: Request, error: Exception) -> JSONResponse:
    """A bug: said without its details, which the log has."""
    log.error("request broke", path=request.url.path, exc_info=error)
    return error_response(of_status(500, "the server met an error of its own; its log has it"))
