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
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import anyio.to_thread
import structlog

from ...configs.errors import SettingsError
from ...configs.roles import StudentSettings
from ...configs.sandbox import CommandSandboxSettings, SafetyRuleSettings
from ...configs.tools import TOOL_NAMES
from ..ref import Ref
from ..sandbox.command_policy import CommandPolicy
from ..sandbox.commands import CommandSandbox
from ..sandbox.session import PythonSession
from ..sandbox.workspace import Workspace, remove_tree
from .base import Tool, ToolError, ToolResource
from .builtin.data_view import MODULE as DATA_VIEW_MODULE
from .builtin.data_view import DataView
from .builtin.fetch import FetchTool
from .builtin.files import FileTools
from .builtin.math import MathTool
from .builtin.memory import MemoryTool, NoteEmbedder
from .builtin.promote_skill import SkillPromotion
from .builtin.pyexe import PyExe
from .builtin.python import PythonTool
from .builtin.retrieve import RetrieveTool
from .builtin.shell import Shell
from .builtin.test_runner import TestRunner
from .jobs.runner import ForkedJobRunner
from .mcp.client import McpServer
from .plans.plan_tool import NAME as PLAN
from .plans.plan_tool import PlanTool
from .skills import SkillStore, SkillTool
from .tool_set import ToolSet

OF_AN_EPISODE: Final = frozenset({
    "list_files", "read_file", "write_file", "data_view", "shell", "test_runner", "pyexe", "promote_skill",
    "plan",
})  # fmt: skip
"""Tools that work with files, or keep a state."""
ToolOfKind = TypeVar("ToolOfKind", bound=Tool)
_DATA_VIEW_JOBS: Final = 2
_MAX_NAME: Final = 80


class ToolProvider:
    """Opens the tools that the settings name."""

    def __init__(
        self,
        settings: StudentSettings,
        searcher: Ref | None = None,
        open_embedder: Callable[[], NoteEmbedder] | None = None,
    ) -> None:
        """`searcher` answers Search, for retrieve; `open_embedder` is for memory, and may block.

        Raises SettingsError where a tool that is on lacks what it needs.
        """
        self._settings = settings
        self._names = tool_names(settings)
        box = settings.toolbox
        self._root = _workspace_folder(box.workspace)
        self._episodic = not OF_AN_EPISODE.isdisjoint(self._names)
        self._rules = _rules(box.rules) if self._episodic else CommandPolicy(SafetyRuleSettings())
        self._programs = _program_settings(settings)
        self._sandbox = CommandSandbox(self._programs)
        self._python = PythonTool(settings.sandbox)
        weak = settings.sandbox.allow_weak
        self._tables = ForkedJobRunner(DATA_VIEW_MODULE, box.data_view.memory_mb, _DATA_VIEW_JOBS, weak)
        self._shelf = SkillStore(self._root / "skills")
        self._servers = tuple(McpServer(server) for server in box.mcp)
        self._tools: dict[str, Tool] = {}
        """Those that are the same for all episodes, by name."""
        self._mounted: dict[str, Tool] = {}
        self._parts: list[ToolResource] = []
        self._problems: list[str] = []
        self._open_shared(searcher, open_embedder)
        self._skills: dict[str, SkillTool] = {}
        self._started: ToolSet | None = None

    def __repr__(self) -> str:
        return f"<ToolProvider {', '.join(self._names)}, {len(self._skills)} skills>"

    async def start(self) -> None:
        """Start what the tools share, mount the servers' tools, load the skills."""
        started = ToolSet((), self._parts)
        await started.start()
        self._started = started
        for server in self._servers:
            self._problems += server.problems
            for tool in server.tools:
                self._place(tool, self._mounted, f"the tool {tool.name} of an MCP server")
        if "promote_skill" in self._names:
            skills = await anyio.to_thread.run_sync(self._shelf.load)
            self._problems += self._shelf.problems
            for skill in skills:
                self._place(SkillTool(skill, self._python.sandbox), self._skills, f"the skill {skill.name}")

    @property
    def problems(self) -> tuple[str, ...]:
        """What of MCP servers and skills is not there, and why: a sentence each."""
        return tuple(self._problems)

    def _place(self, tool: ToolOfKind, among: dict[str, ToolOfKind], called: str) -> None:
        """Take a tool in, unless another one has its name."""
        if tool.name in (*TOOL_NAMES, *self._mounted, *self._skills):
            problem = f"{called} is left out: another tool has this name"
            self._problems.append(problem)
            structlog.get_logger().warning("tool_left_out", tool=tool.name, problem=problem)
        else:
            among[tool.name] = tool

    @asynccontextmanager
    async def box(self, episode: str = "") -> AsyncIterator[ToolSet]:
        """The tools of one episode, ready for use; without an episode, those that work in `files/`."""
        if not self._episodic:
            yield ToolSet(self._chosen(self._tools))
            return
        folder = self._root / "episodes" / _folder_name(episode) if episode else self._root / "files"
        workspace = await anyio.to_thread.run_sync(_open_workspace, folder)
        session = PythonSession(self._programs, workspace.root)
        try:
            box = ToolSet(())
            inner = ToolSet(())  # for plans: without plan itself
            own = self._open_own(workspace, session, inner)
            own["promote_skill"] = self._promotion(workspace, (box, inner)).promote_skill
            for tool in self._chosen({**self._tools, **own}):
                box.add(tool)
                if tool.name != PLAN:
                    inner.add(tool)
            yield box
        finally:
            with anyio.CancelScope(shield=True):
                await session.aclose()
                if episode:
                    await anyio.to_thread.run_sync(remove_tree, workspace.root)

    async def aclose(self) -> None:
        """Close all that was started."""
        if self._started is not None:
            await self._started.aclose()

    def _chosen(self, tools: Mapping[str, Tool]) -> tuple[Tool, ...]:
        """The tools that are on, in the settings' order; then the mounted ones, then the skills."""
        named = [tools[name] for name in self._names]
        return (*named, *self._mounted.values(), *self._skills.values())

    def _open_shared(self, searcher: Ref | None, open_embedder: Callable[[], NoteEmbedder] | None) -> None:
        settings, box = self._settings, self._settings.toolbox
        if {"python", "promote_skill"} & set(self._names):
            self._parts.append(self._python)
        if "python" in self._names:
            self._tools["python"] = self._python
        if {"shell", "test_runner", "pyexe"} & set(self._names):
            self._parts.append(self._sandbox)  # for pyexe, too: what cannot be confined here is said at once
        if "data_view" in self._names:
            self._parts.append(self._tables)
        if "math" in self._names:
            math = MathTool(box.math, settings.sandbox.allow_weak)
            self._parts.append(math)
            self._tools["math"] = math.math
        if "fetch" in self._names:
            fetch = FetchTool(box.fetch, settings.sandbox.allow_weak)
            self._parts.append(fetch)
            self._tools["fetch"] = fetch.fetch
        if "memory" in self._names:
            self._open_memory(open_embedder)
        if "retrieve" in self._names:
            if searcher is None:
                raise SettingsError(
                    "student.retrieve.tags names texts to search, but there is no searcher to ask"
                )
            self._tools["retrieve"] = RetrieveTool(settings.retrieve, searcher)
        self._parts += self._servers

    def _open_memory(self, open_embedder: Callable[[], NoteEmbedder] | None) -> None:
        if open_embedder is None:
            raise SettingsError("student.tools names memory, but there is no embedder for it")
        memory = MemoryTool(self._settings.toolbox.memory, self._root / "notes.sqlite", open_embedder)
        self._parts.append(memory)
        self._tools["memory"] = memory.memory

    def _open_own(self, workspace: Workspace, session: PythonSession, inner: ToolSet) -> dict[str, Tool]:
        """The tools of one episode; `inner` is the box whose tools plans may call."""
        box = self._settings.toolbox
        files = FileTools(box.files, workspace, self._rules)
        return {
            "list_files": files.list_files,
            "read_file": files.read_file,
            "write_file": files.write_file,
            "data_view": DataView(box.data_view, workspace, self._rules, self._tables).data_view,
            "shell": Shell(box.shell, workspace, self._sandbox, self._rules).shell,
            "test_runner": TestRunner(box.test_runner, workspace, self._sandbox, self._rules).test_runner,
            "pyexe": PyExe(session, box.files.max_chars).pyexe,
            PLAN: PlanTool(inner, box.plan, workspace),
        }

    def _promotion(self, workspace: Workspace, boxes: Sequence[ToolSet]) -> SkillPromotion:
        def put(skill: SkillTool) -> None:
            there = boxes[0].find(skill.name)
            if skill.name in TOOL_NAMES or (there is not None and not isinstance(there, SkillTool)):
                raise ToolError(f"there is a tool {skill.name} already; choose another name")
            self._skills[skill.name] = skill
            for box in boxes:
                box.put(skill)

        return SkillPromotion(workspace, self._shelf, self._python.sandbox, put)


def tool_names(settings: StudentSettings) -> tuple[str, ...]:
    """The tools that are on: those named, and retrieve where it has texts. Raises SettingsError."""
    names = settings.tools
    if "retrieve" in names and not settings.retrieve.tags:
        raise SettingsError("student.tools names retrieve, but student.retrieve.tags names nothing to search")
    if settings.retrieve.tags and "retrieve" not in names:
        return (*names, "retrieve")
    return names


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


def _rules(file: str) -> CommandPolicy:
    return CommandPolicy.load(Path(file) if file else None)


def _program_settings(settings: StudentSettings) -> CommandSandboxSettings:
    """The sandbox's limits, with the longest time that a tool may take."""
    box = settings.toolbox
    longest = max(box.sandbox.timeout_s, box.shell.timeout_s, box.test_runner.timeout_s)
    return box.sandbox.model_copy(update={"timeout_s": longest})


def _folder_name(episode: str) -> str:
    """A name for a folder, another one for each attempt: a lease may be given out twice."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', episode)[:_MAX_NAME]}-{secrets.token_hex(4)}"
