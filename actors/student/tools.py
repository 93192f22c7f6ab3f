"""The Student's tools: the kit that its settings name, and one tool for each action of the data plane.

Invariant: what the model got wrong is an observation; what the data plane fails with is raised, and fails
the episode: it is nobody's score.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

from pydantic import ValidationError

from ...bridge.search.embedding import local_embedder
from ...configs.errors import AgentFactoryError
from ...configs.roles import DataToolSettings, StudentSettings
from ...messages.chat import JsonObject
from ...messages.data import Action, ActionError, IngestReport, TaskSpec
from ...messages.episodes import SolveTask
from ...messages.turns import ToolResult
from ...runtime.ref import Ref
from ...runtime.tools.base import Tool
from ...runtime.tools.tool_provider import ToolProvider
from ..environment import DataEnvironment
from ..namespaces import DataAccess, Namespace
from ..observations import render


class NotStored(AgentFactoryError):
    """The data plane did not take what the model had every right to store: it failed, and not the model."""


Read = Callable[[str, str], Action]
"""From an action's name and a line of input to the action."""


def _read_assimilate(name: str, text: str) -> Action:
    source, found, tag = text.rpartition(" as ")
    if not found:
        return Action.of(name, src=text, format="binary")
    return Action.of(name, src=source.strip(), dst=tag.strip(), format="binary")


def _read_pattern(name: str, text: str) -> Action:
    tag, _, blob = text.partition("/")
    return Action.of(name, tag_pattern=tag or "*", blob_pattern=blob or "*")


def _read_retrieve(name: str, text: str) -> Action:
    tag, _, blob = text.partition("/")
    return Action.of(name, tag=tag, blob_name=blob)


def _read_prune(name: str, text: str) -> Action:
    tag, _, blob = text.partition("/")
    return Action.of(name, tag=tag, blob_names=blob)


def _read_destroy(name: str, text: str) -> Action:
    return Action.of(name, tags=text)


_TOOLS: Final[dict[str, tuple[Read, str]]] = {
    "assimilate": (
        _read_assimilate,
        "stores a folder or file under a tag. Input: `folder::FOLDER as TAG` or `file::FOLDER/FILE as TAG`.",
    ),
    "query": (_read_pattern, "lists what the cache holds. Input: `TAG` or `TAG/BLOB`; `*` matches anything."),
    "retrieve": (_read_retrieve, "fetches a blob; answer with its first line. Input: `TAG/BLOB`."),
    "prune": (_read_prune, "lets the cache forget a blob; the store keeps it. Input: `TAG/BLOB`."),
    "destroy": (_read_destroy, "removes a tag and all its blobs for good. Input: `TAG`."),
    "list_blobs": (
        _read_pattern,
        "lists what the store holds. Input: `TAG` or `TAG/BLOB`; `*` matches anything.",
    ),
}


class DataTool:
    """One action. Its input is a line, or a JSON object with the action's parameters by name."""

    parameters: JsonObject | None = None

    def __init__(self, name: str, environment: DataEnvironment, max_chars: int) -> None:
        self._name = name
        _, self._description = _TOOLS[name]
        self._environment = environment
        self._max_chars = max_chars

    def __repr__(self) -> str:
        return f"<DataTool {self._name}>"

    @property
    def name(self) -> str:
        """The action's name."""
        return self._name

    @property
    def description(self) -> str:
        """What it does, and what its input looks like."""
        return self._description

    async def start(self) -> None:
        """Nothing to do: the actors behind it are ready by themselves."""

    async def call(self, text: str) -> ToolResult:
        """Take the step. Raises what the data plane fails with."""
        result = await self._environment.step(action_of(self._name, text.strip()))
        seen = result.observation
        if isinstance(seen.data, IngestReport) and not seen.data.complete:
            raise NotStored(seen.text)
        if isinstance(seen.data, ActionError):
            output = f"Error: {seen.data.reason}"[: self._max_chars]
            return ToolResult(output=output, ok=False, failure="error", reward=result.reward)
        return ToolResult(output=render(seen, self._max_chars), ok=True, reward=result.reward)

    async def aclose(self) -> None:
        """Nothing to let go of."""


def action_of(name: str, text: str) -> Action:
    """The action that a line of input asks for; one of an unknown name has no parameters."""
    if text.startswith("{"):
        try:
            return Action(name=name, params=json.loads(text))
        except (ValueError, RecursionError, ValidationError):
            pass  # not JSON after all, or not flat: read as a line it is refused with the reason
    return _TOOLS[name][0](name, text) if name in _TOOLS else Action(name=name)


class DataToolSpec(NamedTuple):
    """A tool as a model is told of it, where nothing is called."""

    name: str
    description: str
    parameters: JsonObject | None = None


DATA_TOOL_SPECS: Final = tuple(DataToolSpec(name, description) for name, (_, description) in _TOOLS.items())


@asynccontextmanager
async def data_tools(
    data: DataAccess, settings: DataToolSettings, message: SolveTask
) -> AsyncIterator[tuple[Tool, ...]]:
    """The tools of one attempt, over an environment of its own in the attempt's space."""
    environment = DataEnvironment(
        data.ingestor,
        data.retriever,
        data.rewards,
        timeout_s=settings.timeout_s,
        space=Namespace(message.space, data.library),
    )
    await environment.reset(TaskSpec(instruction=message.task.description))
    try:
        yield tuple(DataTool(name, environment, settings.max_chars) for name in _TOOLS)
    finally:
        await environment.close()


def toolkit(settings: StudentSettings, searcher: Ref | None = None) -> ToolProvider:
    """The kit, not started yet. Raises SettingsError where a tool that is on lacks what it needs."""
    return ToolProvider(settings, searcher, partial(local_embedder, settings.toolbox.memory.embedder))
