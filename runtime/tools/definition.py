"""Tool definitions: how a tool is described, opened and limited, and what it is given to work with.

A tool is one module with a definition, which a line of `configs.tools.BUILTIN_TOOLS` or an entry point names.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ...configs.base_config import BaseConfig
from ...configs.roles import StudentSettings
from ...messages.chat import JsonObject
from ..ref import Ref
from ..sandbox.command_policy import CommandPolicy
from ..sandbox.commands import CommandSandbox
from ..sandbox.python import PythonSandbox
from ..sandbox.workspace import Workspace
from .base import Tool, ToolResource, ToolSpec
from .skills import SkillStore, SkillTool
from .tool_set import ToolSet

if TYPE_CHECKING:
    from .builtin.memory import NoteEmbedder

ResourceOfKind = TypeVar("ResourceOfKind", bound=ToolResource)


class ToolHost:
    """All that the tools of one Student share.

    What is asked of it before it is started is started with it, in the order of asking, and closed after all
    tools. A tool asks when it is opened or prepared, so nothing is opened that no tool needs.
    """

    def __init__(
        self,
        settings: StudentSettings,
        root: Path,
        searcher: Ref | None,
        open_embedder: "Callable[[], NoteEmbedder] | None",
    ) -> None:
        """`root` is the workspace's folder; `searcher` answers Search; `open_embedder` may block."""
        self.settings = settings
        self.root = root
        self.searcher = searcher
        self.open_embedder = open_embedder
        self.resources: list[ToolResource] = []

    def share(self, resource: ResourceOfKind) -> ResourceOfKind:
        """Have a resource started with the tools, and closed after them."""
        self.resources.append(resource)
        return resource

    @cached_property
    def python_sandbox(self) -> PythonSandbox:
        """Where Python calls run, each anew."""
        return self.share(PythonSandbox(self.settings.sandbox))

    @cached_property
    def command_sandbox(self) -> CommandSandbox:
        """Where programs run. Its limits hold the longest time that a tool may take."""
        box = self.settings.toolbox
        longest = max(box.sandbox.timeout_s, box.shell.timeout_s, box.test_runner.timeout_s)
        return self.share(CommandSandbox(box.sandbox.model_copy(update={"timeout_s": longest})))

    @cached_property
    def policy(self) -> CommandPolicy:
        """Rules for commands and paths. Raises SettingsError where a file of one's own is wrong."""
        file = self.settings.toolbox.rules
        return CommandPolicy.load(Path(file) if file else None)

    @cached_property
    def skills(self) -> SkillStore:
        """The skills of all episodes."""
        return SkillStore(self.root / "skills")


@dataclass(frozen=True)
class EpisodeContext:
    """The context that the tools of one episode work in, and what goes with it."""

    workspace: Workspace
    callable_by_plans: ToolSet
    """All its tools but those that call others."""
    put_skill: Callable[[SkillTool], None]
    """Takes a new tool in; raises ToolError where another tool has the name."""
    _stack: AsyncExitStack

    def closing(self, resource: ResourceOfKind) -> ResourceOfKind:
        """Have a resource closed when the episode ends."""
        self._stack.push_async_callback(resource.aclose)
        return resource


def _no_limits(_: StudentSettings) -> tuple[BaseConfig, ...]:
    return ()


def _always(_: StudentSettings) -> bool:
    return True


class PlainToolSpec(NamedTuple):
    """A spec where there is no tool to ask yet."""

    name: str
    description: str
    parameters: JsonObject | None


@dataclass(frozen=True, kw_only=True)
class ToolDefinition:
    """One tool, before it is opened."""

    spec: Callable[[StudentSettings], ToolSpec]
    """Name, description and parameters, with nothing opened."""
    limits: Callable[[StudentSettings], tuple[BaseConfig, ...]] = _no_limits
    """The sections of the settings whose numbers hold it back."""
    usable: Callable[[StudentSettings], bool] = _always
    """Whether the settings give it what it needs."""
    prints: bool = False
    """Its observation is what a program printed."""


@dataclass(frozen=True, kw_only=True)
class SharedTool(ToolDefinition):
    """A tool without a state that an episode could see: one for all of them."""

    open: Callable[[ToolHost], Tool]
    """Raises SettingsError where it lacks what it needs."""


@dataclass(frozen=True, kw_only=True)
class EpisodeTool(ToolDefinition):
    """A tool that works with files, or keeps a state: one for each episode."""

    prepare: Callable[[ToolHost], Callable[[EpisodeContext], Tool]]
    """Asks the host for what is shared, once; the result opens the tool of an episode."""
    calls_others: bool = False
