"""Registry of engines: the settings' `kind` to a factory.

Ours stand in `_OWN`; each imports its library only when it is called. Others come from installed packages,
by entry points of the group `agentfactory.engines` whose name is the kind and whose object an EngineKind:

    [project.entry-points."agentfactory.engines"]
    echo = "echo_engine:ENGINE"

    ENGINE = EngineKind(EchoSettings, EchoEngine)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

from ...configs.errors import SettingsError
from ...configs.model_loading import hide_unused_packages
from ...configs.models import (
    BaseEngineSettings,
    EngineSettings,
    ModelSettings,
    SimulatedEngineSettings,
    TransformersEngineSettings,
    VllmEngineSettings,
    engine_plugins,
    load_engine_plugin,
)
from .base import Engine

SettingsT = TypeVar("SettingsT", bound=BaseEngineSettings)


@dataclass(frozen=True, slots=True)
class EngineKind(Generic[SettingsT]):
    """An engine as an installed package brings it: its settings, and the factory that takes them."""

    settings: type[SettingsT]
    open: Callable[[ModelSettings, SettingsT], Engine]


def open_engine(model: ModelSettings, engine: EngineSettings) -> Engine:
    """The engine that the settings ask for, not yet started. Raises SettingsError for an unknown kind."""
    return _factory(engine.kind)(model, engine)


def _factory(kind: str) -> Callable[[ModelSettings, Any], Engine]:
    own = _OWN.get(kind)
    if own is not None:
        return own
    entry = engine_plugins().get(kind)
    if entry is None:
        known = ", ".join((*_OWN, *sorted(engine_plugins())))
        raise SettingsError(f"engine.kind: there is no engine of the kind {kind!r}; known: {known}")
    return cast(EngineKind[BaseEngineSettings], load_engine_plugin(entry)).open


def _open_transformers(model: ModelSettings, settings: TransformersEngineSettings) -> Engine:
    hide_unused_packages()
    from .batching.engine import TransformersEngine

    return TransformersEngine(model, settings)


def _open_vllm(model: ModelSettings, settings: VllmEngineSettings) -> Engine:
    from .vllm.engine import VllmEngine

    return VllmEngine(model, settings)


def _open_simulated(model: ModelSettings, settings: SimulatedEngineSettings) -> Engine:
    from .chat.format import ChatFormat
    from .simulated import SimulatedEngine

    return SimulatedEngine(settings, ChatFormat.load(model.locate()))


_OWN: Final[Mapping[str, Callable[[ModelSettings, Any], Engine]]] = {
    "transformers": _open_transformers,
    "vllm": _open_vllm,
    "simulated": _open_simulated,
}
