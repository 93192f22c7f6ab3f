"""Factory of chat models: from settings to a model, refused early where it cannot do what is needed."""

from __future__ import annotations

from typing import assert_never

from ...configs.chat_models import (
    AnthropicModelSettings,
    ChatModelSettings,
    CohereModelSettings,
    CommandModelSettings,
    EngineModelSettings,
    GoogleModelSettings,
    LlamaCppModelSettings,
    OllamaModelSettings,
    OpenAIModelSettings,
)
from ...configs.errors import SettingsError
from ...messages.chat import Capabilities, Capability
from .backends import anthropic as anthropic_backend
from .backends import cohere as cohere_backend
from .backends import command as command_backend
from .backends import engine as engine_backend
from .backends import google as google_backend
from .backends import llama_cpp as llama_cpp_backend
from .backends import ollama as ollama_backend
from .backends import openai as openai_backend
from .backends.base import Backend
from .chat_model import ChatModel

TRAINING: tuple[Capability, ...] = ("token_ids", "logprobs", "adapters")
"""What a model must be able to do to be trained."""
PLAIN: dict[Capability, str] = {
    "token_ids": "token ids",
    "logprobs": "log-probabilities",
    "json_schema": "output by a JSON schema",
    "model_list": "a list of its models",
}
"""Words for people, where the field's name is none."""


def open_model(settings: ChatModelSettings, *, needs: tuple[Capability, ...] = ()) -> ChatModel:
    """A chat model, not yet started: `async with` starts and closes it.

    Raises SettingsError for a missing package, key or file, and for `needs` that it cannot meet.
    """
    require(settings, needs, "this")
    return ChatModel(settings, _backend(settings))


def require(settings: ChatModelSettings, needs: tuple[Capability, ...], who: str) -> None:
    """Raise SettingsError, one sentence, where `who` needs what this kind of model cannot do."""
    missing = capabilities_of(settings).missing(needs)
    if missing:
        wants = ", ".join(PLAIN.get(need, need) for need in missing)
        advice = "; use a model of the kind 'engine'" if set(missing) & set(TRAINING) else ""
        raise SettingsError(
            f"{who} needs {wants}, and a model of the kind {settings.kind!r} has none{advice}"
        )


def capabilities_of(settings: ChatModelSettings) -> Capabilities:
    """What a model of these settings can do; no model is loaded for it."""
    match settings:
        case OpenAIModelSettings():
            return openai_backend.capabilities(settings)
        case CommandModelSettings():
            return command_backend.capabilities(settings)
        case OllamaModelSettings():
            return ollama_backend.CAPABILITIES
        case AnthropicModelSettings():
            return anthropic_backend.CAPABILITIES
        case GoogleModelSettings():
            return google_backend.CAPABILITIES
        case CohereModelSettings():
            return cohere_backend.CAPABILITIES
        case LlamaCppModelSettings():
            return llama_cpp_backend.CAPABILITIES
        case EngineModelSettings():
            return engine_backend.capabilities(settings)
    assert_never(settings)


def _backend(settings: ChatModelSettings) -> Backend:
    match settings:
        case OpenAIModelSettings():
            return openai_backend.OpenAIBackend(settings)
        case CommandModelSettings():
            return command_backend.CommandBackend(settings)
        case OllamaModelSettings():
            return ollama_backend.OllamaBackend(settings)
        case AnthropicModelSettings():
            return anthropic_backend.AnthropicBackend(settings)
        case GoogleModelSettings():
            return google_backend.GoogleBackend(settings)
        case CohereModelSettings():
            return cohere_backend.CohereBackend(settings)
        case LlamaCppModelSettings():
            return llama_cpp_backend.LlamaCppBackend(settings)
        case EngineModelSettings():
            return engine_backend.open_backend(settings)
    assert_never(settings)
