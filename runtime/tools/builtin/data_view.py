"""The data_view tool: what is in a table of the workspace."""

import base64
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

import anyio.to_thread

from ....configs.tools import DataViewSettings
from ...sandbox.command_policy import CommandPolicy
from ...sandbox.workspace import Workspace
from ..base import Tool, ToolError, sanitize_output
from ..definition import EpisodeContext, EpisodeTool, ToolHost
from ..function_tool import tool
from ..jobs.runner import ForkedJobRunner
from ..parameters import OtherNames
from .files import as_observation

_MODULE: Final = "agentfactory.runtime.tools.jobs.table_view"
_PARALLEL: Final = 2
"""Tables that are read at the same time."""
_KINDS: Final = {
    ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip


class DataView:
    """Looks at tables of one workspace; the reading is done in processes that can be killed."""

    def __init__(
        self, settings: DataViewSettings, workspace: Workspace, rules: CommandPolicy, jobs: ForkedJobRunner
    ) -> None:
        """`jobs` runs `_MODULE`; whoever made it starts and closes it."""
        self._settings = settings
        self._workspace = workspace
        self._rules = rules
        self._jobs = jobs

    def __repr__(self) -> str:
        return f"<DataView {self._workspace!r}>"

    @tool
    async def data_view(
        self,
        path: str,
        rows: Annotated[int, OtherNames("n_rows")] = 5,
        operation: Literal["head", "tail", "shape", "columns"] = "head",
    ) -> str:
        """Shows a table of the workspace: how large it is, its columns with their types, its first rows.

        Args:
            path: a file of CSV, JSON, JSON lines, Parquet or Arrow
            rows: how many rows to show
            operation: tail shows the last rows; shape and columns show no rows
        """
        kind = _KINDS.get(PurePosixPath(path).suffix.lower())
        if kind is None:
            raise ToolError(f"{path} is no table by its name; known are {', '.join(_KINDS)}")
        data = await anyio.to_thread.run_sync(self._read, path)
        encoded = base64.b64encode(data).decode()
        wanted = max(0, min(rows, self._settings.max_rows))
        shown = await self._jobs.do([encoded, kind, wanted, operation], self._settings.timeout_s)
        return sanitize_output(shown, self._settings.max_chars)

    def _read(self, path: str) -> bytes:
        self._rules.check_path(path)
        with as_observation(path):
            return self._workspace.read_bytes(path, max_bytes=self._settings.max_file_mb * 2**20)


def _prepare(host: ToolHost) -> Callable[[EpisodeContext], Tool]:
    settings, policy = host.settings.toolbox.data_view, host.policy
    jobs = host.share(
        ForkedJobRunner(_MODULE, settings.memory_mb, _PARALLEL, host.settings.sandbox.allow_weak)
    )
    return lambda episode: DataView(settings, episode.workspace, policy, jobs).data_view


DATA_VIEW: Final = EpisodeTool(
    spec=lambda _: DataView.data_view,
    prepare=_prepare,
    limits=lambda settings: (settings.toolbox.data_view,),
)
