"""The tools of one Student: what they share, and the boxes that its episodes work with.

Invariants: what keeps a state that an episode could see (files, a session) belongs to that episode alone and
goes with it; notes and skills are meant to last, and are shared. Nothing is opened before it is needed by a
tool that is on.

In the workspace's folder lie `files/` (of whoever works without an episode: the command line, MCP),
`episodes/`, `skills/` and `notes.sqlite`.
"""

import errno
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import anyio.to_thread
import structlog

from ...configs.errors import SettingsError
from ...configs.roles import StudentSettings
from ...configs.tools import known_tools
from ..ref import Ref
from ..sandbox.workspace import Workspace, remove_tree
from .base import Tool, ToolError
from .definition import EpisodeContext, EpisodeTool, SharedTool, ToolDefinition, ToolHost
from .mcp.client import McpServer
from .registry import definition_of, enabled_tools
from .skills import SkillTool
from .tool_set import ToolSet

if TYPE_CHECKING:
    from .builtin.memory import NoteEmbedder

ToolOfKind = TypeVar("ToolOfKind", bound=Tool)
_MAX_NAME: Final = 80


class ToolProvider:
    """Opens the tools that the settings name."""

    def __init__(
        self,
        settings: StudentSettings,
        searcher: Ref | None = None,
        open_embedder: "Callable[[], NoteEmbedder] | None" = None,
    ) -> None:
        """`searcher` answers Search, for retrieve; `open_embedder` is for memory, and may block.

        Raises SettingsError where a tool that is on lacks what it needs.
        """
        self._names = enabled_tools(settings)
        self._host = ToolHost(
            settings, _workspace_folder(settings.toolbox.workspace), searcher, open_embedder
        )
        self._shared: dict[str, Tool] = {}
        """Those that are the same for all episodes, by name."""
        self._of_episode: dict[str, Callable[[EpisodeContext], Tool]] = {}
        """What opens the others."""
        self._call_others: set[str] = set()
        for name in self._names:
            self._prepare(name, definition_of(name))
        self._servers = tuple(self._host.share(McpServer(server)) for server in settings.toolbox.mcp)
        self._mounted: dict[str, Tool] = {}
        self._skills: dict[str, SkillTool] = {}
        self._problems: list[str] = []
        self._started: ToolSet | None = None

    def _prepare(self, name: str, definition: ToolDefinition) -> None:
        match definition:
            case SharedTool():
                self._shared[name] = definition.open(self._host)
            case EpisodeTool():
                _ = self._host.policy  # a file of rules that is wrong is told at once
                self._of_episode[name] = definition.prepare(self._host)
                if definition.calls_others:
                    self._call_others.add(name)

    def __repr__(self) -> str:
        return f"<ToolProvider {', '.join(self._names)}, {len(self._skills)} skills>"

    async def start(self) -> None:
        """Start what the tools share, mount the servers' tools, load the skills."""
        started = ToolSet((), self._host.resources)
        await started.start()
        self._started = started
        for server in self._servers:
            self._problems += server.problems
            for tool in server.tools:
                self._place(tool, self._mounted, f"the tool {tool.name} of an MCP server")
        if "promote_skill" in self._names:
            skills = await anyio.to_thread.run_sync(self._host.skills.load)
            self._problems += self._host.skills.problems
            for skill in skills:
                made = SkillTool(skill, self._host.python_sandbox)
                self._place(made, self._skills, f"the skill {skill.name}")

    @property
    def problems(self) -> tuple[str, ...]:
        """What of MCP servers and skills is not there, and why: a sentence each."""
        return tuple(self._problems)

    def _place(self, tool: ToolOfKind, among: dict[str, ToolOfKind], called: str) -> None:
        """Take a tool in, unless another one has its name."""
        if tool.name in (*known_tools(), *self._mounted, *self._skills):
            problem = f"{called} is left out: another tool has this name"
            self._problems.append(problem)
            structlog.get_logger().warning("tool_left_out", tool=tool.name, problem=problem)
        else:
            among[tool.name] = tool

    @asynccontextmanager
    async def box(self, episode: str = "") -> AsyncIterator[ToolSet]:
        """The tools of one episode, ready for use; without an episode, those that work in `files/`."""
        if not self._of_episode:
            yield ToolSet((*self._shared.values(), *self._added()))
            return
        root = self._host.root
        folder = root / "episodes" / _folder_name(episode) if episode else root / "files"
        workspace = await anyio.to_thread.run_sync(_open_workspace, folder)
        stack = AsyncExitStack()
        try:
            yield self._open(workspace, stack)
        finally:
            with anyio.CancelScope(shield=True):
                await stack.aclose()
                if episode:
                    await anyio.to_thread.run_sync(remove_tree, workspace.root)

    def _open(self, workspace: Workspace, stack: AsyncExitStack) -> ToolSet:
        """The tools of one episode, in the settings' order; then the mounted ones, then the skills."""
        tools, others = ToolSet(()), ToolSet(())
        episode = EpisodeContext(workspace, others, self._taking_skills(tools, others), stack)
        for name in self._names:
            tool = self._shared[name] if name in self._shared else self._of_episode[name](episode)
            tools.add(tool)
            if name not in self._call_others:
                others.add(tool)
        for tool in self._added():
            tools.add(tool)
            others.add(tool)
        return tools

    async def aclose(self) -> None:
        """Close all that was started."""
        if self._started is not None:
            await self._started.aclose()

    def _added(self) -> tuple[Tool, ...]:
        return (*self._mounted.values(), *self._skills.values())

    def _taking_skills(self, *tool_sets: ToolSet) -> Callable[[SkillTool], None]:
        def put(skill: SkillTool) -> None:
            there = tool_sets[0].find(skill.name)
            if skill.name in known_tools() or (there is not None and not isinstance(there, SkillTool)):
                raise ToolError(f"there is a tool {skill.name} already; choose another name")
            self._skills[skill.name] = skill
            for tools in tool_sets:
                tools.put(skill)

        return put


def _workspace_folder(name: str) -> Path:
    """The folder of a workspace. Raises SettingsError where the working directory is gone."""
    try:
        return Path(name).resolve()
    except OSError as error:
        raise SettingsError(
            f"the workspace {name} lies in a working directory that is gone; go to one that is there, or set "
            "student.toolbox.workspace to a folder from the root"
        ) from error


def _open_workspace(folder: Path) -> Workspace:
    """Raises SettingsError where it cannot be made or read."""
    try:
        workspace = Workspace(folder)
        if not os.access(folder, os.R_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise SettingsError(
            f"the workspace {folder} cannot be used ({error.strerror or error}); set "
            "student.toolbox.workspace to a folder of your own"
        ) from error
    return workspace


def _folder_name(episode: str) -> str:
    """A name for a folder, another one for each attempt: a lease may be given out twice."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', episode)[:_MAX_NAME]}-{secrets.token_hex(4)}"
