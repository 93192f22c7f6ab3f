"""The promote_skill tool: a function of a file becomes a tool, now and from now on."""

from collections.abc import Callable
from typing import Final

import anyio.to_thread

from ...sandbox.python import PythonSandbox
from ...sandbox.workspace import Workspace
from ..base import Tool, ToolError
from ..definition import EpisodeContext, EpisodeTool, ToolHost
from ..function_tool import tool
from ..skills import MAX_CHARACTERS, Skill, SkillStore, SkillTool, read_skill
from ..tool_formats import prompt_line
from .files import as_observation


class SkillPromotion:
    """Makes skills of files of one workspace."""

    def __init__(
        self,
        workspace: Workspace,
        shelf: SkillStore,
        sandbox: PythonSandbox,
        put: Callable[[SkillTool], None],
    ) -> None:
        """`put` takes a new tool in; it raises ToolError where another tool has the name."""
        self._workspace = workspace
        self._shelf = shelf
        self._sandbox = sandbox
        self._put = put

    def __repr__(self) -> str:
        return f"<SkillPromotion {self._workspace!r}>"

    @tool
    async def promote_skill(self, file_path: str, function_name: str, tool_name: str) -> str:
        """Makes a tool of a Python function that has type hints and a docstring, for now and for later tasks.

        Args:
            file_path: the file in the workspace
            function_name: the function in it
            tool_name: what the tool is to be called
        """
        source = await anyio.to_thread.run_sync(self._read, file_path)
        skill = read_skill(source, function_name, tool_name)
        await self._try(skill)
        made = SkillTool(skill, self._sandbox)
        self._put(made)
        with as_observation(f"skills/{skill.name}.py"):
            await anyio.to_thread.run_sync(self._shelf.keep, skill)
        return f"it is a tool now: {prompt_line(made)}"

    def _read(self, path: str) -> str:
        with as_observation(path):
            data = self._workspace.read_bytes(path, max_bytes=4 * MAX_CHARACTERS)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise ToolError(f"{path} is no text") from error

    async def _try(self, skill: Skill) -> None:
        """Run the file without a call: what it imports has to be there."""
        result = await self._sandbox.run(f"{skill.source}\n\nNone")
        if not result.ok:
            raise ToolError(f"the file does not run: {result.output.removeprefix('Error: ')}", result.failure)


def _prepare(host: ToolHost) -> Callable[[EpisodeContext], Tool]:
    store, sandbox = host.skills, host.python_sandbox
    return lambda episode: SkillPromotion(episode.workspace, store, sandbox, episode.put_skill).promote_skill


PROMOTE_SKILL: Final = EpisodeTool(
    spec=lambda _: SkillPromotion.promote_skill,
    prepare=_prepare,
    limits=lambda settings: (settings.sandbox,),
)
