"""The pyexe tool: Python that remembers, in one sandboxed session of a workspace."""

from collections.abc import Callable
from typing import Final

from ....messages.turns import ToolResult
from ...sandbox.errors import SandboxError
from ...sandbox.session import PythonSession
from ..base import Tool, ToolError, sanitize_output
from ..definition import EpisodeContext, EpisodeTool, ToolHost
from ..function_tool import tool
from .python import NO_OUTPUT, read_code


class PyExe:
    """Runs cells in one session; the session begins with the first of them."""

    def __init__(self, session: PythonSession, max_chars: int) -> None:
        """`session` is closed by whoever opened it."""
        self._session = session
        self._max_chars = max_chars

    def __repr__(self) -> str:
        return f"<PyExe {self._session!r}>"

    @tool
    async def pyexe(self, code: str) -> ToolResult:
        """Runs Python in the workspace and answers with what it printed; names last from call to call.

        Args:
            code: statements; the value of a last expression is shown
        """
        try:
            result = await self._session.run(read_code(code))
        except SandboxError as error:
            raise ToolError(str(error), "crashed") from error
        output = sanitize_output(result.output, self._max_chars)
        return result.model_copy(update={"output": output or NO_OUTPUT})


def _prepare(host: ToolHost) -> Callable[[EpisodeContext], Tool]:
    programs = host.command_sandbox.settings  # of the host's, so that what cannot be confined is said at once
    max_chars = host.settings.toolbox.files.max_chars

    def open_tool(episode: EpisodeContext) -> Tool:
        session = episode.closing(PythonSession(programs, episode.workspace.root))
        return PyExe(session, max_chars).pyexe

    return open_tool


PYEXE: Final = EpisodeTool(
    spec=lambda _: PyExe.pyexe,
    prepare=_prepare,
    limits=lambda settings: (settings.toolbox.sandbox,),
    prints=True,
)
