"""Factory of chat models: from settings to a model, refused early where it cannot do what is needed."""

from __future__ import annotations

from ...configs.chat_models import BaseChatModelSettings, kind_of
from ...configs.errors import SettingsError
from ...messages.chat import Capabilities, Capability
from .backends import backend_of
from .chat_model import ChatModel

TRAINING: tuple[Capability, ...] = ("token_ids", "logprobs", "adapters")
"""Capabilities that training needs."""
PLAIN: dict[Capability, str] = {
    "token_ids": "token ids",
    "logprobs": "log-probabilities",
    "json_schema": "output by a JSON schema",
    "model_list": "a list of its models",
}
"""Words for people, where the field's name is none."""


def open_model(settings: BaseChatModelSettings, *, needs: tuple[Capability, ...] = ()) -> ChatModel:
    """A chat model, not yet started: `async with` starts and closes it.

    Raises SettingsError for a missing package, key or file, and for `needs` that it cannot meet.
    """
    require(settings, needs, "this")
    return ChatModel(settings, backend_of(settings).open(settings))


def require(settings: BaseChatModelSettings, needs: tuple[Capability, ...], who: str) -> None:
    """Raise SettingsError, one sentence, where `who` needs what this kind of model cannot do."""
    missing = capabilities_of(settings).missing(needs)
    if missing:
        wants = ", ".join(PLAIN.get(need, need) for need in missing)
        advice = "; use a model of the kind 'engine'" if set(missing) & set(TRAINING) else ""
        raise SettingsError(
            f"{who} needs {wants}, and a model of the kind {kind_of(settings)!r} has none{advice}"
        )


def capabilities_of(settings: BaseChatModelSettings) -> Capabilities:
    """The capabilities of a model of these settings; no model is loaded for it."""
    capabilities: Capabilities = backend_of(settings).capabilities(settings)
    return capabilities
