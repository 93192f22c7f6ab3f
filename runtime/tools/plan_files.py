"""The files of a workspace as they were before a plan, to put them back."""

import errno
from typing import Final, NamedTuple, Self

from ..sandbox.errors import Refused
from ..sandbox.workspace import Workspace

MAX_FILES: Final = 10_000


class Snapshot(NamedTuple):
    """Contents by path, and the folders. Empty folders, links and modes are not kept."""

    files: dict[str, bytes]
    folders: frozenset[str]

    @classmethod
    def take(cls, workspace: Workspace, max_bytes: int) -> Self:
        """Read all files. Raises Refused where they are too many or too large, or OSError. Blocking."""
        files: dict[str, bytes] = {}
        folders: set[str] = set()
        room = max_bytes
        entries = workspace.list(recursive=True, limit=MAX_FILES + 1)
        if len(entries) > MAX_FILES:
            raise Refused(f"the workspace has more than {MAX_FILES} files: too many to roll back")
        for entry in entries:
            if entry.is_folder:
                folders.add(entry.path)
                continue
            room -= entry.size
            if room < 0:
                raise Refused(f"the workspace has more than {max_bytes} bytes: too much to roll back")
            files[entry.path] = workspace.read_bytes(entry.path)
        return cls(files, frozenset(folders))

    def put_back(self, workspace: Workspace) -> tuple[str, ...]:
        """Make all files as they were; the paths that were not. Raises Refused or OSError. Blocking."""
        changed: list[str] = []
        entries = workspace.list(recursive=True, limit=10 * MAX_FILES)
        there = {entry.path for entry in entries if not entry.is_folder}
        for path in sorted(there - self.files.keys()):
            workspace.remove(path)
            changed.append(path)
        new_folders = {entry.path for entry in entries if entry.is_folder} - self.folders
        for path in sorted(new_folders, reverse=True):  # the innermost first
            try:
                workspace.remove(path)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:  # it holds links, which are left alone
                    raise
        for path, content in self.files.items():
            if path not in there or workspace.read_bytes(path) != content:
                workspace.write_bytes(path, content)
                changed.append(path)
        return tuple(sorted(changed))
