"""The application: the routes behind the gate, every error in OpenAI's form."""

from __future__ import annotations

from fastapi import FastAPI

from .door import guard
from .errors import translate
from .routes import Routes
from .service import Service


def build(service: Service, keys: tuple[str, ...]) -> FastAPI:
    """An application that serves this; without keys, to this machine only."""
    app = FastAPI(title="AgentFactory", docs_url=None, redoc_url=None)
    app.include_router(Routes(service).router())
    guard(app, service.settings, keys, service.metrics, translate)
    return app
