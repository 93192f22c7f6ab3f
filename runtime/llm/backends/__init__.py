"""Chat backends: a module for each kind of settings, which holds a `BACKEND` (see `base.ChatBackend`).

Others come from installed packages, by entry points of the group `agentfactory.chat_backends`: the name is
the kind, the object a `ChatBackend` whose settings derive from `BaseChatModelSettings`. Nothing is imported
before a model of its kind is asked for.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, Final

from ....configs.chat_models import CHAT_BACKENDS, BaseChatModelSettings, external_backends, kind_of
from ....configs.errors import SettingsError

if TYPE_CHECKING:
    from .base import ChatBackend

_OURS: Final = ("anthropic", "cohere", "command", "engine", "google", "llama_cpp", "ollama", "openai")


@cache
def _entries() -> dict[str, EntryPoint]:
    ours = {
        kind: EntryPoint(kind, f"agentfactory.runtime.llm.backends.{kind}:BACKEND", CHAT_BACKENDS)
        for kind in _OURS
    }
    return external_backends() | ours


def backend_of(settings: BaseChatModelSettings) -> ChatBackend[Any]:
    """The backend that is registered for these settings' kind. Raises SettingsError."""
    entry = _entries().get(kind_of(settings))
    if entry is None:
        raise SettingsError(f"no chat backend is registered for the kind {kind_of(settings)!r}")
    backend: ChatBackend[Any] = entry.load()
    return backend
