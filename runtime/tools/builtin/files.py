"""The file tools: list, read and write, in one workspace and nowhere else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final

from ....configs.printable import printable
from ....configs.tools import FileToolSettings
from ...sandbox.command_policy import CommandPolicy
from ...sandbox.workspace import Workspace, WorkspaceEntry
from ..base import Tool, ToolError, sanitize_output
from ..definition import EpisodeContext, EpisodeTool, ToolHost
from ..function_tool import FunctionTool, tool
from ..parameters import OtherNames

_KB = 1024


class FileTools:
    """The files of one workspace."""

    def __init__(self, settings: FileToolSettings, workspace: Workspace, rules: CommandPolicy) -> None:
        self._settings = settings
        self._workspace = workspace
        self._rules = rules

    def __repr__(self) -> str:
        return f"<FileTools {self._workspace!r}>"

    @tool
    def list_files(self, folder: Annotated[str, OtherNames("path")] = ".", recursive: bool = False) -> str:
        """Lists the files of the workspace with their sizes in bytes; folders end in a slash.

        Args:
            folder: where to look
            recursive: look into folders, too
        """
        limit = self._settings.max_listed
        with as_observation(folder):
            entries = self._workspace.list(folder or ".", recursive=recursive, limit=limit + 1)
        lines = [_line(entry) for entry in entries[:limit]]
        if len(entries) > limit:
            lines.append(f"and more than these {limit}")
        return sanitize_output("\n".join(lines) or "(nothing)", self._settings.max_chars)

    @tool
    def read_file(self, path: str, first_line: int = 1, lines: int = 0) -> str:
        """Reads a text file of the workspace.

        Args:
            path: the file
            first_line: where to begin
            lines: how many lines, 0 for all
        """
        self._rules.check_path(path)
        with as_observation(path):
            data = self._workspace.read_bytes(path, max_bytes=self._settings.max_file_kb * _KB)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise ToolError(f"{path} is no text: {len(data)} bytes that are not UTF-8") from error
        wanted = text.splitlines(keepends=True)[max(0, first_line - 1) :]
        shown = "".join(wanted[:lines] if lines > 0 else wanted)
        return sanitize_output(shown, self._settings.max_chars) or "(empty)"

    @tool
    def write_file(self, path: str, content: str) -> str:
        """Writes a text file of the workspace, whole; what was there before is gone.

        Args:
            path: the file; folders on the way are made
            content: all of its text
        """
        self._rules.check_path(path)
        data = content.encode("utf-8", "replace")
        if len(data) > self._settings.max_file_kb * _KB:
            raise ToolError(
                f"{path} would have {len(data)} bytes, at most {self._settings.max_file_kb} KB are written"
            )
        with as_observation(path):
            self._workspace.write_bytes(path, data)
        return f"wrote {len(data)} bytes to {path}"


@contextmanager
def as_observation(path: str) -> Iterator[None]:
    """What the system says of a path is for the model to read."""
    try:
        yield
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # surrogates and the like
        raise ToolError(f"{path!r} is not a path: {error}") from error


def _line(entry: WorkspaceEntry) -> str:
    path = printable(entry.path)
    return f"{path}/" if entry.is_folder else f"{path} {entry.size}"


def _definition(choose: Callable[[type[FileTools] | FileTools], FunctionTool]) -> EpisodeTool:
    def prepare(host: ToolHost) -> Callable[[EpisodeContext], Tool]:
        settings, policy = host.settings.toolbox.files, host.policy
        return lambda episode: choose(FileTools(settings, episode.workspace, policy))

    return EpisodeTool(
        spec=lambda _: choose(FileTools),
        prepare=prepare,
        limits=lambda settings: (settings.toolbox.files,),
    )


LIST_FILES: Final = _definition(lambda files: files.list_files)
READ_FILE: Final = _definition(lambda files: files.read_file)
WRITE_FILE: Final = _definition(lambda files: files.write_file)
