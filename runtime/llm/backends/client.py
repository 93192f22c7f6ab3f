"""Keys come from the environment and go nowhere but into the request."""

from __future__ import annotations

import json
import os
from types import ModuleType

from pydantic import ValidationError

from ....configs.errors import SettingsError
from ..errors import BrokenReply, ModelError, ModelUnavailable
from .base import error_for_status

SHORTEST = 4
"""A shorter value is not looked for in texts: it would be found everywhere."""


def read_key(variable: str, base_url: str) -> str:
    """The key that the variable holds. Raises SettingsError where it is not set."""
    key = os.environ.get(variable, "")
    if not key:
        raise SettingsError(
            f"the environment variable {variable or '(api_key_env is empty)'} is not set; "
            f"it should hold the key for {base_url}"
        )
    return key


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """`text` with every secret blotted out."""
    for secret in secrets:
        if len(secret) >= SHORTEST:
            text = text.replace(secret, "[key]")
    return text


def translate(error: Exception, library: ModuleType, where: str) -> ModelError | None:
    """See `Backend.translate`."""
    import httpx2 as httpx  # both libraries bring it

    if isinstance(error, library.APIStatusError):
        return error_for_status(error.status_code, error.response.headers, error.message, where)
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
