"""Keys come from the environment and go nowhere but into the request."""

import os

from ...configs.errors import SettingsError

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


def without_secrets(text: str, secrets: tuple[str, ...]) -> str:
    """`text` with every secret blotted out."""
    for secret in secrets:
        if len(secret) >= SHORTEST:
            text = text.replace(secret, "[key]")
    return text
