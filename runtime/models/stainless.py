"""What the errors of `openai` and `anthropic` mean: the two libraries are built alike."""

from __future__ import annotations

import json
from types import ModuleType

from pydantic import ValidationError

from .backend import meaning
from .errors import BrokenReply, ModelError, ModelUnavailable


def translate(error: Exception, library: ModuleType, where: str) -> ModelError | None:
    """See `Backend.translate`."""
    import httpx2 as httpx  # both libraries bring it

    if isinstance(error, library.APIStatusError):
        return meaning(error.status_code, error.response.headers, error.message, where)
    if isinstance(error, library.APIResponseValidationError | json.JSONDecodeError | ValidationError):
        return BrokenReply(f"{where}: not a reply that can be read: {error}")
    lost = error.__cause__ if isinstance(error, library.APIConnectionError) else error
    if isinstance(lost, httpx.ConnectError):
        return ModelUnavailable(f"{where}: cannot be reached: {lost}")
    if isinstance(error, library.APIConnectionError) or isinstance(lost, httpx.TransportError):
        return BrokenReply(f"{where}: the connection was lost: {lost}")
    if isinstance(error, library.APIError):
        return ModelUnavailable(f"{where}: the server broke off with an error: {error.message}")
    return None
